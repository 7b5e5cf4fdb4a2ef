"""PPO: TF-Agents' PPOClipAgent with one encoder for policy and value.

Sources: Schulman et al. 2017; Cobbe et al. 2020 (settings); RL-DARTS appendix A.1.
"""

from __future__ import annotations

import contextlib
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
from rldarts_tf.agents.gradients import architecture_variables
from rldarts_tf.agents.loss_scale import LossScale
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.ppo.terms import Term
from rldarts_tf.encoders import Encoder, check_two, with_architecture_loss
from rldarts_tf.encoding_network import ActorDistributionNetwork, EncodingNetwork, ValueNetwork
from rldarts_tf.search.optimizers import SearchOptimizer


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
