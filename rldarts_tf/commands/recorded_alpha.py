"""β α of a search, wherever it is recorded, with the space that it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.runs.alpha_checkpoint import read_logits
from rldarts_tf.runs.alpha_history import AlphaHistory, read_alphas
from rldarts_tf.runs.configs import read_search_space, read_settings
from rldarts_tf.runs.paths import RunPaths, StagePaths, complete_steps, find_checkpoint
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import get_search_space
from rldarts_tf.space import Space


class RecordedAlpha(NamedTuple):
    """What a search has left of α."""

    logits: Mapping[str, np.ndarray]
    """z = β α, per cell type [E, |O|]."""
    space: Space
    output_mode: str
    """That of the run's settings, or "concat"."""
    origin: str
    """Words for where it is from."""
    search: SearchSettings
    """The run's method; the default where no config.gin of a run tells it."""


def read_recorded(source: Path, step: int | None, space: str | None) -> RecordedAlpha:
    """Reads α.

    Args:
      source: a run directory, an alphas.npz, a checkpoint, or a folder of checkpoints.
      step: environment steps; None: the last, or what a search that was stopped early has kept.
      space: name of the search space; None: that of the run's config.gin.

    Raises:
      RunError: there is none, or not of that step.
      ConfigError: the space is not known, or α is of another.
    """
    logits, told = _logits(source, _kept_step(source) if step is None else step)
    config = _config_of(source)
    settings = {} if config is None else read_settings(config, "search")
    mode = settings.get("EncoderSettings", {}).get("output_mode", "concat")
    of_run = None if space or config is None else read_search_space(config)
    found = _space(space or of_run, logits, told.get("history"))
    fields = {field.name for field in dataclasses.fields(SearchSettings)}
    method = settings.get("SearchSettings", {})
    search = SearchSettings(**{name: method[name] for name in fields & set(method)})
    if "history" not in told and not search.reads_logits:
        raise ConfigError(
            f"source: {told['from']}: α alone does not tell the cell of a search with "
            f"SearchSettings.relaxation = {search.relaxation!r} and edge_normalization = "
            f"{search.edge_normalization}: give the run directory, or its alphas.npz"
        )
    return RecordedAlpha(logits, found, mode, told["from"], search)


def _logits(source: Path, step: int | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads z = β α, per cell type [E, |O|], and where it is from."""
    if source.is_dir():
        for stage in (RunPaths(source).stage("search"), StagePaths(source)):
            if stage.alphas_path.exists():
                return _of_log(stage.alphas_path, step)
        if not complete_steps(source):
            search = RunPaths(source).stage("search")
            others = complete_steps(search.checkpoints_dir)
            where = f"; its checkpoints are in {str(search.checkpoints_dir)!r}" if others else ""
            raise RunError(f"{str(source)!r} has no search/{search.alphas_path.name}{where}")
        return _of_checkpoint(find_checkpoint(source, step))
    if source.suffix == ".npz":
        return _of_log(source, step)
    if step is not None:
        raise ConfigError("step: a checkpoint is of one step; give its folder or an alphas.npz")
    return _of_checkpoint(source)


def _kept_step(source: Path) -> int | None:
    path = RunPaths(source).summary_path
    if not path.is_file():
        return None
    return read_summary(path)["stages"].get("search", {}).get("kept_step")


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
    name: Space | str | None, logits: Mapping[str, np.ndarray], history: AlphaHistory | None
) -> Space:
    """Returns the space that α belongs to, after checking that it fits."""
    if name is None:
        raise ConfigError("space: no config.gin of the run names it; give --space=NAME")
    space = name if isinstance(name, Space) else get_search_space(name)
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
