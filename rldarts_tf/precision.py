"""What half precision needs: Keras policies for a block of code, and sums in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def layers_of(policy: tf.keras.mixed_precision.Policy) -> Iterator[None]:
    """Layers made inside have this policy, whoever makes them."""
    before = tf.keras.mixed_precision.global_policy()
    # Where nothing is set it is made anew each time, from floatx, which it should go on following.
    if before is not tf.keras.mixed_precision.global_policy():
        before = None
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


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
    """Keras' layer, with `bias_add`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See Keras."""
        y = bias_add(self.convolution_op(inputs, self.kernel), tf.convert_to_tensor(self.bias))
        return y if self.activation is None else self.activation(y)
