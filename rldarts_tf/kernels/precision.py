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


def bias_add(y: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """y + bias, with a gradient of the bias that is summed in float32 at least.

    TensorFlow's kernel for CPUs sums bfloat16 in bfloat16: over the pixels of a minibatch most of
    the sum is lost (60 to 80 % in a Classic supernet).

    Args:
      y: maps [B, H, W, C].
      bias: [C], of the same dtype.
    """
    if y.dtype.size >= 4:
        return tf.nn.bias_add(y, bias)

    @tf.custom_gradient
    def run(y: tf.Tensor, bias: tf.Tensor) -> Any:
        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            total = tf.reduce_sum(tf.cast(dy, tf.float32), axis=[0, 1, 2])
            return dy, tf.cast(total, bias.dtype)

        return tf.nn.bias_add(y, bias), gradient

    return run(y, bias)


class Conv2D(tf.keras.layers.Conv2D):
    """Keras' Conv2D with the bias gradient of `bias_add`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves maps [B, H, W, C]."""
        y = bias_add(self.convolution_op(inputs, self.kernel), tf.convert_to_tensor(self.bias))
        return y if self.activation is None else self.activation(y)
