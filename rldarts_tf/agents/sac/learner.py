"""A learner step of SAC.

Sources: Haarnoja et al. 2018 (arXiv:1812.05905); the encoder that the critics' loss alone trains
and the random shifts are those of Lee et al. 2020 (PI-SAC, without its predictive loss); RL-DARTS
appendix A.3.
"""

from __future__ import annotations

import copy
from typing import Any

import reverb
import sonnet as snt
import tensorflow as tf
from acme import types
from acme.tf import utils as tf2_utils
from acme.utils import counting, loggers
from typing_extensions import override

from rldarts_tf import search
from rldarts_tf.agents.augmentation import random_shift
from rldarts_tf.agents.gradients import NORMS, architecture_variables, norms
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.sac.losses import actor_loss, critic_loss, soft_target, temperature_loss
from rldarts_tf.agents.sac.networks import Critics, TanhGaussianHead
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.devices import Strategy
from rldarts_tf.teaching import losses as teaching
from rldarts_tf.teaching.distillation import TERMS, Distillation
from rldarts_tf.torso import training_options
from rldarts_tf.training.seeds import make_generator

LOSSES = (
    "critic_loss",
    "actor_loss",
    "temperature_loss",
    "temperature",
    "entropy",
    "q_mean",
    *NORMS,
)
"""Metrics of a learner step. The norms are those of the critics' gradient, which trains α too."""


