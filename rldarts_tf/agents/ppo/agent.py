"""PPO: TF-Agents' PPOClipAgent with one encoder for policy and value, and its update.

Sources: Schulman et al. 2017; Cobbe et al. 2020 (settings); RL-DARTS appendix A.1, Algorithm 2;
Raileanu et al. 2020 (DrAC: augmented images, if they are asked for).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent, ppo_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common, value_ops

from rldarts_tf.agents.adam import MeasuredAdam
from rldarts_tf.agents.augmentation import Augmentation
from rldarts_tf.agents.gradients import NORMS, architecture_variables
from rldarts_tf.agents.loss_scale import LossScale
from rldarts_tf.agents.ppo.augmentation import INVARIANCE, with_invariance
from rldarts_tf.agents.ppo.distillation import with_distillation
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.ppo.terms import Term
from rldarts_tf.devices import Strategy, splitting
from rldarts_tf.encoders import Encoder, check_two, with_architecture_loss
from rldarts_tf.encoding_network import ActorDistributionNetwork, EncodingNetwork, ValueNetwork
from rldarts_tf.search.optimizers import SearchOptimizer
from rldarts_tf.search.settling import settled
from rldarts_tf.teaching.distillation import TERMS, Distillation

_HOST = "/cpu:0"


class SharedEncoderPPOClipAgent(ppo_clip_agent.PPOClipAgent):
    """PPOClipAgent whose loss encodes each observation once for policy and value.

    The losses are TF-Agents' own; only the computation they share is shared. The advantages differ
    from TF-Agents' in the value after the last step, see `compute_advantages`.
    """

    def __init__(self, *args: Any, encoder: EncodingNetwork, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared_encoder = encoder
        self._terms: tuple[Term, ...] = ()

    @property
    def value_net(self) -> ValueNetwork:
        """The value network; `actor_net` is the other one."""
        return self._value_net

    @property
    def optimizer(self) -> tf.keras.optimizers.Optimizer:
        """The optimizer of all variables."""
        return self._optimizer

    def compute_advantages(
        self, rewards: tf.Tensor, returns: tf.Tensor, discounts: tf.Tensor, value_preds: tf.Tensor
    ) -> tf.Tensor:
        """Generalized advantages [B, T] from values [B, T + 1].

        TF-Agents' own method (0.19) bootstraps from the value of the last step itself instead of
        the value after it: it cuts the latter off first.
        """
        del returns
        return value_ops.generalized_advantage_estimation(
            values=value_preds[:, :-1],
            final_value=value_preds[:, -1],
            discounts=discounts,
            rewards=rewards,
            td_lambda=self._lambda,
            time_major=False,
        )

    def compute_return_and_advantage(
        self, next_time_steps: ts.TimeStep, value_preds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns and advantages [B, T] of steps [B, T] with values [B, T + 1].

        TF-Agents' own method ends every episode without a value. Here the last observation of one
        that was cut off (LAST with a discount above 0) is worth its value; where a step only began
        an episode (FIRST) the advantage is 0, and that of the step before ends with its value.
        """
        rewards, discounts = next_time_steps.reward, next_time_steps.discount
        cut_off = tf.where(next_time_steps.is_last(), discounts * self._discount_factor, 0.0)
        begun = next_time_steps.is_first()
        rewards = tf.where(begun, value_preds[:, :-1], rewards + cut_off * value_preds[:, 1:])
        discounts = tf.where(begun, 0.0, discounts)
        return super().compute_return_and_advantage(
            next_time_steps._replace(reward=rewards, discount=discounts), value_preds
        )

    def entropy_regularization_loss(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        """The entropy bonus, which a search may keep from α."""
        loss = super().entropy_regularization_loss(*args, **kwargs)
        search = self._optimizer.search
        return loss if search is None else search.of_theta_alone(loss)

    def loss_of_alpha(self) -> contextlib.AbstractContextManager[None]:
        """Within it the loss is that of a step of α."""
        search = self._optimizer.search
        return contextlib.nullcontext() if search is None else search.loss_of_alpha()

    @contextlib.contextmanager
    def adding(self, *terms: Term) -> Iterator[None]:
        """Within this context the loss has more terms."""
        self._terms = self._no_dependency(terms)
        try:
            yield
        finally:
            self._terms = ()

    def get_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of PPOAgent and of the architecture.

        Its gradient is scaled where the optimizer has a loss scale.
        """
        with self._shared_encoder.shared_computation():
            info = super().get_loss(*args, **kwargs)
            for term in self._terms:
                info = term(self, info, *args, **kwargs)
        loss_scale = self._optimizer.loss_scale
        info = info._replace(loss=with_architecture_loss(info.loss, self._shared_encoder))
        return info if loss_scale is None else info._replace(loss=loss_scale.scaled(info.loss))

    def loss_of(self, minibatch: trajectory.Trajectory, advantages: tf.Tensor) -> tf.Tensor:
        """The loss of a minibatch that is not trained on, without a scale: a float32 scalar.

        Args:
          minibatch: [M, 1, ...], as `preprocess_sequence` leaves it.
          advantages: normalized, [M, 1].
        """
        info = minibatch.policy_info
        old_policy = ppo_utils.distribution_from_spec(
            self._action_distribution_spec, info["dist_params"], legacy_distribution_network=True
        )
        log_probabilities = common.log_probability(old_policy, minibatch.action, self.action_spec)
        with self._shared_encoder.shared_computation():
            return (
                super()
                .get_loss(
                    ts.TimeStep(
                        minibatch.step_type,
                        minibatch.reward,
                        minibatch.discount,
                        minibatch.observation,
                    ),
                    minibatch.action,
                    log_probabilities,
                    info["return"],
                    advantages,
                    info["dist_params"],
                    ppo_utils.make_trajectory_mask(minibatch),
                    self.train_step_counter,
                    debug_summaries=False,
                    old_value_predictions=info["value_prediction"],
                )
                .loss
            )


def tensor_specs(observation_spec: Any, action_spec: Any) -> tuple[ts.TimeStep, Any]:
    """Specs of one environment, as `Suite` gives them, as TF-Agents wants them.

    Returns:
      (specs of a time step, spec of an action).
    """
    observation = tensor_spec.BoundedTensorSpec(
        observation_spec.shape, observation_spec.dtype, 0, 255, "observation"
    )
    action = tensor_spec.BoundedTensorSpec(
        action_spec.shape, action_spec.dtype, action_spec.minimum, action_spec.maximum, "action"
    )
    return ts.time_step_spec(observation), action


def make_agent(
    settings: PPOSettings, time_step_spec: ts.TimeStep, action_spec: Any, encoder: Encoder
) -> SharedEncoderPPOClipAgent:
    """Assembles the agent around an encoder that policy and value share (Algorithm 2).

    With `separate_encoders` it is the policy's, and the value has its twin.

    Its variables are created here; α, if there is any, is trained with all others (equation 2).

    Args:
      settings: the numbers.
      time_step_spec: tensor specs of a time step; the observation is an image.
      action_spec: tensor spec of an action.
      encoder: the encoder.
    """
    observation_spec = time_step_spec.observation
    encoder.check_size(observation_spec.shape)
    check_two(encoder, settings.separate_encoders, "PPOSettings.separate_encoders")
    network = of_value = EncodingNetwork(observation_spec, encoder=encoder)
    if settings.separate_encoders:
        of_value = EncodingNetwork(observation_spec, encoder=encoder.twin())
    actor = ActorDistributionNetwork(observation_spec, action_spec, network)
    value = ValueNetwork(observation_spec, of_value)
    agent = SharedEncoderPPOClipAgent(
        time_step_spec,
        action_spec,
        encoder=network,
        optimizer=MeasuredAdam(
            settings.learning_rate,
            settings.max_gradient_norm,
            settings.skip_nonfinite_updates,
            LossScale.needed_by(network),
            SearchOptimizer.needed_by(network, of_value),
            epsilon=settings.adam_epsilon,
        ),
        actor_net=actor,
        value_net=value,
        greedy_eval=False,
        importance_ratio_clipping=settings.clip,
        lambda_value=settings.gae_lambda,
        discount_factor=settings.discount,
        entropy_regularization=settings.entropy_coefficient,
        value_pred_loss_coef=settings.value_coefficient,
        value_clipping=settings.value_clip,
        gradient_clipping=None,  # the optimizer's business
        # The learner below makes the epochs: TF-Agents' own would multiply them.
        num_epochs=1,
        use_gae=True,
        use_td_lambda_return=True,
        # Rewards are normalized where they are collected, by the rule of Cobbe et al.
        normalize_rewards=False,
        normalize_observations=False,
        update_normalizers_in_train=False,
        # Values are stored when acting and advantages computed once per update.
        compute_value_and_advantage_in_train=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64, name="train_step"),
    )
    agent.initialize()
    # Variables that a first call created would have its function traced twice.
    agent.optimizer.build(in_order((*actor.trainable_weights, *value.trainable_weights)))
    agent.optimizer.architecture = architecture_variables(actor, value)
    return agent


def on_host(experience: Any) -> Any:
    """Numpy arrays -> tensors on the CPU, where a GPU would be the default.

    A rollout is large and is used in minibatches, which TensorFlow gathers, being uint8, on a CPU
    only: from a GPU it would come back once a minibatch.
    """
    with tf.device(_HOST):
        return tf.nest.map_structure(tf.constant, experience)


class Actor:
    """Samples actions in one traced call, which encodes each observation once.

    Args:
      agent: whose collect policy acts.
      generator: the source of randomness; its state is part of a checkpoint.
    """

    def __init__(self, agent: SharedEncoderPPOClipAgent, generator: tf.random.Generator) -> None:
        self._agent = agent
        self._draw_from(generator)
        self._act = tf.function(self._sample, autograph=False, reduce_retracing=True)

    def drawing_from(self, generator: tf.random.Generator) -> Actor:
        """Returns an actor with the same policy and trace but another source of randomness."""
        other = copy.copy(self)
        other._draw_from(generator)
        return other

    def settled(self, encoder: Encoder) -> Actor:
        """Returns an actor with a trace of its own, of what a search stands for.

        Args:
          encoder: the agent's; see `search.settled`.
        """
        other = copy.copy(self)
        sample = settled(encoder)(self._sample)
        other._act = tf.function(sample, autograph=False, reduce_retracing=True)
        return other

    def _draw_from(self, generator: tf.random.Generator) -> None:
        self._generator = generator
        # Traced: op by op, seeds cost a sixth of the time of acting on small frames. TFP takes
        # stateless seeds as int32.
        self._draw_seed = tf.function(
            lambda: tf.cast(generator.make_seeds()[:, 0], tf.int32), autograph=False
        )

    def __call__(self, observation: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Acts on a batch.

        Args:
          observation: uint8 [B, H, W, C].

        Returns:
          (actions int32 [B], parameters of their distribution, values float32 [B]).
        """
        return self._act(observation, self._draw_seed())

    def _sample(self, observation: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
        step_type = tf.fill([tf.shape(observation)[0]], ts.StepType.MID)
        zeros = tf.zeros(tf.shape(step_type))
        time_step = ts.TimeStep(step_type, zeros, zeros, observation)
        with self._agent._shared_encoder.shared_computation():
            step = self._agent.collect_policy.distribution(time_step)
        return (
            step.action.sample(seed=seed),
            step.info["dist_params"],
            step.info["value_prediction"],
        )


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


LOSSES = ("loss", "policy_loss", "value_loss", "entropy", "clip_fraction", *NORMS)
"""Metrics of an update."""


def in_order(variables: Iterable[tf.Variable]) -> list[tf.Variable]:
    """Each variable once, in the order in which checkpoints have the optimizer's numbers of them.

    That is the order of their names. Within the layer of an op, whose parts may have numbers that
    Keras counts through a process, 10 follows 9: a process that has made other layers before has
    other numbers and the same order.
    """

    def key(variable: tf.Variable) -> tuple[str, list[tuple[str, int]]]:
        path, _, within = variable.name.partition("/layer_")
        # Without a number it is the first of its kind: "conv2d", "conv2d_1".
        parts = (re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in within.split("/"))
        return path, [(part[1], int(part[2] or 0)) for part in parts if part]

    return sorted({w.ref(): w for w in variables}.values(), key=key)
