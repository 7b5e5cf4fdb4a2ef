"""Interface of experience that training never sees, and of the loss on it."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from rldarts_tf.closing import Closing


class HeldOut(Closing):
    """Environments of its own, in which the present policy acts as in training.

    Nothing of the training changes: no environment, generator or statistic.

    Attributes:
      environment_steps: those of all experience so far.
    """

    environment_steps: int = 0

    @abc.abstractmethod
    def collect(self, groups: int) -> Any:
        """Collects experience.

        Args:
          groups: G, so many minibatches.

        Returns:
          A nest of tensors [G, ...], of the same structure always: one trace of `losses` takes all.

        Raises:
          RunError: the policy's output is not finite.
        """

    @abc.abstractmethod
    def losses(self, experience: Any) -> tf.Tensor:
        """The loss of the agent, with its networks as they are now, on each group: float32 [G].

        It may be traced and differentiated by α and θ, also twice.
        """
