"""`discretize`: a genotype from a search: from its α, or from what its policy loses without ops."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.commands import inputs
from rldarts_tf.discretization import discretize, unmoved_warning
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.settings import PerturbationSettings
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.runs import summary
from rldarts_tf.runs.alpha_checkpoint import read_logits
from rldarts_tf.runs.alpha_history import AlphaHistory, read_alphas
from rldarts_tf.runs.configs import read_search_space, read_settings
from rldarts_tf.runs.paths import RunPaths, StagePaths, find_checkpoint
from rldarts_tf.search_space import SearchSpace, get_search_space

HELP = "make a genotype from a search, at any step and with any K"
EXAMPLES = """
python -m rldarts_tf discretize runs/starpilot
python -m rldarts_tf discretize runs/starpilot --step=1000000 --top_k=1 --output=early.json
python -m rldarts_tf discretize runs/starpilot/search/checkpoints/ckpt-2000000
python -m rldarts_tf discretize alphas.npz --space=micro
python -m rldarts_tf discretize runs/breakout --by=return --episodes=128
python -m rldarts_tf discretize runs/breakout --by=return --fine_tune_steps=8192 --max_skips=2
"""

BY = {
    "p": "the op weights (Algorithm 4)",
    "return": "the return without each op, in the same episodes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "source", help="a run directory, an alphas.npz, a checkpoint, or a folder of checkpoints"
    )
    parser.add_argument(
        "--step",
        type=int,
        help="environment steps: the last record up to this step (default: the last of all); in a "
        "folder of checkpoints, the one of exactly this step",
    )
    parser.add_argument("--top_k", type=inputs.positive, help="K (default: that of the space)")
    parser.add_argument("--space", help="search space (default: that of the run's config.gin)")
    parser.add_argument(
        "--output_mode", help="recorded in the genotype (default: that of config.gin, or concat)"
    )
    parser.add_argument("--output", metavar="FILE", help="where the genotype goes (default: shown)")
    parser.add_argument(
        "--by",
        choices=BY,
        default="p",
        help=f"what an op is judged by: {'; '.join(f'{name}: {BY[name]}' for name in BY)} "
        "(default: p)",
    )
    group = parser.add_argument_group(
        "by return", "source is a run directory; every decision is saved and not made again"
    )
    for field in dataclasses.fields(PerturbationSettings):
        if field.name != "top_k":
            _add_setting(group, field)
    group.add_argument(
        "--work_dir",
        metavar="DIR",
        help="where decisions.json, decisions.csv and genotype.json go (default: discretize/BY in "
        "the run directory)",
    )


def _add_setting(group: argparse._ArgumentGroup, field: dataclasses.Field[Any]) -> None:
    """Declares a setting of a discretization by perturbation."""
    text = f"{field.metadata['doc']} (default: {field.default})"
    if str(field.type) == "bool":
        group.add_argument(f"--{field.name}", action="store_true", help=text)
    else:
        group.add_argument(f"--{field.name}", type=int, default=field.default, help=text)


def run(arguments: argparse.Namespace) -> None:
    """Prints the genotype, or writes it and prints where."""
    if arguments.by == "p":
        _by_alpha(arguments)
    else:
        _by_perturbation(arguments)


def _by_perturbation(arguments: argparse.Namespace) -> None:
    from rldarts_tf.perturbation import session

    names = [field.name for field in dataclasses.fields(PerturbationSettings)]
    settings = PerturbationSettings(**{name: getattr(arguments, name) for name in names})
    run_paths = RunPaths(Path(arguments.source))
    work_dir = arguments.work_dir or run_paths.discretization_dir(arguments.by)
    found = session.discretize_run(
        run_paths.root, arguments.by, settings, Path(work_dir), arguments.step
    )
    _give(found.genotype, arguments)
    summary.print_table(str(work_dir), session.rows(found), sys.stderr)


def _by_alpha(arguments: argparse.Namespace) -> None:
    source = Path(arguments.source)
    logits, told = _logits(source, arguments.step)
    config = _config_of(source)
    settings = {} if config is None else read_settings(config, "search").get("EncoderSettings", {})
    of_run = None if arguments.space or config is None else read_search_space(config)
    space = _space(arguments.space or of_run, logits, told.get("history"))
    genotype = discretize(
        logits,
        space,
        top_k=arguments.top_k,
        output_mode=arguments.output_mode or settings.get("output_mode", "concat"),
    )
    _give(genotype, arguments)
    print(f"from {told['from']}", file=sys.stderr)
    warning = unmoved_warning(logits)
    if warning is not None:
        print(warning, file=sys.stderr)


def _give(genotype: Genotype, arguments: argparse.Namespace) -> None:
    """Prints the genotype, or writes it and prints where."""
    if arguments.output is None:
        print(genotype_text(genotype))
        print(genotype.to_json())
    else:
        try:
            genotype.save(arguments.output)
        except OSError as error:
            raise ConfigError(
                f"output: {arguments.output!r} cannot be written: {error.strerror}"
            ) from None
        print(arguments.output)


def _logits(source: Path, step: int | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads z = β α, per cell type [E, |O|], and where it is from."""
    if source.is_dir():
        for stage in (RunPaths(source).stage("search"), StagePaths(source)):
            if stage.alphas_path.exists():
                return _of_log(stage.alphas_path, step)
        return _of_checkpoint(find_checkpoint(source, step))
    if source.suffix == ".npz":
        return _of_log(source, step)
    if step is not None:
        raise ConfigError("step: a checkpoint is of one step; give its folder or an alphas.npz")
    return _of_checkpoint(source)


def _of_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return read_logits(path), {"from": f"checkpoint {path}"}


def _of_log(path: Path, step: int | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    history = read_alphas(path)
    try:
        found, logits = history.at(step)
    except RunError as error:
        raise RunError(f"{str(path)!r}: {error}") from None
    return logits, {"from": f"{path}, step {found:,}", "history": history}


def _config_of(source: Path) -> Path | None:
    """Returns the config.gin of the run that the source is part of."""
    for folder in (source, *source.absolute().parents)[:5]:
        config = RunPaths(folder).config_path
        if config.is_file():
            return config
    return None


def _space(
    name: SearchSpace | str | None, logits: Mapping[str, np.ndarray], history: AlphaHistory | None
) -> SearchSpace:
    """Returns the space that α belongs to, after checking that it fits."""
    if name is None:
        raise ConfigError("space: no config.gin of the run names it; give --space=NAME")
    space = name if isinstance(name, SearchSpace) else get_search_space(name)
    if history is not None:
        try:
            history.check(space)
        except RunError as error:
            raise ConfigError(f"space: {error}") from None
    # A checkpoint names no ops.
    elif set(logits) != set(space.cell_types):
        raise ConfigError(
            f"space: {space.name!r} has {', '.join(space.cell_types)} cells, "
            f"α is of {', '.join(logits)}"
        )
    return space
