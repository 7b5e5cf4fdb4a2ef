"""PPO's loss on held-out experience."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from typing_extensions import override

from rldarts_tf.agents.ppo.acting import Actor
from rldarts_tf.agents.ppo.agent import SharedEncoderPPOClipAgent
from rldarts_tf.agents.ppo.collect import Collector
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.envs.suite import Environments
from rldarts_tf.training.held_out import HeldOut


class PPOHeldOut(HeldOut):
    """`HeldOut` of PPO: the loss of equation 9 of Schulman et al. 2017 on minibatches.

    Advantages, returns and the old policy are those of the moment of collecting; on experience of
    the same policy the ratio is 1 and its loss is only that of value and entropy. What a mask or
    another α changes is then how well the network still fits what it has seen.

    Args:
      agent: the agent.
      act: its policy, with a source of randomness of its own.
      settings: the numbers.
      environment: fresh environments, which are this object's from now on.
      normalizer: of rewards; its statistics go on from those of training.
    """

    def __init__(
        self,
        agent: SharedEncoderPPOClipAgent,
        act: Actor,
        settings: PPOSettings,
        environment: Environments,
        normalizer: RewardNormalizer,
    ) -> None:
        super().__init__(environment, settings.minibatch_size)
        # Long enough for advantages, and no longer than those of training.
        self._num_steps = min(self._num_steps, settings.steps_per_update)
        self._agent = agent
        self._collector = Collector(environment, act, self._num_steps, normalizer)

    @override
    def _transitions(self) -> trajectory.Trajectory:
        """Arrays [number, 1, ...]: sequences of one step."""
        experience = self._collector.collect()
        begins = experience.next_step_type[:, :-1] == ts.StepType.FIRST
        self.environment_steps += int(np.sum(~begins))
        processed = self._agent.preprocess_sequence(tf.nest.map_structure(tf.constant, experience))
        kept = ~begins.reshape(-1)
        return tf.nest.map_structure(
            lambda x: x[:, :-1].numpy().reshape(-1, 1, *x.shape[2:])[kept], processed
        )

    @override
    def losses(self, experience: trajectory.Trajectory) -> tf.Tensor:
        advantages = experience.policy_info["advantage"]
        mean, variance = tf.nn.moments(advantages, axes=[0, 1, 2])
        normalized = (advantages - mean) * tf.math.rsqrt(variance + 1e-8)
        arguments = (experience, normalized)
        # One after another, in one trace of the loss; AutoGraph knows no `super`.
        loss_of = tf.autograph.experimental.do_not_convert(
            lambda group: self._agent.loss_of(*group)
        )
        with self._agent.loss_of_alpha():
            if experience.reward.shape[0] == 1:
                return loss_of(tf.nest.map_structure(lambda x: x[0], arguments))[None]
            return tf.map_fn(loss_of, arguments, fn_output_signature=tf.float32)