class SACLearner(ReplayLearner):
    """`ReplayLearner` of critics, actor and temperature.

    One step: the critics and the encoder descend J_Q, the actor J_π, the temperature J(t), all
    from the same weights; then the targets follow. The encoder sees s once for all three losses:
    the actor gets its features as constants.

    In float16 J_Q alone is scaled: between J_π or J(t) and what they train all is float32. A step
    whose critics' gradient overflows is skipped as a whole.

    Args:
      critics: with variables.
      actor: with variables.
      num_dimensions: A, of the actions.
      settings: the numbers.
      seed: of sampled actions and shifts.
      counter: counts learner steps.
      logger: is given the numbers of each step.
      distillation: the teacher, if there is one. It sees s without the random shift.
      strategy: of the devices that share a step; None: there is one.
    """

    def __init__(
        self,
        critics: Critics,
        actor: TanhGaussianHead,
        num_dimensions: int,
        settings: SACSettings,
        seed: int,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        distillation: Distillation | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        super().__init__(settings, critics, counter, logger, distillation, strategy)
        self._critics, self._actor = critics, actor
        self._architecture = architecture_variables(critics)
        self._target_critics = copy.deepcopy(critics)
        self._target_entropy = settings.target_entropy_per_dimension * num_dimensions
        self._log_temperature = tf.Variable(
            settings.initial_log_temperature, name="log_temperature"
        )
        self._generator = make_generator(seed, "learner")
        self._optimizers = {
            name: snt.optimizers.Adam(settings.learning_rate, epsilon=settings.adam_epsilon)
            for name in ("critic", "actor", "temperature")
        }
        self._optimizers["critic"] = search.optimizer(self._optimizers["critic"], critics)
        # So that a checkpoint restored before the first step finds them.
        for name, variables in self._trained.items():
            self._optimizers[name]._initialize(variables)

    @property
    def _trained(self) -> dict[str, tuple[tf.Variable, ...]]:
        """The variables of each loss; α of a supernet is among the critics'."""
        return {
            "critic": self._critics.trainable_variables,
            "actor": self._actor.trainable_variables,
            "temperature": (self._log_temperature,),
        }

    @override
    def _learn(self, sample: reverb.ReplaySample) -> dict[str, tf.Tensor]:
        return self._step(sample.data, self._lesson(sample.data))

    # Without AutoGraph, which would translate Sonnet and Keras too, tracing is faster.
    @tf.function(autograph=False)
    def _step(
        self, transitions: types.Transition, lesson: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Makes one learner step from `acme.types.Transition`s; returns `LOSSES`.

        Where a teacher has given a lesson, J_Q has the term of the critics and J_π that of the
        actor, and both are among the metrics.
        """
        distillation = self._distillation if lesson else None
        terms: dict[str, tf.Tensor] = {}
        trained = self._trained
        seeds = tf.unstack(self._generator.make_seeds(4), axis=1)
        o_tm1 = self._augmented(transitions.observation, seeds[0])
        o_t = self._augmented(transitions.next_observation, seeds[1])
        temperature = tf.exp(self._log_temperature)
        target = self.target_of(transitions, tf.cast(seeds[2], tf.int32), o_t)

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained["critic"])
            torso = self._critics.torso
            features = torso(o_tm1, **training_options(torso))
            q_tm1 = self._critics.q(features, transitions.action)
            j_q = critic_loss(q_tm1, target)
            if distillation is not None:
                errors = teaching.squared_error(lesson["q"], q_tm1)
                terms[TERMS[1]] = tf.reduce_mean(errors)
                j_q += distillation.critic_weight * terms[TERMS[1]]
            j_q = self._scaled(j_q)
        gradients = {"critic": self._differentiate(tape, j_q, trained["critic"])}

        features = tf.stop_gradient(features)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained["actor"])
            pi = self._actor(features)
            a, log_pi = pi.experimental_sample_and_log_prob(seed=tf.cast(seeds[3], tf.int32))
            j_pi = actor_loss(self._critics.q(features, a), log_pi, temperature)
            if distillation is not None:
                own = self._actor.mean_and_scale(features)
                divergence = teaching.gaussian_kl(lesson["mean"], lesson["stddev"], *own)
                terms[TERMS[0]] = tf.reduce_mean(divergence)
                j_pi += distillation.actor_weight * terms[TERMS[0]]
        gradients["actor"] = tape.gradient(j_pi, trained["actor"])

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained["temperature"])
            j_t = temperature_loss(self._log_temperature, log_pi, self._target_entropy)
        gradients["temperature"] = tape.gradient(j_t, trained["temperature"])

        def apply() -> None:
            for name, variables in trained.items():
                self._optimizers[name].apply(gradients[name], variables)

        length = tf.linalg.global_norm([g for part in gradients.values() for g in part])
        finite = tf.math.is_finite(j_q + j_pi + j_t + length)
        applied = self._apply(finite, apply, j_q, gradients["critic"])
        self._update_targets()
        self._draw()
        self._num_steps.assign_add(1)
        return {
            "critic_loss": j_q,
            "actor_loss": j_pi,
            "temperature_loss": j_t,
            "temperature": temperature,
            "entropy": -tf.reduce_mean(log_pi),
            "q_mean": tf.reduce_mean(q_tm1),
            **norms(gradients["critic"], trained["critic"], self._architecture),
            **terms,
            **applied,
        }

    def target_of(
        self, transitions: types.Transition, seed: tf.Tensor, o_t: tf.Tensor | None = None
    ) -> tf.Tensor:
        """y of the critics, [B]; a constant, outside of a tape.

        Args:
          transitions: of one step, [B, ...].
          seed: of the actions, int32 [2].
          o_t: their next observations as they are to be seen; None: as they are.
        """
        o_t = transitions.next_observation if o_t is None else o_t
        r_t = tf.cast(transitions.reward, tf.float32)
        d_t = self._settings.discount * tf.cast(transitions.discount, tf.float32)
        pi_t = self._actor(self._critics.torso(o_t))
        a_t, log_pi_t = pi_t.experimental_sample_and_log_prob(seed=seed)
        temperature = tf.exp(self._log_temperature)
        return soft_target(r_t, d_t, self._target_critics(o_t, a_t), log_pi_t, temperature)

    def loss_of(self, transitions: types.Transition, target: tf.Tensor) -> tf.Tensor:
        """J_Q of transitions [M, ...] that are not trained on, a float32 scalar.

        It is the loss that trains the encoder. Of images that are not shifted, without a teacher
        and a loss scale.

        Args:
          transitions: of one step.
          target: as `target_of` gives it, [M].
        """
        return critic_loss(self._critics(transitions.observation, transitions.action), target)

    def _augmented(self, observations: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Shifts images at random; returns states unchanged."""
        if observations.shape.rank != 4 or not self._settings.random_shift:
            return observations
        return random_shift(observations, self._settings.random_shift, tf.cast(seed, tf.int32))

    def _update_targets(self) -> None:
        """θ' <- τ θ + (1 - τ) θ' (Algorithm 1)."""
        for source, target in zip(self._critics.variables, self._target_critics.variables):
            if source.dtype.is_floating:
                target.assign_add(self._settings.target_update_rate * (source - target))
            else:  # The number of a search's sample.
                target.assign(source)

    def get_variables(self, names: list[str]) -> list[Any]:
        """The weights of the actor and of its encoder, as Acme's variable clients ask for them.

        The moving statistics of batch normalization are not among them.
        """
        del names
        torso = self._critics.torso.trainable_variables
        return tf2_utils.to_numpy([(*torso, *self._actor.trainable_variables)])

    @property
    @override
    def state(self) -> dict[str, Any]:
        return {
            "critics": self._critics,
            "target_critics": self._target_critics,
            "actor": self._actor,
            "log_temperature": self._log_temperature,
            **{f"{name}_optimizer": value for name, value in self._optimizers.items()},
            "learner_generator": self._generator,
            **super().state,
        }
