"""The inverted residual of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 1)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rldarts_tf.kernels.normalization import LayerNormalization


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class InvertedResidual(tf.keras.layers.Layer):
    """Conv1x1 that expands the channels, depthwise convolution, linear Conv1x1 that projects.

    Each is followed by normalization, the first two then by ReLU6; where input and output have one
    shape the input is added. With expansion 1 there is no first convolution, as in the release.
    Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters].

    Args:
      filters: output channels.
      kernel_size: of the depthwise convolution.
      expansion: channels between the two Conv1x1, in multiples of C.
      stride: of the depthwise convolution, 1 or 2.
      normalization: "layer" (over channels, the same when acting and learning) or "batch".
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        expansion: int,
        stride: int = 1,
        normalization: str = "layer",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.expansion = expansion
        self.stride = stride
        self.normalization = normalization

    def build(self, input_shape: Any) -> None:
        """Makes the convolutions and their normalizations."""
        channels = int(input_shape[-1])
        common = {"use_bias": False, "padding": "same", "dtype": self.dtype_policy}
        wide = self.expansion * channels
        expand = tf.keras.layers.Conv2D(wide, 1, name="expand", **common)
        self._convolutions = [
            *([expand] if self.expansion > 1 else []),
            tf.keras.layers.DepthwiseConv2D(
                self.kernel_size, self.stride, name="depthwise", **common
            ),
            tf.keras.layers.Conv2D(self.filters, 1, name="project", **common),
        ]
        self._norms = [self._normalization(f"norm_{c.name}") for c in self._convolutions]
        self._adds_input = self.stride == 1 and channels == self.filters
        super().build(input_shape)

    def _normalization(self, name: str) -> tf.keras.layers.Layer:
        if self.normalization == "batch":
            return tf.keras.layers.BatchNormalization(name=name, dtype=self.dtype_policy)
        return LayerNormalization(name=name, dtype=self.dtype_policy)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        keywords = {"training": training} if self.uses_training else {}
        y = x
        for convolution, norm in zip(self._convolutions, self._norms):
            y = norm(convolution(y), **keywords)
            if convolution is not self._convolutions[-1]:
                y = tf.nn.relu6(y)
        return x + y if self._adds_input else y

    @property
    def uses_training(self) -> bool:
        """Whether there is batch normalization."""
        return self.normalization == "batch"

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`."""
        config = super().get_config()
        for key in ("filters", "kernel_size", "expansion", "stride", "normalization"):
            config[key] = getattr(self, key)
        return config
