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
) -> Eigenpair:
    """λ_max of a symmetric matrix by the method of Lanczos.

    That of the largest value, not of the largest size: power iteration finds the latter, and
    stalls between the two where they are of nearly one size, as those of an indefinite Hessian.

    Args:
      product: v -> H v.
      start: the first vector, float64 [n], not zero: random, or the last one of a matrix nearby.
      iterations: the most products; n of them give λ_max itself.
    """
    basis = [start / np.linalg.norm(start)]
    projected = np.zeros((iterations + 1, iterations + 1))  # of H, onto the basis
    for k in range(iterations):
        image = product(basis[k])
        for _ in range(2):  # A second time for what rounding leaves.
            along = np.stack(basis) @ image
            projected[k, k] += along[k]
            image = image - along @ np.stack(basis)
        left = float(np.linalg.norm(image))
        if left <= 1e-10 * np.abs(projected).max():
            break  # H maps what the basis spans into itself.
        projected[k, k + 1] = projected[k + 1, k] = left
        basis.append(image / left)
    found = np.stack(basis[: k + 1])
    values, vectors = np.linalg.eigh(projected[: k + 1, : k + 1])
    vector = vectors[:, -1] @ found
    return Eigenpair(float(values[-1]), vector / np.linalg.norm(vector))
