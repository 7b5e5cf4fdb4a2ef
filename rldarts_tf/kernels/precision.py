"""Half-precision support: Keras policies for layers made elsewhere, and sums in float32."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def set_policy(layer: tf.keras.layers.Layer, policy: tf.keras.mixed_precision.Policy) -> None:
    """Gives a layer that took Keras' global policy another one, and so the layers inside of it.

    For layers whose maker takes no `dtype`. Setting the global policy while they are made would
    reach every thread of the program. What has another policy already was given it on purpose, and
    what has variables already keeps theirs.
    """
    default = tf.keras.mixed_precision.global_policy().name
    for part in (layer, *layer.submodules):
        is_layer = isinstance(part, tf.keras.layers.Layer)
        if is_layer and not part.built and part.dtype_policy.name == default:
            part._set_dtype_policy(policy)


def wide(dtype: tf.DType) -> tf.DType:
    """The dtype to compute with in a loop over maps of a dtype: float32 or a wider one."""
    return tf.float32 if dtype.size < 4 else dtype


def widened(x: tf.Tensor) -> tf.Tensor:
    """x in that dtype."""
    return tf.cast(x, wide(x.dtype))


def sum_per_image(y: tf.Tensor) -> tf.Tensor:
    """Σ over the pixels of maps [B, H, W, C], [B, C] in the dtype of `wide`.

    TensorFlow's sum of bfloat16 (unlike BiasAddGrad) has accumulators of float32 and rounds once,
    at its end: to cast before would only write and read maps of twice the size. That of float16
    rounds on the way, and may overflow.
    """
    return widened(tf.reduce_sum(widened(y) if y.dtype == tf.float16 else y, axis=[1, 2]))


def bias_add(y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """y + bias, with a gradient of the bias that is summed in float32 at least.

    TensorFlow's own (BiasAddGrad on CPUs) sums bfloat16 in bfloat16: over the pixels of a minibatch
    most of the sum is lost (60 to 80 % in a Classic supernet).

    Args:
      y: maps [B, H, W, C].
      bias: [C], of the same dtype.
    """
    if y.dtype.size >= 4:
        return tf.nn.bias_add(y, bias)

    @tf.custom_gradient
    def run(y: tf.Tensor, bias: tf.Tensor) -> Any:
        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return dy, tf.cast(tf.reduce_sum(sum_per_image(dy), axis=0), bias.dtype)

        return tf.nn.bias_add(y, bias), gradient

    return run(y, bias)


class Conv2D(tf.keras.layers.Conv2D):
    """Keras' Conv2D with the bias gradient of `bias_add`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves maps [B, H, W, C]."""
        y = bias_add(self.convolution_op(inputs, self.kernel), tf.convert_to_tensor(self.bias))
        return y if self.activation is None else self.activation(y)
