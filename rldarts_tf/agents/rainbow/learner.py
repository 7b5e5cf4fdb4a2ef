"""A learner step of Rainbow.

Sources: Hessel et al. 2018 (Rainbow); RL-DARTS appendix A.1, Algorithm 3, and F.2; Kostrikov et al.
2020 (DrQ: augmented images, if they are asked for).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import reverb
import sonnet as snt
import tensorflow as tf
from acme import specs, types
from acme.tf import utils as tf2_utils
from acme.tf.networks import DiscreteValuedDistribution
from acme.utils import counting, loggers
from typing_extensions import override

from rldarts_tf import search
from rldarts_tf.agents.augmentation import Augmentation
from rldarts_tf.agents.gradients import NORMS, architecture_variables, norms
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.replay import TABLE
from rldarts_tf.agents.rainbow.losses import (
    categorical_loss,
    double_q_target,
    importance_weights,
    projected,
)
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.devices import Strategy
from rldarts_tf.teaching import losses as teaching
from rldarts_tf.teaching.distillation import TERMS, Distillation
from rldarts_tf.torso import training_options
from rldarts_tf.training.seeds import make_generator

LOSSES = ("loss", "td_error", "q_mean", *NORMS, "importance_mean")
"""Metrics of a learner step."""

# A transition of priority 0 would never be sampled again.
_MIN_PRIORITY = 1e-6


class RainbowLearner(ReplayLearner):
    """`ReplayLearner` of prioritized replay.

    With an augmentation f it learns from f(o_{t-1}) and f(o_t), shifted independently: DrQ
    (Algorithm 1 of Kostrikov et al. 2020) with one f of each, K = M = 1, as on Atari there.

    Args:
      network: the online network, with variables. Where its encoder depends on it (batch
        normalization), it is called with `training=True` in the pass that is differentiated.
      target_network: a copy of it.
      settings: the numbers.
      counter: counts learner steps.
      logger: is given the numbers of each step.
      distillation: the teacher, if there is one. It sees images that are not augmented.
      reward_ratio: returns of the teacher times this are in the student's units of reward.
      strategy: of the devices that share a step; None: there is one.
      seed: of the augmentation.
    """

    def __init__(
        self,
        network: snt.Module,
        target_network: snt.Module,
        settings: RainbowSettings,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        distillation: Distillation | None = None,
        reward_ratio: float = 1.0,
        strategy: Strategy | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(settings, network, counter, logger, distillation, strategy)
        self._reward_ratio = reward_ratio
        self._augmentation = Augmentation.needed_by(
            settings, lambda: make_generator(seed, "learner")
        )
        self._network = network
        self._target_network = target_network
        self._architecture = architecture_variables(network)
        self._optimizer = search.optimizer(
            snt.optimizers.Adam(settings.learning_rate, epsilon=settings.adam_epsilon), network
        )
        # So that a checkpoint restored before the first step finds them.
        self._optimizer._initialize(network.trainable_variables)

    @override
    def _learn(self, sample: reverb.ReplaySample) -> dict[str, tf.Tensor]:
        """Makes one gradient step, updates priorities, and copies the target network when due."""
        metrics, priorities = self._step(sample, self._lesson(sample.data))
        if self._client is not None and np.isfinite(metrics["loss"]):
            # A transition may be in a batch twice; both have the same priority.
            keys = sample.info.key.numpy().tolist()
            self._client.mutate_priorities(TABLE, dict(zip(keys, priorities.numpy().tolist())))
        if self.num_steps % self._settings.target_update_period == 0:
            self._update_target()
        return metrics

    # Without AutoGraph, which would translate Sonnet and Keras too, tracing is faster.
    @tf.function(autograph=False)
    def _step(
        self, sample: reverb.ReplaySample, lesson: dict[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Makes one gradient step; returns (`LOSSES`, new priorities [B]).

        Where a teacher has given a lesson, its terms are in the loss and in the metrics.
        """
        settings, transitions = self._settings, sample.data
        o_tm1 = self._augmented(transitions.observation)
        target = self.target_of(transitions, self._augmented(transitions.next_observation))
        weights = importance_weights(sample.info.probability, settings.importance_exponent)
        variables = self._network.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            z_tm1 = self._network(o_tm1, **training_options(self._network))
            losses, priorities = categorical_loss(z_tm1, transitions.action, target)
            terms = self._terms(lesson, z_tm1)
            loss = self._scaled(tf.reduce_mean(weights * losses) + self._weighted(terms))
        gradients = self._differentiate(tape, loss, variables)
        clipped, norm = gradients, tf.linalg.global_norm(gradients)
        if settings.max_gradient_norm is not None:
            clipped, _ = tf.clip_by_global_norm(gradients, settings.max_gradient_norm, norm)
        applied = self._apply(
            tf.math.is_finite(loss + norm),
            lambda: self._optimizer.apply(clipped, variables),
            loss,
            gradients,
        )
        self._draw()
        self._num_steps.assign_add(1)
        metrics = {
            "loss": loss,
            "td_error": tf.reduce_mean(priorities),
            "q_mean": tf.reduce_mean(tf.gather(z_tm1.mean(), transitions.action, batch_dims=1)),
            **norms(gradients, variables, self._architecture),
            "importance_mean": tf.reduce_mean(weights),
            **terms,
            **applied,
        }
        return metrics, tf.maximum(priorities, _MIN_PRIORITY)

    def target_of(self, transitions: types.Transition, o_t: tf.Tensor | None = None) -> tf.Tensor:
        """m of transitions [B, ...], [B, atoms]; a constant, outside of a tape.

        Args:
          transitions: the transitions.
          o_t: their next observations as they are to be seen; None: as they are.
        """
        o_t = transitions.next_observation if o_t is None else o_t
        r_t = tf.cast(transitions.reward, tf.float32)
        # The adder multiplies by γ^(n-1) and the discounts of the environment.
        d_t = self._settings.discount * tf.cast(transitions.discount, tf.float32)
        return double_q_target(r_t, d_t, self._target_network(o_t), self._network(o_t).mean())

    def loss_of(self, transitions: types.Transition, target: tf.Tensor) -> tf.Tensor:
        """The mean loss of transitions [M, ...] that are not trained on: a float32 scalar.

        Of images that are not augmented, without importance weights, a teacher and a loss scale.

        Args:
          transitions: the transitions.
          target: as `target_of` gives it, [M, atoms].
        """
        z_tm1 = self._network(transitions.observation)
        losses, _ = categorical_loss(z_tm1, transitions.action, target)
        return tf.reduce_mean(losses)

    def _augmented(self, images: tf.Tensor) -> tf.Tensor:
        """f of images; themselves without an augmentation."""
        return images if self._augmentation is None else self._augmentation(images)

    def _terms(
        self, lesson: dict[str, tf.Tensor], z_tm1: DiscreteValuedDistribution
    ) -> dict[str, tf.Tensor]:
        """The terms of distillation, means over the batch; none without a lesson."""
        if self._distillation is None or not lesson:
            return {}
        q = self._reward_ratio * lesson["q"]
        actor = teaching.softmax_q_kl(q, z_tm1.mean(), self._distillation.settings.temperature)
        target = projected(
            self._reward_ratio * lesson["atoms"], lesson["probabilities"], z_tm1.values
        )
        critic = teaching.return_cross_entropy(target, z_tm1.logits)
        return dict(zip(TERMS, map(tf.reduce_mean, (actor, critic))))

    @tf.function(autograph=False)
    def _update_target(self) -> None:
        for source, target in zip(self._network.variables, self._target_network.variables):
            target.assign(source)

    def get_variables(self, names: list[str]) -> list[Any]:
        """The online network's trainable variables, as Acme's variable clients ask for them.

        The moving statistics of batch normalization are not among them.
        """
        del names
        return tf2_utils.to_numpy([self._network.trainable_variables])

    @property
    @override
    def state(self) -> dict[str, Any]:
        state = {
            "network": self._network,
            "target_network": self._target_network,
            "optimizer": self._optimizer,
            **super().state,
        }
        if self._augmentation is not None:
            state["learner_generator"] = self._augmentation.generator
        return state


def make_learner(
    network: snt.Module, observation_spec: specs.Array, settings: RainbowSettings, **parts: Any
) -> RainbowLearner:
    """Creates the variables of a network, its target network and their learner.

    Args:
      network: the online network.
      observation_spec: of one observation.
      settings: the numbers.
      **parts: further arguments of the learner.
    """
    tf2_utils.create_variables(network, [observation_spec])
    return RainbowLearner(network, copy.deepcopy(network), settings, **parts)
