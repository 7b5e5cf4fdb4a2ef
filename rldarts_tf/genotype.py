"""A genotype: a discrete architecture as plain data, with strict JSON.

A genotype says everything about a cell that is not a weight: printed, compared and committed, it
lets a network be trained again without the supernet that it came from.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Union

from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.search_space import (
    NONE,
    NORMAL,
    OUTPUT_MODES,
    REDUCTION,
    SearchSpace,
    get_search_space,
)

FORMAT_VERSION = 1
MAX_FILE_BYTES = 1 << 20
"""A genotype file is a few hundred bytes; a larger one is refused before it is parsed."""
_MAX_COUNT = 1000

Edge = tuple[int, str]
CellTopology = tuple[tuple[Edge, ...], ...]
"""Per node j = 1..I, its incoming edges (input node i < j, op name)."""
PathLike = Union[str, "os.PathLike[str]"]


@dataclasses.dataclass(frozen=True)
class Genotype:
    """The discrete cells of a network.

    Attributes:
      search_space: Name of the space the ops come from (registered, see `search_space`).
      cells: Per cell type ("reduction", "normal"), its topology: per node j = 1..I the
        min(j, K) edges (i, op) that it keeps, by ascending input i.
      top_k: K.
      output_mode: How a cell's output follows from its nodes.
      num_normal: N, normal cells in a block.
      num_reduction: R, reduction cells in a block.

    Raises:
      GenotypeError: a field is not valid; the message begins with the field's path.
    """

    search_space: str
    cells: Mapping[str, CellTopology]
    top_k: int = 2
    output_mode: str = "concat"
    num_normal: int = 1
    num_reduction: int = 0

    def __post_init__(self) -> None:
        space = _known_space(self.search_space)
        check_count("top_k", self.top_k, least=1)
        check_count("num_normal", self.num_normal, least=0)
        check_count("num_reduction", self.num_reduction, least=0)
        if self.output_mode not in OUTPUT_MODES:
            raise GenotypeError(
                f"output_mode: unknown mode {_shown(self.output_mode)}; "
                f"one of {', '.join(OUTPUT_MODES)}"
            )
        if not isinstance(self.cells, Mapping):
            raise GenotypeError("cells: must map cell types to their nodes")
        expected = [
            cell_type
            for cell_type, count in (
                (REDUCTION, self.num_reduction),
                (NORMAL, self.num_normal),
            )
            if count
        ]
        if not expected:
            raise GenotypeError("num_normal: and num_reduction are both 0: no cells")
        for cell_type in self.cells:
            if cell_type not in expected:
                raise GenotypeError(
                    f"cells: {_shown(cell_type)} is not a cell type of this genotype "
                    f"({', '.join(expected)})"
                )
        cells = {}
        for cell_type in expected:
            if cell_type not in self.cells:
                raise GenotypeError(f"cells.{cell_type}: missing")
            if cell_type not in space.cell_types:
                raise GenotypeError(
                    f"cells.{cell_type}: search space {space.name!r} has no such cells"
                )
            cells[cell_type] = _check_cell(
                f"cells.{cell_type}", self.cells[cell_type], space.ops(cell_type), self.top_k
            )
        object.__setattr__(self, "cells", cells)

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def num_nodes(self) -> int:
        """I, the number of intermediate nodes."""
        return max(len(cell) for cell in self.cells.values())

    def to_dict(self) -> dict[str, Any]:
        """The content of a genotype file."""
        return {
            "format_version": FORMAT_VERSION,
            "search_space": self.search_space,
            "top_k": self.top_k,
            "output_mode": self.output_mode,
            "num_normal": self.num_normal,
            "num_reduction": self.num_reduction,
            "cells": {
                cell_type: [[[i, op] for i, op in node] for node in cell]
                for cell_type, cell in self.cells.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> Genotype:
        """The inverse of `to_dict`; every field is checked.

        Raises:
          GenotypeError: names the field at fault.
        """
        if not isinstance(data, Mapping):
            raise GenotypeError(f"genotype: must be a JSON object, got {type(data).__name__}")
        version = data.get("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise GenotypeError(f"format_version: must be {FORMAT_VERSION}, got {_shown(version)}")
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in data:
            if key != "format_version" and key not in fields:
                raise GenotypeError(f"{_shown(key)}: unknown field")
        for key in fields:
            if key not in data:
                raise GenotypeError(f"{key}: missing")
        return cls(**{key: data[key] for key in fields})

    def to_json(self) -> str:
        """One line of JSON, the same for equal genotypes."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Reads what `to_json` writes, strictly.

        Raises:
          GenotypeError: not JSON (repeated keys and NaN are not accepted), or a field is wrong.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        except GenotypeError:
            raise
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise GenotypeError(f"genotype: not JSON ({reason})") from None
        return cls.from_dict(data)

    def save(self, path: PathLike) -> None:
        """Writes a genotype file atomically: at any moment it is the old one or the new one."""
        path = os.fspath(path)
        folder = os.path.dirname(path) or "."
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".genotype-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_pretty(self.to_dict()))
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; a genotype is to be shared like any other.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @classmethod
    def load(cls, path: PathLike) -> Genotype:
        """Reads a genotype file.

        Raises:
          GenotypeError: it cannot be read or is not valid; names the file and the field.
        """
        path = os.fspath(path)
        shown = str(path) if str(path).isprintable() else repr(path)
        try:
            with open(path, "rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
            if len(raw) > MAX_FILE_BYTES:
                raise GenotypeError(f"genotype: larger than {MAX_FILE_BYTES} bytes")
            return cls.from_json(raw.decode("utf-8"))
        except OSError as error:
            raise GenotypeError(f"{shown}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise GenotypeError(f"{shown}: genotype: not UTF-8 text") from None
        except GenotypeError as error:
            raise GenotypeError(f"{shown}: {error}") from None
        except ValueError:  # of open: a null character or a lone surrogate
            raise GenotypeError(f"{shown}: cannot be read (not a file name)") from None


def dense_topology(ops: Sequence[str], num_nodes: int) -> CellTopology:
    """The topology of a supernet cell: every edge (i, j), i < j, with every op but `none`.

    `none` contributes nothing to a node, so that it needs no edge; its share of the softmax is
    felt through the weights of the others.
    """
    present = [op for op in ops if op != NONE]
    return tuple(
        tuple((i, op) for i in range(j) for op in present) for j in range(1, num_nodes + 1)
    )


def random_genotype(
    space: SearchSpace, rng: random.Random | None = None, output_mode: str = "concat"
) -> Genotype:
    """A genotype drawn uniformly from the `space.size()` there are (the random-search baseline).

    Args:
      space: the search space; its top_k, num_normal, num_reduction and num_nodes hold.
      rng: source of randomness; a fresh one seeded by the system if None.
      output_mode: see `rldarts_tf.cells`.
    """
    rng = rng or random.Random()
    cells = {}
    for cell_type in space.cell_types:
        nonzero = [op for op in space.ops(cell_type) if op != NONE]
        cells[cell_type] = tuple(
            tuple(
                (i, rng.choice(nonzero))
                for i in sorted(rng.sample(range(node), min(node, space.top_k)))
            )
            for node in range(1, space.num_nodes + 1)
        )
    return Genotype(
        search_space=space.name,
        cells=cells,
        top_k=space.top_k,
        output_mode=output_mode,
        num_normal=space.num_normal,
        num_reduction=space.num_reduction,
    )


def _known_space(name: Any) -> SearchSpace:
    if not isinstance(name, str):
        raise GenotypeError(f"search_space: must be a string, got {_shown(name)}")
    try:
        return get_search_space(name)
    except ConfigError as error:
        reason = str(error).replace(repr(name), _shown(name))
        raise GenotypeError(f"search_space: {reason}") from None


def check_count(field: str, value: Any, least: int) -> None:
    """Raises a GenotypeError unless the value is an integer from `least` to 1000."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_COUNT:
        raise GenotypeError(
            f"{field}: must be an integer from {least} to {_MAX_COUNT}, got {_shown(value)}"
        )


def _check_cell(where: str, cell: Any, ops: tuple[str, ...], top_k: int) -> CellTopology:
    if not isinstance(cell, (list, tuple)) or not 1 <= len(cell) <= _MAX_COUNT:
        raise GenotypeError(f"{where}: must be a list of 1 to {_MAX_COUNT} nodes")
    return tuple(
        _check_node(f"{where}[{j - 1}]", j, node, ops, top_k)
        for j, node in enumerate(cell, start=1)
    )


def _check_node(
    where: str, j: int, node: Any, ops: tuple[str, ...], top_k: int
) -> tuple[Edge, ...]:
    count = min(j, top_k)
    if not isinstance(node, (list, tuple)) or len(node) != count:
        got = len(node) if isinstance(node, (list, tuple)) else _shown(node)
        raise GenotypeError(f"{where}: node {j} must have {count} inputs, got {got}")
    edges: list[Edge] = []
    for position, edge in enumerate(node):
        place = f"{where}[{position}]"
        if not isinstance(edge, (list, tuple)) or len(edge) != 2:
            raise GenotypeError(f"{place}: must be [input, op], got {_shown(edge)}")
        i, op = edge
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < j:
            raise GenotypeError(f"{place}: input of node {j} must be 0 to {j - 1}, got {_shown(i)}")
        if op == NONE:
            raise GenotypeError(f"{place}: a discrete cell cannot use {NONE!r}")
        if not isinstance(op, str) or op not in ops:
            raise GenotypeError(f"{place}: unknown op {_shown(op)}; one of {', '.join(ops[:-1])}")
        if any(i == other for other, _ in edges):
            raise GenotypeError(f"{place}: duplicate input {i} of node {j}")
        edges.append((i, op))
    return tuple(sorted(edges))


def _shown(value: Any) -> str:
    """repr that keeps an error message to one readable line whatever a file holds."""
    try:
        text = repr(value)
    except RecursionError:  # parsed at the very limit of nesting
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise GenotypeError(f"{_shown(key)}: stands twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> Any:
    raise GenotypeError(f"genotype: not JSON ({name} is not a JSON number)")


def _pretty(data: dict[str, Any]) -> str:
    """JSON with one node of a cell per line, so that two genotype files diff by node."""
    lines = ["{"]
    for key, value in data.items():
        if key != "cells":
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)},")
    lines.append('  "cells": {')
    cells = []
    for cell_type, nodes in data["cells"].items():
        body = ",\n".join(f"      {json.dumps(node)}" for node in nodes)
        cells.append(f"    {json.dumps(cell_type)}: [\n{body}\n    ]")
    lines.append(",\n".join(cells))
    lines.append("  }\n}\n")
    return "\n".join(lines)
