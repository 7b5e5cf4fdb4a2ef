"""Checkpoints of a stage: TensorFlow objects and plain arrays in one atomic file set."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.errors import RunError
from rldarts_tf.runs.directory import StageDirectory


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
        """The arrays as .npz bytes; called by TensorFlow.

        Raises:
          TypeError: an array has dtype object, which only pickle could store.
        """
        arrays = dict(self._get())
        for name, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise TypeError(f"array {name!r} has dtype object, which would need pickle")
        buffer = io.BytesIO()
        # Names may contain "/": they are only entries of a zip file.
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """Restores the arrays; called by TensorFlow."""
        with np.load(io.BytesIO(string_value), allow_pickle=False) as arrays:
            self._set({name: arrays[name] for name in arrays.files})


def part_of(state: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The entries `<name>/...` of a state, without that prefix."""
    prefix = f"{name}/"
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


class Checkpoints:
    """Saves and restores the state of a stage.

    Args:
      stage_dir: whose `checkpoints_dir` holds them.
      objects: what is saved, by name: TensorFlow trackables and `ArrayState`s.
      max_to_keep: older ones are deleted.
    """

    def __init__(
        self, stage_dir: StageDirectory, objects: Mapping[str, Any], max_to_keep: int = 2
    ) -> None:
        self._checkpoint = tf.train.Checkpoint(**objects)
        try:
            stage_dir.checkpoints_dir.mkdir(parents=True, exist_ok=True)
            self._manager = tf.train.CheckpointManager(
                self._checkpoint, str(stage_dir.checkpoints_dir), max_to_keep=max_to_keep
            )
        except OSError as error:
            raise RunError(f"{str(stage_dir.path)!r} cannot be written: {error}") from None

    def restore(self) -> bool:
        """Restores the newest checkpoint; False if there is none.

        Raises:
          RunError: it does not fit the objects or cannot be read.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return False
        try:
            self._checkpoint.restore(path).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            line = " ".join(str(error).split())[:200]
            raise RunError(f"checkpoint {path!r} cannot be restored: {line}") from error
        return True

    def save(self, step: int) -> None:
        """Saves a checkpoint of a step.

        Raises:
          RunError: it cannot be written.
        """
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            line = " ".join(str(error).split())[:200]
            raise RunError(f"checkpoint of step {step} cannot be written: {line}") from error
