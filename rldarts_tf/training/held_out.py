"""Interface of experience that training never sees, and of the loss on it."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.envs.suite import Environments

_WARM_UP = 256
"""Steps before the first experience, so that it is not of beginnings of episodes alone."""
_LEAST_STEPS = 16
"""Steps of each environment in one collection."""


class HeldOut(Closing):
    """Environments of its own, in which the present policy acts as in training.

    Nothing of the training changes: no environment, generator or statistic.

    Args:
      environment: fresh environments, which are this object's from now on.
      batch_size: M, transitions of a minibatch.

    Attributes:
      environment_steps: those of all experience so far.
    """

    def __init__(self, environment: Environments, batch_size: int) -> None:
        self.environment_steps = 0
        self._environment, self._batch_size = environment, batch_size
        needed = -(-batch_size // environment.batch_size)
        self._num_steps = max(needed, _LEAST_STEPS)
        self._rng = np.random.default_rng(0)

    def collect(self, groups: int) -> Any:
        """Collects experience.

        Args:
          groups: G, so many minibatches.

        Returns:
          A nest of tensors [G, M, ...], in random order, of the same structure always: one trace of
          `losses` takes all.

        Raises:
          RunError: the policy's output is not finite.
        """
        if not self.environment_steps:
            for _ in range(-(-_WARM_UP // self._num_steps)):
                self._transitions()
        needed = groups * self._batch_size
        parts: list[Any] = []
        found = 0
        while found < needed:
            parts.append(self._transitions())
            found += len(tf.nest.flatten(parts[-1])[0])
        order = self._rng.permutation(found)[:needed]
        return tf.nest.map_structure(
            lambda *arrays: tf.constant(
                np.concatenate(arrays)[order].reshape(
                    groups, self._batch_size, *arrays[0].shape[1:]
                )
            ),
            *parts,
        )

    @abc.abstractmethod
    def losses(self, experience: Any) -> tf.Tensor:
        """The loss of the agent, with its networks as they are now, on each group: float32 [G].

        It may be traced and differentiated by α and θ, also twice.
        """

    @abc.abstractmethod
    def _transitions(self) -> Any:
        """Makes `_num_steps` steps of each environment, and counts them.

        Returns:
          A nest of numpy arrays [number, ...] of those that are transitions.
        """

    @override
    def close(self) -> None:
        self._environment.close()
