"""Soft actor-critic with one encoder for actor and critics, from Acme's parts.

Sources: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (arXiv:1812.05905),
whose equations are cited; the encoder that the critics' loss alone trains and the random shifts are
those of Lee et al. 2020 (PI-SAC, without its predictive loss); RL-DARTS appendix A.3.

α is the architecture everywhere in this package: the entropy's coefficient, α there, is called
temperature here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import reverb
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from acme import specs, types
from acme.tf import networks
from acme.tf import utils as tf2_utils
from acme.utils import counting, loggers
from typing_extensions import override

from rldarts_tf import search
from rldarts_tf.agents.augmentation import random_shift
from rldarts_tf.agents.gradients import NORMS, architecture_variables, norms
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.loop_agent import LoopAgent
from rldarts_tf.agents.off_policy.replay import Replay
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.agents.shapes import check_shapes
from rldarts_tf.devices import Strategy
from rldarts_tf.encoders import Encoder, check_two
from rldarts_tf.teaching import losses as teaching
from rldarts_tf.teaching.distillation import TERMS, Distillation
from rldarts_tf.torso import Torso, training_options
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

# Bounds of log σ, those of the authors' release (Haarnoja et al. 2018).
_LOG_SCALE = (-20.0, 2.0)


class TanhGaussianHead(snt.Module):
    """Features [B, features] -> distribution of actions in (-1, 1)^A, batch shape [B].

    a = tanh(u), u normal with mean μ and deviation σ in each dimension (appendix C of Haarnoja et
    al. 2018).

    Args:
      num_dimensions: A.
      hidden_sizes: units of the hidden layers.
    """

    def __init__(self, num_dimensions: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__(name="tanh_gaussian_head")
        self._mlp = snt.nets.MLP([*hidden_sizes, 2 * num_dimensions], name="actor")

    def __call__(self, features: tf.Tensor) -> tfp.distributions.Distribution:
        """The distribution; its `log_prob` is exact for what it has sampled itself."""
        mean, scale = self.mean_and_scale(features)
        gaussian = tfp.distributions.MultivariateNormalDiag(mean, scale)
        return tfp.distributions.TransformedDistribution(gaussian, tfp.bijectors.Tanh())

    def mean_and_scale(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(μ, σ), each [B, A], before the tanh."""
        mean, log_scale = tf.split(self._mlp(features), 2, axis=-1)
        return mean, tf.exp(tf.clip_by_value(log_scale, *_LOG_SCALE))


