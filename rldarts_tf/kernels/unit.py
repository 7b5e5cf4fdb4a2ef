"""Ops of unit size: p_o · o(x) / ν, ν the root mean square of o(x) over an image.

Since p / ν is one number per image, a mixture of such ops is one of ops with op weights of each
image, and its gradient, with s = (ν² + ε)^(-1/2), n values in an image and d = <g, y>,

    z = p s y:    ∂L/∂p = Σ_images s d,    ∂L/∂y = p s g - (p s³ d / n) y,

costs one sum over the image more than that of the plain mixture. TensorFlow's own keeps and reads
three times as many maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.kernels.mixing import (
    Functions,
    apply_function,
    base_gradient,
    combine,
    compiled,
    in_forward_mode,
)
from rldarts_tf.kernels.normalization import unit_scale
from rldarts_tf.kernels.precision import sum_per_image, widened


def mix_unit(bases: Sequence[tf.Tensor], functions: Functions, p: tf.Tensor) -> list[tf.Tensor]:
    """As `mixing.mix`, of functions whose results are brought to root mean square 1 per image.

    Args:
      bases: maps [B, H, W, C].
      functions: per base.
      p: op weights, float [functions, n], in the order of `functions`.

    Returns:
      n maps [B, H, W, C].
    """

    def outputs(bases: Any) -> list[tf.Tensor]:
        """Functions applied to their bases, one after the other."""
        return [apply_function(f, base) for base, names in zip(bases, functions) for f in names]

    def scales(bases: Any) -> tf.Tensor:
        """s [functions, B]."""
        return tf.stack([unit_scale(y, (1, 2, 3))[:, 0, 0, 0] for y in outputs(bases)])

    def mixed(p: tf.Tensor, *bases: tf.Tensor) -> list[tf.Tensor]:
        s = scales(bases)
        weights = tf.unstack(_of_images(tf.cast(p, s.dtype)[:, :, None] * s[:, None]), axis=1)
        return [combine([], bases, functions, of_target) for of_target in weights]

    @tf.custom_gradient
    def run(p: tf.Tensor, *bases: tf.Tensor) -> Any:
        def gradient(*gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
            s = scales(bases)
            d = tf.stack([tf.stack([_dot(g, y) for g in gradients]) for y in outputs(bases)])
            wide_p = tf.cast(p, s.dtype)
            n = tf.cast(tf.size(bases[0][0]), s.dtype)
            weights = _of_images(wide_p[:, :, None] * s[:, None])
            shrinkage = _of_images(s**3 * tf.einsum("ft,ftb->fb", wide_p, d) / n)
            of_bases, first = [], 0
            for base, names in zip(bases, functions):
                here = slice(first, first + len(names))
                of_bases.append(
                    base_gradient(base, names, weights[here], list(gradients), shrinkage[here])
                )
                first += len(names)
            return (tf.cast(tf.einsum("fb,ftb->ft", s, d), p.dtype), *of_bases)

        return mixed(p, *bases), gradient

    return mixed(p, *bases) if in_forward_mode(p) else run(p, *bases)


def scale_to_unit(y: tf.Tensor, p: tf.Tensor, filters: int, in_branch: bool = False) -> tf.Tensor:
    """p · y / ν of several maps side by side, each of which has its ν.

    Args:
      y: [B, H, W, maps * filters].
      p: factors, float [maps * filters].
      filters: channels of one map.
      in_branch: this is in a branch of `tf.cond`, where tensors of custom gradients are not found:
        the gradient is left to TensorFlow.

    Returns:
      Maps of the shape and dtype of y.
    """

    def scales(y: tf.Tensor) -> tf.Tensor:
        """s of each image, [B, maps, 1]."""
        shape = tf.concat([tf.shape(y)[:3], [-1, filters]], axis=0)
        return unit_scale(tf.reshape(y, shape), (1, 2, 4))[:, 0, 0]

    def factors(s: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
        """A number of each map, [B, maps, 1], times one of each channel: [B, 1, 1, channels]."""
        of_maps = s * tf.reshape(tf.cast(p, s.dtype), [-1, filters])
        return tf.reshape(of_maps, [tf.shape(s)[0], 1, 1, -1])

    @tf.custom_gradient
    def run(y: tf.Tensor, p: tf.Tensor) -> Any:
        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            s = scales(y)
            of_channels = sum_per_image(_product(g, y))  # d of each channel, [B, maps * filters]
            d = tf.reshape(of_channels, [tf.shape(s)[0], -1, filters])
            of_p = tf.reshape(tf.reduce_sum(s * d, axis=0), [-1])
            n = tf.cast(tf.size(y[0]) // tf.shape(s)[1], s.dtype)
            p_d = tf.reduce_sum(tf.reshape(tf.cast(p, s.dtype), [-1, filters]) * d, -1, True)
            shrinkage = factors(s**3 * p_d / n, tf.ones_like(p))
            return _affine(g, factors(s, p), y, shrinkage), tf.cast(of_p, p.dtype)

        return y * tf.cast(factors(scales(y), p), y.dtype), gradient

    if in_branch or in_forward_mode(y):
        return y * tf.cast(factors(scales(y), p), y.dtype)
    return run(y, p)


@compiled
def _affine(g: tf.Tensor, a: tf.Tensor, y: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """a g - c y of maps g and y, in one pass."""
    return tf.cast(a * widened(g) - c * widened(y), y.dtype)


def _of_images(x: tf.Tensor) -> tf.Tensor:
    """[..., B] -> [..., B, 1, 1, 1], to be multiplied with maps."""
    return x[..., None, None, None]


def _dot(g: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """d = <g, y> of each image, [B]."""
    return tf.reduce_sum(sum_per_image(_product(g, y)), axis=1)


def _product(g: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """g y; of float16 in float32, for it would be 0 where gradients are small."""
    return widened(g) * widened(y) if g.dtype == tf.float16 else g * y
