"""Normalization layers that Keras lacks, or whose Keras form fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.kernels.precision import widened


def unit_rms(y: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """y / sqrt(ν² + ε), ν² the mean of y² over some axes; sums are in float32 or better.

    Root mean square layer normalization without a gain (Zhang & Sennrich 2019, eq. 4). ε = 1e-6.
    """
    return y * tf.cast(unit_scale(y, axes), y.dtype)


def unit_scale(y: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """1 / sqrt(ν² + ε) of `unit_rms`, with axes of size 1; float32 or wider."""
    mean = tf.reduce_mean(tf.square(widened(y)), axis=axes, keepdims=True)
    return tf.math.rsqrt(mean + 1e-6)


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class LayerNormalization(tf.keras.layers.LayerNormalization):
    """Layer normalization over the last axis, in an order of terms that TensorFlow leaves alone.

    Where the weights are constants, as in an exported policy, TensorFlow 2.15 hands Keras's own
    order to a kernel of oneDNN, with an ε of 1e-3 whatever it was.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalizes [..., C] over C; sums are in float32 or better."""
        x = widened(inputs)
        # From the centered x: up to a third less time than tf.nn.moments, which centers it anew.
        centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        normalized = centered * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(normalized, inputs.dtype) * self.gamma + self.beta


class FilterResponseNorm(tf.keras.layers.Layer):
    """Filter response normalization with its thresholded unit (Singh & Krishnan 2020, eq. 1 to 3).

    y = max(γ x / sqrt(ν² + ε) + β, τ) with ν² the mean of x² over the pixels of an image's channel;
    γ, β and τ are of each channel. Maps [B, H, W, C] -> [B, H, W, C].
    """

    def build(self, input_shape: Any) -> None:
        """Makes γ (ones), β and τ (zeros), each [C]."""
        shape = (input_shape[-1],)
        self._gamma = self.add_weight("gamma", shape, initializer="ones")
        self._beta = self.add_weight("beta", shape, initializer="zeros")
        self._tau = self.add_weight("tau", shape, initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalizes maps [B, H, W, C], each channel of each image by itself."""
        # In float32 at least: squares of half precision overflow.
        square = tf.reduce_mean(tf.square(widened(x)), axis=[1, 2], keepdims=True)  # ν²
        scale = tf.cast(tf.math.rsqrt(square + 1e-6), x.dtype)
        return tf.maximum(self._gamma * x * scale + self._beta, self._tau)
