"""Checkpoints of a stage: TensorFlow objects and plain arrays in one atomic file set."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import reason
from rldarts_tf.runs import manifest
from rldarts_tf.runs.npz import npz_bytes, parse_npz
from rldarts_tf.runs.paths import CHECKPOINT_PREFIX, StagePaths, checkpoint_steps


class ArrayState(tf.train.experimental.PythonState):
    """Lets a checkpoint hold the numpy arrays of an object that is not TensorFlow's.

    The arrays are kept as .npz bytes inside the checkpoint, so that they and the variables are
    always of the same moment. No pickle is written or read.

    Args:
      get: returns the arrays by name.
      set: takes what `get` returned.
    """

    def __init__(
        self,
        get: Callable[[], Mapping[str, np.ndarray]],
        set: Callable[[Mapping[str, np.ndarray]], None],
    ) -> None:
        self._get = get
        self._set = set

    def serialize(self) -> bytes:
        """Returns the arrays as .npz bytes; called by TensorFlow."""
        return npz_bytes(self._get())

    def deserialize(self, string_value: bytes) -> None:
        """Restores the arrays; called by TensorFlow.

        Raises:
          ValueError: the bytes are not those of arrays.
        """
        self._set(parse_npz(string_value))


class Checkpoints:
    """Saves and restores the state of a stage.

    The manifest `ckpt-<step>.json` is written when everything else is on disk, and the checksums
    in it are verified before a checkpoint is used. One that is damaged or incomplete is quarantined
    in `damaged-<step>/`, and the run resumes from the one before it.

    Args:
      stage_dir: the stage, whose `checkpoints_dir` holds them.
      objects: TensorFlow trackables and `ArrayState`s to save, by name.
      max_to_keep: number of checkpoints to keep; older ones are deleted.

    Raises:
      RunError: the directory cannot be written, or there are checkpoints and all are damaged.
    """

    def __init__(
        self, stage_dir: StagePaths, objects: Mapping[str, Any], max_to_keep: int = 2
    ) -> None:
        self._checkpoint = tf.train.Checkpoint(**objects)
        self._folder = stage_dir.checkpoints_dir
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._quarantine_damaged()
            self._manager = tf.train.CheckpointManager(
                self._checkpoint, str(self._folder), max_to_keep=max_to_keep
            )
        except OSError as error:
            line = f"{str(stage_dir.path)!r} cannot be written: {reason(error)}"
            raise RunError(line) from None

    def restore(self) -> bool:
        """Restores the newest checkpoint; False if there is none.

        Raises:
          RunError: it does not fit the objects or cannot be read.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return False
        status = None
        try:
            status = self._checkpoint.restore(path)
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            if status is not None:
                status.expect_partial()  # else TensorFlow warns, some time after the error
            line = one_line(error)
            raise RunError(f"checkpoint {path!r} cannot be restored: {line}") from error
        return True

    def save(self, step: int, files: Iterable[Path] = ()) -> set[Path]:
        """Saves a checkpoint, and deletes those that are too old.

        Args:
          step: environment steps so far.
          files: further files inside of `checkpoints_dir` that belong to it.

        Returns:
          The further files of all checkpoints that are kept.

        Raises:
          RunError: it cannot be written.
        """
        try:
            self._manager.save(checkpoint_number=step)
            own = self._folder.glob(f"{CHECKPOINT_PREFIX}{step}.*")
            manifest.write(
                self._manifest(step),
                self._folder,
                {*files, *(path for path in own if path != self._manifest(step))},
            )
            kept = checkpoint_steps(self._manager.checkpoints)
            for old in checkpoint_steps(self._folder.glob(f"{CHECKPOINT_PREFIX}*.json")) - kept:
                self._manifest(old).unlink()
            return set().union(*map(self._other_files, kept))
        except (OSError, RunError, tf.errors.OpError) as error:
            line = one_line(error)
            raise RunError(f"checkpoint of step {step} cannot be written: {line}") from error

    def _other_files(self, step: int) -> set[Path]:
        """Returns the further files of a checkpoint; none if its manifest cannot be read."""
        with contextlib.suppress(RunError):
            names = manifest.read(self._manifest(step))
            return {self._folder / name for name in names if not name.startswith(CHECKPOINT_PREFIX)}
        return set()

    def _manifest(self, step: int) -> Path:
        return self._folder / f"{CHECKPOINT_PREFIX}{step}.json"

    def _quarantine_damaged(self) -> None:
        """Moves away every checkpoint newer than the newest sound one, and lists the others."""
        for unfinished in self._folder.glob(f"{CHECKPOINT_PREFIX}*_temp"):
            shutil.rmtree(unfinished)
        found = checkpoint_steps(self._folder.glob(f"{CHECKPOINT_PREFIX}*.*"))
        steps = sorted(found | self._listed())
        problems: dict[int, str] = {}
        damaged = False
        while steps:
            step = steps[-1]
            try:
                manifest.check(self._manifest(step), self._folder)
                break
            except RunError as error:
                # One that was never completed is no loss: no run has resumed from it.
                complete = self._manifest(step).exists() or step not in found
                damaged = damaged or complete
                problems[step] = str(error) if complete else "it was not completed"
                steps.pop()
        if damaged and not steps:
            raise RunError(
                f"no checkpoint in {str(self._folder)!r} can be used: "
                + "; ".join(f"step {step}: {problem}" for step, problem in problems.items())
                + "; put sound files in their place, or delete the stage's folder to begin it anew"
            )
        instead = f"resuming from step {steps[-1]:,}" if steps else "beginning anew"
        for step in [step for step in problems if step in found]:
            print(
                f"checkpoint of step {step:,} is quarantined in {str(self._quarantine(step))!r}: "
                f"{problems[step]}; {instead}",
                file=sys.stderr,
                flush=True,
            )
        self._list(steps)

    def _list(self, steps: Sequence[int]) -> None:
        """Makes TensorFlow's own list name exactly the checkpoints of these steps."""
        paths = [str(self._folder / f"{CHECKPOINT_PREFIX}{step}") for step in steps]
        if paths:
            # The list may name what has gone or be damaged itself. TensorFlow keeps for ever what
            # it takes for older than `last_preserved`: without times of our own, a clock that has
            # been set back would do that.
            tf.compat.v1.train.update_checkpoint_state(
                str(self._folder),
                paths[-1],
                all_model_checkpoint_paths=paths,
                all_model_checkpoint_timestamps=[float(i + 1) for i in range(len(paths))],
                last_preserved_timestamp=0.0,
            )
        else:
            (self._folder / "checkpoint").unlink(missing_ok=True)

    def _listed(self) -> set[int]:
        """Returns the steps in TensorFlow's list of checkpoints; none if it cannot be read."""
        with contextlib.suppress(ValueError):
            state = tf.train.get_checkpoint_state(str(self._folder))
            return checkpoint_steps(state.all_model_checkpoint_paths) if state else set()
        return set()

    def _quarantine(self, step: int) -> Path:
        """Moves the files of a checkpoint into a folder of their own, which it returns."""
        number, quarantine = 1, self._folder / f"damaged-{step}"
        while quarantine.exists():
            number += 1
            quarantine = self._folder / f"damaged-{step}-{number}"
        names = [path.name for path in self._folder.glob(f"{CHECKPOINT_PREFIX}{step}.*")]
        with contextlib.suppress(RunError):
            names += [n for n in manifest.read(self._manifest(step)) if n not in names]
        for name in names:
            if (self._folder / name).is_file():
                (quarantine / name).parent.mkdir(parents=True, exist_ok=True)
                (self._folder / name).rename(quarantine / name)
        return quarantine
