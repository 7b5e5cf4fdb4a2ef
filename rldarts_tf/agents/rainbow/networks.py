"""Q network of Rainbow: an encoder, and a dueling head that gives distributions of returns.

Sources: Wang et al. 2016 (dueling); Bellemare et al. 2017 (C51).
"""

from __future__ import annotations

import sonnet as snt
import tensorflow as tf
from acme.tf.networks import DiscreteValuedDistribution

from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.encoders import Encoder, check_two
from rldarts_tf.torso import Torso, TwinTorsos


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
