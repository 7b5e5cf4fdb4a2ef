"""Rainbow without noisy nets, from Acme's parts: double Q, dueling, C51, prioritized n-step replay.

Sources: Hessel et al. 2018 (Rainbow); Bellemare et al. 2017 (C51); Wang et al. 2016 (dueling);
van Hasselt et al. 2016 (double Q); RL-DARTS appendix A.1, Algorithm 3, and F.2; Kostrikov et al.
2020 (DrQ: augmented images, if they are asked for).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import reverb
import sonnet as snt
import tensorflow as tf
import trfl
from acme import specs, types
from acme.tf import utils as tf2_utils
from acme.tf.losses.distributional import l2_project
from acme.tf.networks import DiscreteValuedDistribution
from acme.utils import counting, loggers
from typing_extensions import override

from rldarts_tf import search
from rldarts_tf.agents.augmentation import Augmentation
from rldarts_tf.agents.gradients import NORMS, architecture_variables, norms
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.loop_agent import LoopAgent
from rldarts_tf.agents.off_policy.replay import TABLE, Replay
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.agents.shapes import check_shapes
from rldarts_tf.devices import Strategy
from rldarts_tf.encoders import Encoder, check_two
from rldarts_tf.teaching import losses as teaching
from rldarts_tf.teaching.distillation import TERMS, Distillation
from rldarts_tf.torso import Torso, TwinTorsos, training_options
from rldarts_tf.training.seeds import make_generator

LOSSES = ("loss", "td_error", "q_mean", *NORMS, "importance_mean")
"""Metrics of a learner step."""

# A transition of priority 0 would never be sampled again.
_MIN_PRIORITY = 1e-6


class DuellingCategoricalHead(snt.Module):
    """Features -> a distribution of returns for every action, batch shape [B, A].

    The logits of atom i are V_i + A_i(a) - mean over a' of A_i(a') (Hessel et al. 2018, "Distribu-
    tional RL" and "Dueling networks"), V and A being MLPs with one hidden layer each.

    Args:
      num_actions: A.
      hidden_size: units of each hidden layer.
      num_atoms: atoms of the distribution.
      v_min: the least return.
      v_max: the largest.
    """

    def __init__(
        self, num_actions: int, hidden_size: int, num_atoms: int, v_min: float, v_max: float
    ) -> None:
        super().__init__(name="duelling_categorical_head")
        self._shape = (num_actions, num_atoms)
        self._value = snt.nets.MLP([hidden_size, num_atoms], name="value")
        self._advantage = snt.nets.MLP([hidden_size, num_actions * num_atoms], name="advantage")
        self._atoms = tf.linspace(float(v_min), float(v_max), num_atoms)

    def __call__(
        self, features: tf.Tensor | tuple[tf.Tensor, tf.Tensor]
    ) -> DiscreteValuedDistribution:
        """Distributions of returns for features [B, features]; or for two: (of A, of V)."""
        of_a, of_v = features if isinstance(features, tuple) else (features, features)
        value = self._value(of_v)[:, None]  # [B, 1, num_atoms]
        advantage = tf.reshape(self._advantage(of_a), [-1, *self._shape])  # [B, A, num_atoms]
        logits = value + advantage - tf.reduce_mean(advantage, axis=1, keepdims=True)
        return DiscreteValuedDistribution(values=self._atoms, logits=logits)


def make_network(encoder: Encoder, num_actions: int, settings: RainbowSettings) -> snt.Sequential:
    """The Q network around an encoder (Algorithm 3); its variables do not exist yet.

    Args:
      encoder: used itself, not a copy.
      num_actions: A.
      settings: the numbers.
    """
    head = DuellingCategoricalHead(
        num_actions, settings.hidden_size, settings.num_atoms, settings.v_min, settings.v_max
    )
    check_two(encoder, settings.separate_encoders, "RainbowSettings.separate_encoders")
    torso = TwinTorsos(encoder) if settings.separate_encoders else Torso(encoder)
    return snt.Sequential([torso, head])


class EpsilonGreedy(snt.Module):
    """Observations [B, ...] -> actions int32 [B]; with probability ε a uniformly random one.

    Args:
      network: gives distributions of returns.
      epsilon: ε, a number, or a variable that somebody changes: one number, or one of each
        observation [B].
      generator: the source of randomness; its state belongs into a checkpoint.
    """

    def __init__(
        self, network: snt.Module, epsilon: float | tf.Variable, generator: tf.random.Generator
    ) -> None:
        super().__init__(name="epsilon_greedy")
        self._network = network
        self._epsilon = epsilon
        self._generator = generator

    def __call__(self, observations: tf.Tensor) -> tf.Tensor:
        """Actions for observations."""
        return self.act(observations)[0]

    def act(self, observations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(actions int32 [B], action values float32 [B, A])."""
        values = self._network(observations).mean()
        epsilon = tf.convert_to_tensor(self._epsilon)
        policy = trfl.epsilon_greedy(values, epsilon[:, None] if epsilon.shape.rank else epsilon)
        # TFP takes stateless seeds as int32.
        seed = tf.cast(self._generator.make_seeds()[:, 0], tf.int32)
        return policy.sample(seed=seed), values


def double_q_target(
    r_t: tf.Tensor, d_t: tf.Tensor, z_t: DiscreteValuedDistribution, q_t_selector: tf.Tensor
) -> tf.Tensor:
    """m = Φ(r + d Z_{θ'}(s_t, a*)), a* = argmax_a q_θ(s_t, a): [B, atoms], a constant.

    Args:
      r_t: float32 [B], the n-step return.
      d_t: float32 [B], γ^n, or 0 where the episode terminated on the way.
      z_t: distributions at s_t by the target network, batch shape [B, A].
      q_t_selector: action values at s_t by the online network, [B, A].

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        r_t=(r_t, ("B",)),
        d_t=(d_t, ("B",)),
        z_t=(z_t.logits, ("B", "A", "K")),
        q_t_selector=(q_t_selector, ("B", "A")),
    )
    a_t = tf.argmax(q_t_selector, axis=-1, output_type=tf.int32)
    p_t = tf.nn.softmax(tf.gather(z_t.logits, a_t, batch_dims=1))  # [B, atoms]
    atoms = r_t[:, None] + d_t[:, None] * z_t.values  # [B, atoms]
    return tf.stop_gradient(l2_project(atoms, p_t, z_t.values))


def categorical_loss(
    z_tm1: DiscreteValuedDistribution, a_tm1: tf.Tensor, target: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The C51 loss.

    Args:
      z_tm1: distributions of returns of all actions at s_{t-1}, batch shape [B, A].
      a_tm1: the actions taken, int32 [B].
      target: m, [B, atoms].

    Returns:
      (cross-entropy of m and the prediction [B], the loss; their Kullback-Leibler divergence [B],
      the priority of Hessel et al. 2018).

    Raises:
      ValueError: a shape is another.
    """
    check_shapes(
        z_tm1=(z_tm1.logits, ("B", "A", "K")), a_tm1=(a_tm1, ("B",)), target=(target, ("B", "K"))
    )
    logits = tf.gather(z_tm1.logits, a_tm1, batch_dims=1)
    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
    entropy = -tf.reduce_sum(tf.math.xlogy(target, target), axis=-1)
    return cross_entropy, tf.stop_gradient(cross_entropy - entropy)


def projected(atoms: tf.Tensor, probabilities: tf.Tensor, support: tf.Tensor) -> tf.Tensor:
    """A teacher's distributions of returns on the student's atoms: Φ of C51.

    Args:
      atoms: the teacher's, in the student's units of reward, [B, J].
      probabilities: of each action, [B, A, J].
      support: the student's atoms, [atoms].

    Returns:
      float32 [B, A, atoms].
    """
    check_shapes(
        atoms=(atoms, ("B", "J")),
        probabilities=(probabilities, ("B", "A", "J")),
        support=(support, ("K",)),
    )
    by_action = tf.unstack(probabilities, axis=1)
    return tf.stack([l2_project(atoms, p, support) for p in by_action], axis=1)


def importance_weights(probabilities: tf.Tensor, exponent: float) -> tf.Tensor:
    """w_i = P(i)^-exponent / max_j P(j)^-exponent (Schaul et al. 2016, section 3.4): [B] -> [B].

    The number of transitions, which is a factor there, cancels out.

    Raises:
      ValueError: the probabilities are not [B].
    """
    check_shapes(probabilities=(probabilities, ("B",)))
    weights = tf.pow(tf.cast(probabilities, tf.float32), -exponent)
    return weights / tf.reduce_max(weights)


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


def epsilons_at(settings: RainbowSettings, games: Sequence[str], step: int) -> np.ndarray:
    """ε of each environment after so many environment steps; see `RainbowSettings`.

    Args:
      settings: the numbers.
      games: the game of each environment, one name each. Each of several games has the whole range
        of ε.
      step: environment steps of all of them together.

    Returns:
      float32 [B]; numpy's, for TensorFlow caches each Python number that it is given for ever.
    """
    first, last = settings.epsilon_exponents
    exponents, names = np.empty(len(games)), np.array(games)
    for game in dict.fromkeys(games):
        mine = names == game
        exponents[mine] = np.linspace(first, last, num=np.count_nonzero(mine))
    grown = 1.0 + settings.epsilon_decay * min(step / settings.epsilon_steps, 1.0)
    return np.power(float(settings.epsilon_base), exponents * grown).astype(np.float32)


class Rainbow(LoopAgent):
    """Rainbow for one environment and Acme's EnvironmentLoop, as Acme's own `DQN` is.

    Args:
      environment_spec: of the environment: images, discrete actions.
      encoder: the encoder, not yet built; used itself, so that the α you hold is trained.
      settings: the numbers, with `n_step` and `replay_capacity` (see `RainbowSettings.for_games`);
        those of many environments and of evaluations are not used. By default ε falls from 0.4 over
        25 million steps: set `epsilon_steps` to about the length of a shorter run.
      seed: of the exploration and the augmentation.
      counter: counts learner steps.
      logger: is given the losses.
      checkpoint_directory: where Acme's Checkpointer saves the learner every ten minutes, and from
        where it resumes; None for nowhere. Replay is not saved.

    Attributes:
      epsilon: ε, a variable.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder,
        settings: RainbowSettings,
        seed: int = 0,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        checkpoint_directory: str | None = None,
    ) -> None:
        n_step, capacity = settings.chosen("n_step"), settings.chosen("replay_capacity")
        network = make_network(encoder, environment_spec.actions.num_values, settings)
        generator = make_generator(seed, "actions")

        def epsilon_at(step: int) -> np.float32:
            return epsilons_at(settings, ["the only one"], step)[0]

        self.epsilon = tf.Variable(epsilon_at(0), trainable=False, dtype=tf.float32, name="epsilon")
        super().__init__(
            policy=EpsilonGreedy(network, self.epsilon, generator),
            explore=lambda step: self.epsilon.assign(epsilon_at(step)),
            learner=make_learner(
                network,
                environment_spec.observations,
                settings,
                counter=counter,
                logger=logger,
                seed=seed,
            ),
            replay=Replay(
                environment_spec,
                capacity,
                settings.priority_exponent,
                initial_priority=settings.initial_priority,
            ),
            settings=settings,
            n_step=n_step,
            trackables={"epsilon": self.epsilon, "generator": generator},
            checkpoint_directory=checkpoint_directory,
            checkpoint_name="rainbow_learner",
        )
