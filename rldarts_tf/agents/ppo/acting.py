"""PPO's policy in one trace."""

from __future__ import annotations

import copy
from typing import Any

import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from rldarts_tf.agents.ppo.agent import SharedEncoderPPOClipAgent
from rldarts_tf.encoders import Encoder
from rldarts_tf.search.settling import settled


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
