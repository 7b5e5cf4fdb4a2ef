"""ε-greedy acting, and ε of many environments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sonnet as snt
import tensorflow as tf
import trfl

from rldarts_tf.agents.rainbow.settings import RainbowSettings


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
