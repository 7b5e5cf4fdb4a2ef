"""Jacobian covariance: a score of a network that has not been trained.

RL-DARTS (appendix A.2.3, figure R1) tried it on random cells of Dodgeball and found that it does
not tell good ones; `benchmarks/untrained_score.py` asks the same of a study's random cells.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rldarts_tf.encoders import Encoder

_EPSILON = 1e-5


def jacobian_covariance(encoder: Encoder, images: np.ndarray) -> float:
    """Mellor et al. 2020, "Neural Architecture Search without Training" (arXiv:2006.04647v1).

    f(s) is the sum of the features, and row i of J is ∂f/∂s_i. With σ_1, ..., σ_B the eigenvalues
    of the correlation matrix of the rows the score is

        -Σ_i [log(σ_i + ε) + (σ_i + ε)^-1],    ε = 1e-5,

    at most -B, where the rows are uncorrelated: the network tells the images apart.

    Args:
      encoder: with weights, in general those that it begins with.
      images: [B, H, W, C], uint8, bool or float; B at least 2, all different.

    Returns:
      The score; -inf where the features do not depend on some image.
    """
    scale = 255 if images.dtype == np.uint8 else 1
    x = tf.constant(images.astype(np.float32) / scale)
    with tf.GradientTape() as tape:
        tape.watch(x)
        f = tf.reduce_sum(encoder(x, training=False))
    gradient = tape.gradient(f, x, unconnected_gradients="zero").numpy()
    jacobian = gradient.reshape(len(images), -1).astype(np.float64)
    if np.any(np.ptp(jacobian, axis=1) == 0):
        return -np.inf
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian)).clip(0) + _EPSILON
    return -float(np.sum(np.log(eigenvalues) + 1 / eigenvalues))
