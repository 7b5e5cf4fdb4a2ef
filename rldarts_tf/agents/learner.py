"""What the learners that draw from replay have in common."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import acme
import reverb
import tensorflow as tf
from acme.tf import savers
from acme.utils import counting, loggers

from rldarts_tf.errors import RunError


class ReplayLearner(acme.Learner, savers.TFSaveable):
    """An `acme.Learner` that makes one gradient step of each sample.

    Args:
      learning_rate: the name of the setting, for the message when training diverges.
      counter: counts learner steps.
      logger: is given the numbers of each step.
    """

    def __init__(
        self,
        learning_rate: str,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
    ) -> None:
        self._learning_rate = learning_rate
        self._samples: Iterator[reverb.ReplaySample] = iter(())
        self._client: reverb.Client | None = None
        self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="learner_steps")
        self._counter = counter or counting.Counter()
        self._logger = logger or loggers.NoOpLogger()
        self._walltime: float | None = None

    @abc.abstractmethod
    def _learn(self, sample: reverb.ReplaySample) -> Mapping[str, Any]:
        """One gradient step; returns its numbers."""

    @property
    @abc.abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""

    @property
    def num_steps(self) -> int:
        """Learner steps so far."""
        return int(self._num_steps)

    def connect(
        self, samples: Iterator[reverb.ReplaySample], client: reverb.Client | None = None
    ) -> None:
        """Says what to learn from; apart from the constructor, for replay may start later.

        Args:
          samples: as `Replay.sample` gives them.
          client: of the replay, for new priorities; None if they are of no use.
        """
        self._samples, self._client = samples, client

    def disconnect(self) -> None:
        """Lets go of the samples, so that replay can end."""
        self.connect(iter(()))

    def step(self) -> None:
        """One gradient step.

        Raises:
          RunError: a loss or a gradient is not finite.
        """
        metrics = {name: float(v) for name, v in self._learn(next(self._samples)).items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise RunError(
                    f"the {name} is {value}: training has diverged; lower {self._learning_rate} "
                    "(the last checkpoint is intact)"
                )
        now = time.monotonic()
        elapsed, self._walltime = now - (self._walltime or now), now
        counts = self._counter.increment(steps=1, walltime=elapsed)
        self._logger.write({**metrics, **counts})
