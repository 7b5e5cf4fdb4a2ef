"""Base class of the learners that sample from replay."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import acme
import reverb
import tensorflow as tf
from acme.tf import savers
from acme.utils import counting, loggers

from rldarts_tf.agents import gradients
from rldarts_tf.agents.loss_scale import LossScale
from rldarts_tf.devices import Strategy, splitting
from rldarts_tf.encoders import with_architecture_loss
from rldarts_tf.search.optimizers import alphas, apply_if, supernets
from rldarts_tf.teaching.distillation import PART, TERMS, Distillation
from rldarts_tf.training.stopwatch import Stopwatch

_OVERFLOWED = "overflowed"

PARTS = ("act", "simulate", "store", "sample", "learn")
"""The parts of acting and learning whose seconds are measured; a learner has the last two."""


class ReplayLearner(acme.Learner, savers.TFSaveable):
    """An `acme.Learner` that makes one gradient step of each sample.

    Args:
      settings: the algorithm's, with `skip_nonfinite_updates`.
      network: what computes the loss that trains the encoder. Where it computes in float16 that
        loss is scaled.
      counter: counts learner steps.
      logger: is given the numbers of each step.
      distillation: the teacher, if there is one.
      strategy: of the devices that share a step; None: there is one.

    Attributes:
      stopwatch: the seconds of sampling and learning; a program adds those of its other `PARTS`.
    """

    def __init__(
        self,
        settings: Any,
        network: tf.Module,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        distillation: Distillation | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        self._settings = settings
        self._strategy = strategy
        self._distillation = distillation
        self._samples: Iterator[reverb.ReplaySample] = iter(())
        self._client: reverb.Client | None = None
        self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="learner_steps")
        self._num_skipped = tf.Variable(0, dtype=tf.int64, trainable=False, name="skipped_updates")
        self._skipped_in_a_row = 0
        self._supernets, self._alphas = supernets(network), alphas(network)
        self.loss_scale = LossScale.needed_by(network)
        self._counter = counter or counting.Counter()
        self._logger = logger or loggers.NoOpLogger()
        self._walltime: float | None = None
        self.stopwatch = Stopwatch(*PARTS, *([PART] if distillation else []))

    @abc.abstractmethod
    def _learn(self, sample: reverb.ReplaySample) -> Mapping[str, Any]:
        """Makes one gradient step; returns its metrics."""

    @abc.abstractmethod
    def loss_of(self, transitions: Any, target: tf.Tensor) -> tf.Tensor:
        """The mean loss of transitions [M, ...] that are not trained on: a float32 scalar.

        Args:
          transitions: the transitions.
          target: what the network is to predict of them, [M, ...].
        """

    @property
    def state(self) -> dict[str, Any]:
        """TensorFlow objects for a checkpoint; a subclass adds networks and optimizers."""
        state = {"num_steps": self._num_steps, "num_skipped": self._num_skipped}
        return state if self.loss_scale is None else {**state, "loss_scale": self.loss_scale}

    @property
    def num_steps(self) -> int:
        """Learner steps so far, including skipped ones."""
        return int(self._num_steps)

    @property
    def num_skipped(self) -> int:
        """Learner steps skipped for non-finite gradients, overflows included."""
        return int(self._num_skipped)

    def connect(
        self, samples: Iterator[reverb.ReplaySample], client: reverb.Client | None = None
    ) -> None:
        """Sets the source of samples; not in the constructor, because replay may start later.

        Args:
          samples: as `Replay.sample` gives them.
          client: of the replay, for new priorities; None if they are of no use.
        """
        self._samples, self._client = samples, client

    def disconnect(self) -> None:
        """Drops the reference to the samples, so that replay can be closed."""
        self.connect(iter(()))

    def step(self) -> None:
        """Samples a batch and makes one gradient step.

        Raises:
          RunError: a loss or a gradient is not finite, and such steps are not skipped, or this is
            the last of a hundred in a row.
        """
        with self.stopwatch.measure("learn"):
            with self.stopwatch.measure("sample"):
                sample = next(self._samples)
            with splitting(self._strategy):
                metrics = {name: float(v) for name, v in self._learn(sample).items()}
        overflowed = bool(metrics.pop(_OVERFLOWED, 0.0))
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if overflowed:  # The norms are not finite; the next step has a smaller scale.
            bad = {}
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if bad else 0
        if overflowed or (bad and self._settings.skip_nonfinite_updates):
            self._num_skipped.assign_add(1)
        if bad and self._skipped_in_a_row == self._most_in_a_row:
            raise gradients.diverged(*next(iter(bad.items())), type(self._settings))
        now = time.monotonic()
        elapsed, self._walltime = now - (self._walltime or now), now
        counts = self._counter.increment(steps=1, walltime=elapsed)
        if not bad and not overflowed:
            self._logger.write({**metrics, **counts})

    @property
    def _most_in_a_row(self) -> int:
        """Consecutive non-finite steps after which the run ends."""
        return 100 if self._settings.skip_nonfinite_updates else 1

    def _lesson(self, transitions: Any) -> dict[str, Any]:
        """What the teacher says of sampled transitions; empty where it is not asked."""
        if self._distillation is None or not self._distillation.active:
            return {}
        with self.stopwatch.measure(PART):
            return self._distillation.lesson(transitions.observation, transitions.action)

    def _weighted(self, terms: Mapping[str, tf.Tensor]) -> tf.Tensor | float:
        """The terms of distillation as they are in one loss; in a trace."""
        if self._distillation is None or not terms:
            return 0.0
        actor, critic = (terms[name] for name in TERMS)
        weights = self._distillation.actor_weight, self._distillation.critic_weight
        return weights[0] * actor + weights[1] * critic

    def _draw(self) -> None:
        """Draws what a search method samples anew, after a step; to be called in a trace."""
        for alpha in self._alphas:
            alpha.draw()

    def _differentiate(
        self, tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[tf.Variable]
    ) -> list[tf.Tensor]:
        """The gradient of a loss that was `_scaled` in the tape, unscaled; in a trace."""
        found = tape.gradient(loss, variables)
        return found if self.loss_scale is None else self.loss_scale.unscaled(found)

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss that trains the encoder and its architecture, with a gradient for float16."""
        loss = with_architecture_loss(loss, *self._supernets)
        return loss if self.loss_scale is None else self.loss_scale.scaled(loss)

    def _apply(
        self,
        finite: tf.Tensor,
        apply: Callable[[], Any],
        loss: tf.Tensor,
        of_loss: Sequence[tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """Applies gradients; to be called in a trace.

        Args:
          finite: whether all of them are; it matters only where others are skipped.
          apply: does it.
          loss: the one that was `_scaled`.
          of_loss: its gradient. Where there is a scale, it is never applied if it is not finite.

        Returns:
          Metrics of the step: the loss scale and whether it overflowed; empty without a scale.
        """
        if self.loss_scale is None:
            if self._settings.skip_nonfinite_updates:
                apply_if(finite, apply)
            else:
                apply()
            return {}
        sound = tf.math.is_finite(tf.linalg.global_norm(of_loss))
        scale = tf.identity(self.loss_scale.value)
        # A loss that is not finite is no matter of its gradient's scale.
        overflowed = tf.logical_and(self.loss_scale.update(sound), tf.math.is_finite(loss))
        apply_if(finite if self._settings.skip_nonfinite_updates else sound, apply)
        return {"loss_scale": scale, _OVERFLOWED: tf.cast(overflowed, tf.float32)}
