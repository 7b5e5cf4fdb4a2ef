"""A SAC agent as a teacher: the actor's Gaussian, and the critics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.sac.agent import SACNetworks
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, check_box


def make_networks(encoder: Encoder, settings: SACSettings, suite: Suite) -> SACNetworks:
    """Makes critics and actor of a stage, with variables."""
    check_box(suite.action_spec(), "SAC")
    spec = environment_spec(suite.observation_spec(), suite.action_spec())
    return SACNetworks(spec, encoder, settings)


def make_teacher(encoder: Encoder, settings: SACSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the networks of a stage.

    Returns:
      (network, objects to restore). The network maps (observations, actions) to "mean" and "stddev"
      [B, A] of the Gaussian before the tanh, and "q" [B], the smaller of the critics' values of the
      actions.
    """
    networks = make_networks(encoder, settings, suite)

    def network(observations: tf.Tensor, actions: tf.Tensor) -> dict[str, tf.Tensor]:
        features = networks.critics.torso(observations)
        mean, stddev = networks.actor.mean_and_scale(features)
        q = tf.reduce_min(networks.critics.q(features, actions), axis=0)
        return {"mean": mean, "stddev": stddev, "q": q}

    return network, {"critics": networks.critics, "actor": networks.actor}


def reward_scales(
    settings: SACSettings, suite: Suite, state: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """What rewards of each game are divided by: nothing."""
    del settings, state
    return dict.fromkeys(suite.games, 1.0)
