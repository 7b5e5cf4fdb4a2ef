"""The largest eigenvalue of the Hessian of a loss by α, from Hessian-vector products.

Zela et al. 2020, "Understanding and Robustifying Differentiable Architecture Search", find that it
grows where a search is about to end in cells that generalize badly, ones of skips above all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Product = Callable[[np.ndarray], np.ndarray]
"""v -> H v, of a symmetric matrix H: float64 [n] -> float64 [n]."""


class HessianVectorProduct:
    """v -> ∇²L v, by differentiating ∇L · v; traced once.

    Args:
      loss: arguments -> L, a scalar.
      variables: what L is differentiated by, such as `supernet.alpha.trainable_weights`: n numbers
        in all.
    """

    def __init__(self, loss: Callable[..., tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        self._variables = list(variables)
        self._sizes = [int(np.prod(v.shape)) for v in self._variables]

        def product(vector: tf.Tensor, *arguments: Any) -> tf.Tensor:
            parts = [
                tf.reshape(part, v.shape)
                for part, v in zip(tf.split(vector, self._sizes), self._variables)
            ]
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    value = loss(*arguments)
                gradients = inner.gradient(
                    value, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                along = tf.add_n([tf.reduce_sum(g * p) for g, p in zip(gradients, parts)])
            found = outer.gradient(
                along, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            return tf.concat([tf.reshape(f, [-1]) for f in found], axis=0)

        self._product = tf.function(product, autograph=False)

    @property
    def size(self) -> int:
        """n."""
        return sum(self._sizes)

    def __call__(self, vector: np.ndarray, *arguments: Any) -> np.ndarray:
        """∇²L v, float64 [n]; the arguments are those of the loss."""
        v = tf.constant(vector, self._variables[0].dtype)
        return self._product(v, *arguments).numpy().astype(np.float64)


class Eigenpair(NamedTuple):
    """An eigenvalue, and a vector near its eigenvector."""

    value: float
    vector: np.ndarray
    """float64 [n], of length 1."""


def largest_eigenvalue(
    product: Product,
    start: np.ndarray,
    iterations: int = 20,
    tolerance: float = 1e-2,
) -> Eigenpair:
    """λ_max of a symmetric matrix by power iteration.

    Power iteration finds the eigenvalue of the largest size. Where that is a negative one, λ_-, a
    second one on H - λ_- I, which has no negative eigenvalues, finds the largest.

    Args:
      product: v -> H v.
      start: the first vector, float64 [n], not zero: random, or the last one of a matrix nearby.
      iterations: the most products in each of the two.
      tolerance: relative change of the estimate at which it ends.
    """
    first = _power_iteration(product, start, iterations, tolerance)
    if first.value >= 0:
        return first

    def shifted(v: np.ndarray) -> np.ndarray:
        return product(v) - first.value * v

    found = _power_iteration(shifted, start, iterations, tolerance)
    return found._replace(value=first.value + found.value)


def _power_iteration(
    product: Product, start: np.ndarray, iterations: int, tolerance: float
) -> Eigenpair:
    """The Rayleigh quotient v · H v of the last vector, and that vector."""
    vector, value = start / np.linalg.norm(start), 0.0
    for _ in range(iterations):
        image = product(vector)
        before, value = value, float(vector @ image)
        length = np.linalg.norm(image)
        if not length or abs(value - before) <= tolerance * abs(value):
            break
        vector = image / length
    return Eigenpair(value, vector)
