"""PPO's update in one trace: minibatches of an epoch, and the gradient step of each.

Sources: Schulman et al. 2017; RL-DARTS appendix A.1, Algorithm 2; Raileanu et al. 2020 (DrAC:
augmented images, if they are asked for).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rldarts_tf.agents.augmentation import Augmentation
from rldarts_tf.agents.gradients import NORMS
from rldarts_tf.agents.ppo.agent import SharedEncoderPPOClipAgent
from rldarts_tf.agents.ppo.augmentation import INVARIANCE, with_invariance
from rldarts_tf.agents.ppo.distillation import with_distillation
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.ppo.terms import Term
from rldarts_tf.devices import Strategy, splitting
from rldarts_tf.teaching.distillation import TERMS, Distillation

LOSSES = ("loss", "policy_loss", "value_loss", "entropy", "clip_fraction", *NORMS)
"""Metrics of an update."""

_HOST = "/cpu:0"


def on_host(experience: Any) -> Any:
    """Numpy arrays -> tensors on the CPU, where a GPU would be the default.

    A rollout is large and is used in minibatches, which TensorFlow gathers, being uint8, on a CPU
    only: from a GPU it would come back once a minibatch.
    """
    with tf.device(_HOST):
        return tf.nest.map_structure(tf.constant, experience)


class Learner:
    """One update of PPO, traced as a whole: advantages, then the minibatches of every epoch.

    Args:
      agent: the agent.
      settings: the numbers.
      generator: the source of the minibatches' order and of augmentation; its state is part of a
        checkpoint.
      distillation: whose weights the terms have; None: there is no teacher.
      strategy: of the devices that share a gradient step; None: there is one.
    """

    def __init__(
        self,
        agent: SharedEncoderPPOClipAgent,
        settings: PPOSettings,
        generator: tf.random.Generator,
        distillation: Distillation | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        self._agent = agent
        self._strategy = strategy
        self._settings = settings
        self._generator = generator
        self._distillation = distillation
        self._augmentation = Augmentation.needed_by(settings, lambda: generator)
        self._names = (
            *LOSSES,
            *(() if self._augmentation is None else INVARIANCE),
            *(() if distillation is None else TERMS),
        )
        # Compiled alone: XLA has no kernel for the random order of the minibatches.
        self._step = (
            tf.function(self._gradient_step, autograph=False, jit_compile=True)
            if settings.jit_compile
            else self._gradient_step
        )

    # Without AutoGraph, which would translate TF-Agents and Keras too, tracing takes half as long.
    @tf.function(autograph=False)
    def update(
        self, experience: trajectory.Trajectory, lesson: dict[str, tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """Makes one update.

        Args:
          experience: [B, T + 1, ...] as the `Collector` gives it; of the last step only the value
            is used. At least one step is a transition.
          lesson: what the teacher says of the first T steps, [B, T, ...]; its values are in
            normalized rewards. None without a teacher.

        Returns:
          Means over the gradient steps, float32 scalars: `loss`, `policy_loss`, `value_loss`,
          `entropy` (of the policy, in nats), `clip_fraction` and the norms of the gradients of θ
          and of α, before they are clipped; and `skipped`, the number of gradient steps that were
          not made because something was not finite. The means are without those. With an
          augmentation also G_π and G_V, `INVARIANCE`, and with a teacher the terms of distillation,
          `TERMS`. Where the loss is scaled also `overflowed`: how many of the skipped ones only had
          too large a scale.
        """
        settings = self._settings
        processed = self._agent.preprocess_sequence(experience)
        seeds = tf.unstack(self._generator.make_seeds(settings.num_epochs), axis=1)
        # No GPU has kernels for a random order and for gathering uint8; see `on_host`.
        with tf.device(_HOST):
            # Sequences of one step are TF-Agents' form for shuffled transitions.
            transitions = tf.nest.map_structure(
                lambda x: tf.reshape(x[:, :-1], [settings.batch_size, 1, *x.shape[2:]]), processed
            )
            taught = tf.nest.map_structure(
                lambda x: tf.reshape(x, [settings.batch_size, 1, *x.shape[2:]]), lesson or {}
            )
            # Where a step only began an episode, others take its place.
            begun = tf.equal(transitions.next_step_type[:, 0], ts.StepType.FIRST)
            indices = tf.cast(tf.where(~begun)[:, 0], tf.int32)
            places = tf.range(settings.batch_size) % tf.size(indices)
            orders = [
                tf.gather(tf.random.experimental.stateless_shuffle(indices, seed=seed), places)
                for seed in seeds
            ]
            minibatches = tf.reshape(tf.concat(orders, axis=0), [-1, settings.minibatch_size])
        steps = settings.gradient_steps
        scaled = self._agent.optimizer.loss_scale is not None
        counts = ("skipped", "overflowed") if scaled else ("skipped",)

        def gradient_step(i: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.device(_HOST):
                rows = minibatches[i]
                minibatch, of_teacher = tf.nest.map_structure(
                    lambda x: tf.gather(x, rows), (transitions, taught)
                )
            # Not within a step that may be compiled: XLA has other random numbers.
            f = self._augmentation
            augmented = None if f is None else f(minibatch.observation)
            with splitting(self._strategy):
                return i + 1, totals + self._step(minibatch, of_teacher, augmented)

        _, totals = tf.while_loop(
            lambda i, _: i < steps,
            gradient_step,
            (tf.constant(0), tf.zeros([len(self._names) + len(counts)])),
            parallel_iterations=1,
        )
        totals = tf.unstack(totals)
        counted = dict(zip(counts, totals[len(self._names) :]))
        # If all were skipped there is no mean.
        made = steps - counted["skipped"]
        losses = {name: total / made for name, total in zip(self._names, totals)}
        if not self._agent.optimizer.architecture:
            del losses[NORMS[1]]
        return {**losses, **counted}

    def _gradient_step(
        self,
        minibatch: trajectory.Trajectory,
        lesson: dict[str, tf.Tensor],
        augmented: tf.Tensor | None,
    ) -> tf.Tensor:
        """Trains on one minibatch [M, 1, ...].

        Args:
          minibatch: the minibatch.
          lesson: what the teacher says of it; empty without one.
          augmented: f of its observations, of the same shape; None without an augmentation.

        Returns:
          The `LOSSES`, other terms that there are, and 1 if it was skipped, else 0; where the loss
          is scaled another 1 if it was skipped for an overflow, else 0. Of what was skipped there
          are no losses.
        """
        loss_scale = self._agent.optimizer.loss_scale
        scale = None if loss_scale is None else tf.identity(loss_scale.value)
        with self._agent.adding(*self._terms(lesson, augmented)):
            info = self._agent.train(minibatch)
        coefficient = self._settings.entropy_coefficient
        entropy = -info.extra.entropy_regularization_loss / coefficient if coefficient else 0.0
        losses = tf.stack(
            [
                info.loss,
                info.extra.policy_gradient_loss,
                info.extra.value_estimation_loss,
                entropy,
                tf.cast(info.extra.clip_fraction, tf.float32),
                *(self._agent.optimizer.norms[name] for name in NORMS),
                *(getattr(info.extra, name) for name in self._names[len(LOSSES) :]),
                *([0.0] if scale is None else [0.0, 0.0]),
            ]
        )
        first = len(self._names)
        skipped = tf.one_hot(first, losses.shape[0])
        if scale is not None:
            # The scale falls where a gradient overflowed. A loss that is not finite is no matter
            # of its gradient's scale.
            fell = tf.logical_and(loss_scale.value < scale, tf.math.is_finite(info.loss))
            losses = tf.where(fell, skipped + tf.one_hot(first + 1, losses.shape[0]), losses)
        if not self._settings.skip_nonfinite_updates:
            return losses
        return tf.where(tf.reduce_all(tf.math.is_finite(losses)), losses, skipped)

    def _terms(self, lesson: dict[str, tf.Tensor], augmented: tf.Tensor | None) -> Iterator[Term]:
        """What the loss has beside PPO's own."""
        if augmented is not None:
            weight = self._settings.invariance_weight
            yield functools.partial(with_invariance, augmented=augmented, weight=weight)
        taught = self._distillation
        if taught is not None:
            weights = (taught.actor_weight, taught.critic_weight)
            yield functools.partial(with_distillation, lesson=lesson, term_weights=weights)