class Critics(snt.Module):
    """The encoder and twin critics, which the critics' loss trains and the targets are copies of.

    Args:
      torso: observations [B, ...] -> features [B, features].
      hidden_sizes: units of the hidden layers of each critic.
    """

    def __init__(self, torso: snt.Module, hidden_sizes: Sequence[int]) -> None:
        super().__init__(name="critics")
        self.torso = torso
        self._critics = [
            networks.CriticMultiplexer(
                critic_network=snt.nets.MLP([*hidden_sizes, 1], name=f"critic_{i}")
            )
            for i in (1, 2)
        ]

    def __call__(self, observations: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Q_1 and Q_2 of observations [B, ...] and actions [B, A]: float32 [2, B]."""
        return self.q(self.torso(observations), actions)

    def q(self, features: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Q_1 and Q_2 of features [B, features] and actions [B, A]: float32 [2, B]."""
        return tf.stack([tf.squeeze(critic(features, actions), -1) for critic in self._critics])


class Policy(snt.Module):
    """Observations [B, ...] -> actions float32 [B, A].

    Args:
      torso: the critics' one.
      head: of the actor.
      generator: the source of randomness; its state belongs into a checkpoint. None: greedy.
      uniform: a variable that says whether actions are uniformly random, as at first; or None.
      greedy: take tanh(μ) instead of a sample.
    """

    def __init__(
        self,
        torso: snt.Module,
        head: TanhGaussianHead,
        generator: tf.random.Generator | None,
        uniform: tf.Variable | None = None,
        greedy: bool = False,
    ) -> None:
        super().__init__(name="policy")
        self._torso, self._head = torso, head
        self._generator, self._uniform, self._greedy = generator, uniform, greedy

    def __call__(self, observations: tf.Tensor) -> tf.Tensor:
        """Actions for observations."""
        return self.act(observations)[0]

    def act(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(actions float32 [B, A], μ before the tanh [B, A])."""
        mean, scale = self._head.mean_and_scale(self._torso(observations))
        if self._greedy or self._generator is None:
            return tf.tanh(mean), mean
        seeds = self._generator.make_seeds(2)
        noise = tf.random.stateless_normal(tf.shape(mean), seeds[:, 0])
        actions = tf.tanh(mean + scale * noise)
        if self._uniform is not None:
            anything = tf.random.stateless_uniform(tf.shape(mean), seeds[:, 1], -1.0, 1.0)
            actions = tf.where(self._uniform, anything, actions)
        return actions, mean


def soft_target(
    r_t: tf.Tensor,
    d_t: tf.Tensor,
    q_t: tf.Tensor,
    log_pi_t: tf.Tensor,
    temperature: tf.Tensor | float,
) -> tf.Tensor:
    """r + γ (min_i Q_i(s', a') - t log π(a'|s')), the target of equations 3 and 5: [B].

    Args:
      r_t: rewards float32 [B].
      d_t: γ, or 0 where the episode terminated, [B].
      q_t: target critics at s' and a' ~ π(·|s'), [2, B].
      log_pi_t: log π(a'|s'), [B].
      temperature: t.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        r_t=(r_t, ("B",)),
        d_t=(d_t, ("B",)),
        q_t=(q_t, (2, "B")),
        log_pi_t=(log_pi_t, ("B",)),
        temperature=(temperature, ()),
    )
    return r_t + d_t * (tf.reduce_min(q_t, axis=0) - temperature * log_pi_t)


def critic_loss(q_tm1: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """J_Q, equation 5, of both critics together: the mean over the batch of Σ_i ½ (Q_i - y)².

    Args:
      q_tm1: Q_i(s, a), [2, B].
      target: y, [B].

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(q_tm1=(q_tm1, (2, "B")), target=(target, ("B",)))
    errors = q_tm1 - tf.stop_gradient(target)
    return tf.reduce_mean(tf.reduce_sum(0.5 * tf.square(errors), axis=0))


def actor_loss(q: tf.Tensor, log_pi: tf.Tensor, temperature: tf.Tensor | float) -> tf.Tensor:
    """J_π, equation 9: the mean of t log π(a|s) - min_i Q_i(s, a).

    Args:
      q: critics at s and a ~ π(·|s), through which the gradient goes, [2, B].
      log_pi: log π(a|s), [B].
      temperature: t.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(q=(q, (2, "B")), log_pi=(log_pi, ("B",)), temperature=(temperature, ()))
    return tf.reduce_mean(temperature * log_pi - tf.reduce_min(q, axis=0))


def temperature_loss(
    log_temperature: tf.Tensor, log_pi: tf.Tensor, target_entropy: float
) -> tf.Tensor:
    """J(t), equation 18: the mean of -t (log π(a|s) + H̄), with t = exp(log_temperature).

    Args:
      log_temperature: log t, which is trained.
      log_pi: log π(a|s), [B]; a constant.
      target_entropy: H̄.

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(log_temperature=(log_temperature, ()), log_pi=(log_pi, ("B",)))
    return -tf.reduce_mean(tf.exp(log_temperature) * tf.stop_gradient(log_pi + target_entropy))


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


class SACNetworks:
    """Critics and actor around one torso, with variables.

    Args:
      environment_spec: of one environment.
      encoder: an `rldarts_tf.Encoder`, not yet built, used itself; or a Sonnet module
        observations [B, ...] -> features [B, features] (for states, such as
        `acme.tf.utils.batch_concat`).
      settings: the numbers.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder | snt.Module,
        settings: SACSettings,
    ) -> None:
        self.num_dimensions = int(environment_spec.actions.shape[0])
        torso = encoder
        if isinstance(encoder, Encoder):
            check_two(encoder, False, None)
            torso = Torso(encoder)
        self.critics = Critics(torso, settings.hidden_sizes)
        self.actor = TanhGaussianHead(self.num_dimensions, settings.hidden_sizes)
        # Acme's `create_variables` wants the batch first in what comes out.
        self.critics(_one(environment_spec.observations), _one(environment_spec.actions))
        self.actor(torso(_one(environment_spec.observations)))

    def policy(self, generator: tf.random.Generator | None, **options: Any) -> Policy:
        """A policy that acts with the actor; see `Policy`."""
        return Policy(self.critics.torso, self.actor, generator, **options)

    def learner(self, settings: SACSettings, seed: int, **parts: Any) -> SACLearner:
        """A learner; `counter`, `logger`, `distillation` and `strategy` are optional parts."""
        return SACLearner(self.critics, self.actor, self.num_dimensions, settings, seed, **parts)


class SAC(LoopAgent):
    """SAC for one environment and Acme's EnvironmentLoop, as Acme's own agents are.

    Args:
      environment_spec: of the environment: images [H, W, C] or states [size], actions in [-1, 1]^A.
      encoder: see `SACNetworks`.
      settings: the numbers; those of many environments are not used.
      seed: of actions and shifts.
      counter: counts learner steps.
      logger: is given the losses.
      checkpoint_directory: where Acme's Checkpointer saves the learner every ten minutes, and from
        where it resumes; None for nowhere. Replay is not saved.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder | snt.Module,
        settings: SACSettings,
        seed: int = 0,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        checkpoint_directory: str | None = None,
    ) -> None:
        self.networks = SACNetworks(environment_spec, encoder, settings)
        generator = make_generator(seed, "actions")
        self._uniform = tf.Variable(True, trainable=False, name="uniform")
        super().__init__(
            policy=self.networks.policy(generator, uniform=self._uniform),
            explore=lambda step: self._uniform.assign(step < settings.min_replay_size),
            learner=self.networks.learner(settings, seed, counter=counter, logger=logger),
            replay=Replay(environment_spec, settings.replay_capacity, priority_exponent=None),
            settings=settings,
            n_step=1,
            trackables={"uniform": self._uniform, "generator": generator},
            checkpoint_directory=checkpoint_directory,
            checkpoint_name="sac_learner",
        )


def _one(spec: specs.Array) -> tf.Tensor:
    return tf.zeros([1, *spec.shape], spec.dtype)
