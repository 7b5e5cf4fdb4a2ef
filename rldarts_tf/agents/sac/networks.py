"""Actor and twin critics of SAC around one torso, and how the actor acts.

Sources: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (arXiv:1812.05905);
Lee et al. 2020 (PI-SAC: one encoder for both).
"""

from __future__ import annotations

from collections.abc import Sequence

import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
from acme.tf import networks

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
