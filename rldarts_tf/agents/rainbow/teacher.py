"""A Rainbow agent as a teacher: the distribution of returns of every action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from acme import specs
from acme.tf import utils as tf2_utils

from rldarts_tf.agents.rainbow.networks import make_network
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, num_actions


def make_q_network(encoder: Encoder, settings: RainbowSettings, suite: Suite) -> Any:
    """Makes the Q network of a stage, with variables."""
    network = make_network(encoder, num_actions(suite.action_spec(), "Rainbow"), settings)
    observation = suite.observation_spec()
    tf2_utils.create_variables(network, [specs.Array(observation.shape, observation.dtype)])
    return network


def make_teacher(encoder: Encoder, settings: RainbowSettings, suite: Suite) -> tuple[Any, Any]:
    """Makes the network of a stage.

    Returns:
      (network, objects to restore). The network maps (observations, anything) to "q" [B, A],
      "probabilities" [B, A, atoms] and "atoms" [B, atoms], the same for all. Returns are those of
      rewards divided by its `reward_scales`.
    """
    q_network = make_q_network(encoder, settings, suite)

    def network(observations: tf.Tensor, actions: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        del actions
        returns = q_network(observations)
        probabilities = tf.nn.softmax(returns.logits)
        size = tf.shape(probabilities)[0]
        atoms = tf.tile(returns.values[None], [size, 1])
        return {"q": returns.mean(), "probabilities": probabilities, "atoms": atoms}

    return network, {"network": q_network}


def reward_scales(
    settings: RainbowSettings, suite: Suite, state: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """What rewards of each game are divided by: see `Suite.maximum_return`."""
    del state
    return {game: suite.maximum_return(game, settings.reward_maximum) for game in suite.games}
