"""Layout of a run directory: the name of every file and folder, and of the stages.

Paths are plain values, for readers of a run too: to make them, nothing is read, created or locked.
`RunDirectory` adds the lock for the process that writes.

    config.gin, genotype.json, summary.json, cells/, ...    see `RunPaths`
    search/, evaluate/, baseline/                           see `StagePaths`
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

from rldarts_tf.errors import RunError

TRAINED_STAGES = ("search", "evaluate", "baseline")
"""Stages that train and so have a folder, in the order in which they are shown: a supernet, a
discrete network, a hand-designed encoder."""

CHECKPOINT_PREFIX = "ckpt-"
"""Prefix of a checkpoint's name; its step follows."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclasses.dataclass(frozen=True)
class StagePaths:
    """Paths of one stage (`search`, `evaluate`, `baseline`, ...) inside a run directory.

    Attributes:
      path: the stage's folder.
    """

    path: Path

    @property
    def metrics_path(self) -> Path:
        """The table of scalars over time, metrics.csv."""
        return self.path / "metrics.csv"

    @property
    def tensorboard_dir(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints_dir(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def replay_dir(self) -> Path:
        """The folder of the replay buffer's contents at the last checkpoint."""
        return self.checkpoints_dir / "replay"

    @property
    def alphas_path(self) -> Path:
        """β α over time, alphas.npz."""
        return self.path / "alphas.npz"

    @property
    def contributions_path(self) -> Path:
        """What ops contribute over time, where a search records it, contributions.npz."""
        return self.path / "contributions.npz"

    @property
    def genotypes_path(self) -> Path:
        """The distinct genotypes in order of appearance, genotypes.jsonl."""
        return self.path / "genotypes.jsonl"

    def newest_step(self) -> int | None:
        """Environment steps of the newest checkpoint; 0 without one; None for no such folder."""
        if not self.path.exists():
            return None
        return max(complete_steps(self.checkpoints_dir), default=0)

    @property
    def op_weights_path(self) -> Path:
        """The picture of the op weights over time, op_weights.png."""
        return self.path / "op_weights.png"


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Paths of a run directory.

    Attributes:
      root: the directory.
    """

    root: Path

    @property
    def config_path(self) -> Path:
        """The complete configuration of the run, config.gin."""
        return self.root / "config.gin"

    @property
    def changes_path(self) -> Path:
        """The settings that were changed on the way, changes.jsonl."""
        return self.root / "changes.jsonl"

    @property
    def genotype_path(self) -> Path:
        """The final cell, genotype.json."""
        return self.root / "genotype.json"

    @property
    def summary_path(self) -> Path:
        """Results and versions, summary.json."""
        return self.root / "summary.json"

    @property
    def cells_dir(self) -> Path:
        """The folder of drawings of the final cells."""
        return self.root / "cells"

    @property
    def returns_path(self) -> Path:
        """The picture of the return curves of all stages, returns.png."""
        return self.root / "returns.png"

    @property
    def report_path(self) -> Path:
        """The default file of `report`, report.html."""
        return self.root / "report.html"

    def video_path(self, stage: str, file_format: str = "mp4") -> Path:
        """The default file of `watch`: the policy of a stage at play, such as evaluate.mp4."""
        return self.root / f"{stage}.{file_format}"

    def discretization_dir(self, by: str) -> Path:
        """The folder of what a discretization measures, by its criterion, such as "return"."""
        return self.root / "discretize" / by

    @property
    def lock_path(self) -> Path:
        """The file that the writing process has locked."""
        return self.root / ".lock"

    def stage(self, name: str) -> StagePaths:
        """Returns the paths of stage `name` (lower case letters, digits and `_`).

        Raises:
          RunError: `name` cannot be a stage's folder.
        """
        if not _STAGE_NAME.match(name) or name == self.cells_dir.name:
            raise RunError(f"stage {name!r} cannot name a folder of a run")
        return StagePaths(self.root / name)


def ranked_path(path: Path, place: int) -> Path:
    """Where the cell of a place goes in a ranking whose best one goes to a path.

    "cell.json" is the path itself for place 1, then "cell-02.json", "cell-03.json", ...
    """
    return path if place == 1 else path.with_name(f"{path.stem}-{place:02d}{path.suffix}")


def checkpoint_steps(paths: Iterable[Path | str]) -> set[int]:
    """Returns the steps of checkpoints, from their paths or their files'; ignores other paths."""
    name = re.compile(rf"{CHECKPOINT_PREFIX}(\d+)(\.|\Z)")
    found = (name.match(os.path.basename(path)) for path in paths)
    return {int(match[1]) for match in found if match}


def complete_steps(folder: Path) -> set[int]:
    """Returns the steps of the checkpoints in a folder that are complete: those with an index."""
    return checkpoint_steps(folder.glob(f"{CHECKPOINT_PREFIX}*.index"))


def find_checkpoint(folder: Path, step: int | None = None) -> Path:
    """Finds the newest checkpoint in a folder, or that of a step.

    Raises:
      RunError: there is none; the message lists those there are.
    """
    steps = sorted(complete_steps(folder))
    if not steps:
        raise RunError(f"{str(folder)!r} holds no checkpoint")
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps))
        raise RunError(f"{str(folder)!r} holds no checkpoint of step {step}; it has {known}")
    return folder / f"{CHECKPOINT_PREFIX}{steps[-1] if step is None else step}"
