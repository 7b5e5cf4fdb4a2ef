"""A trained policy that is asked and never trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

Lesson = dict[str, tf.Tensor]
"""What a teacher says of states; the names depend on the algorithm, see its `make_teacher`."""


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen policy.

    Attributes:
      checkpoint: the path of its weights.
      checksum: SHA-256 of them.
      network: (observations [B, ...], actions [B, ...] or None) -> its `Lesson`, [B, ...]; only
        SAC's critics read the actions.
      reward_scales: by game, what rewards were divided by where it was trained: its values times
        that are in rewards of the game.
      training_return: its mean return over the last training episodes; None if it is not known.
    """

    checkpoint: Path
    checksum: str
    network: Callable[..., Lesson]
    reward_scales: Mapping[str, float]
    training_return: float | None = None

    def scales(self, games: Sequence[str]) -> np.ndarray:
        """`reward_scales` of each environment's game, float64 [B]."""
        return np.array([self.reward_scales[game] for game in games])

    @property
    def name(self) -> str:
        """The checkpoint in words, such as 'runs/teacher/baseline, step 300,000'."""
        stage = self.checkpoint.parent.parent
        return f"{stage}, step {int(self.checkpoint.name.rpartition('-')[2]):,}"


def in_chunks(
    ask: Callable[[np.ndarray], dict[str, np.ndarray]], observations: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """What is said of observations [B, ...], asked for so many at a time.

    Chunks have one size, whatever is left over: a trace takes them all.
    """
    parts = []
    for start in range(0, len(observations), size):
        chunk = observations[start : start + size]
        padding = np.repeat(chunk[-1:], size - len(chunk), axis=0)
        said = ask(np.concatenate([chunk, padding]))
        parts.append({name: values[: len(chunk)] for name, values in said.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
