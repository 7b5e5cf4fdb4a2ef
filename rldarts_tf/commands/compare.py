"""`compare`: differences of two genotypes, or of two runs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs import summary
from rldarts_tf.runs.configs import canonical_settings, read_config
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.results import read_results

HELP = "show what differs between two genotypes, or between two runs"
EXAMPLES = """
python -m rldarts_tf compare one.json other.json
python -m rldarts_tf compare runs/starpilot-0 runs/starpilot-1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("one", help="a genotype file or a run directory")
    parser.add_argument("other", help="the same kind of thing")


def run(arguments: argparse.Namespace) -> None:
    """Prints the fields and nodes, or settings and results, that differ."""
    paths = [Path(arguments.one), Path(arguments.other)]
    are_runs = [path.is_dir() for path in paths]
    if are_runs[0] != are_runs[1]:
        raise ConfigError(
            f"other: {arguments.one!r} and {arguments.other!r} are a genotype file and a directory"
        )
    if not are_runs[0]:
        one, other = (Genotype.load(path) for path in paths)
        _print("cells", list(genotype_differences(one, other)))
        return
    _print("settings", list(_differences(*map(_settings, paths))))
    _print("results", list(_differences(*map(_results, paths))))
    genotypes = [RunPaths(path).genotype_path for path in paths]
    there = [file.exists() for file in genotypes]
    if all(there):
        one, other = map(Genotype.load, genotypes)
        _print("cells", list(genotype_differences(one, other)))
    elif any(there):
        shown = ["yes" if found else "-" for found in there]
        _print("cells", [(genotypes[0].name, shown[0], shown[1])])


def genotype_differences(one: Genotype, other: Genotype) -> Iterator[tuple[str, str, str]]:
    """Yields (what, in one, in the other) for each field and each node that differs."""
    fields = [_fields(genotype) for genotype in (one, other)]
    for field in dict.fromkeys([*fields[0], *fields[1]]):
        one_has, other_has = (has.get(field, "-") for has in fields)
        if one_has != other_has:
            yield field, str(one_has), str(other_has)
    for cell_type in dict.fromkeys([*one.cells, *other.cells]):
        cells = [genotype.cells.get(cell_type, ()) for genotype in (one, other)]
        for j in range(max(map(len, cells))):
            nodes = [_node(cell[j]) if j < len(cell) else "-" for cell in cells]
            if nodes[0] != nodes[1]:
                yield f"{cell_type} node {j + 1}", nodes[0], nodes[1]


def _fields(genotype: Genotype) -> dict[str, Any]:
    """Returns all fields but the cells; the definition of the space field by field."""
    fields = genotype.to_dict()
    del fields["cells"]
    space = fields.pop("search_space")
    return {**{f"search_space.{name}": value for name, value in space.items()}, **fields}


def _node(edges: tuple[tuple[int, str], ...]) -> str:
    return " + ".join(f"{op}({i if i else 'input'})" for i, op in edges)


def _settings(run: Path) -> Mapping[str, Any]:
    path = RunPaths(run).config_path
    return canonical_settings(read_config(path), repr(str(path)))


def _results(run: Path) -> Mapping[str, Any]:
    return {
        f"{stage} {name}": value
        for stage, result in read_results(RunPaths(run).summary_path).items()
        for name, value in dataclasses.asdict(result).items()
        if value is not None
    }


def _differences(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield name, _shown(one.get(name)), _shown(other.get(name))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _print(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Prints a table with the name of what differs, and both values."""
    if not rows:
        summary.print_table(f"{title}: equal", [])
        return
    shown = [(name, f"{one}  |  {other}") for name, one, other in rows]
    summary.print_table(f"{title}: {len(rows)} differ", shown)
