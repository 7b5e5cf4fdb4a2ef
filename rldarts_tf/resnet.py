"""The residual network that A2D compares with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.checks import check_integer
from rldarts_tf.encoders import Encoder
from rldarts_tf.errors import ConfigError
from rldarts_tf.kernels.normalization import LayerNormalization
from rldarts_tf.layer_space import dealt
from rldarts_tf.options import check_option

_LARGE = 64
"""Rows of an image whose first convolution has stride 2."""


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class ResNet(Encoder):
    """The residual network for CIFAR (He et al. 2015, section 4.2), which A2D compares with.

    Conv3x3, then stages of blocks of two Conv3x3 beside an identity, which is subsampled and padded
    with zeros where the shape changes (option A there). The first block of each stage but the first
    has stride 2. Three stages of n blocks are 6 n + 2 layers, the dense one included; other numbers
    of blocks are dealt as evenly as can be, the earlier stages with one more. Normalization is over
    channels, in place of that of batches, so that it acts as it learns.

    Args:
      depths: channels of each stage; [16, 32, 64] is the published network.
      num_layers: 14, 20, 38 and 74 are A2D's.
      stem_stride: of the first Conv3x3; None: 2 for images of 64 rows or more, which is ours, else
        1, as published for 32.
      **kwargs: arguments of `Encoder`.

    Raises:
      ConfigError: an argument is not valid.
    """

    def __init__(
        self,
        depths: Sequence[int] = (16, 32, 64),
        *,
        num_layers: int = 20,
        stem_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depths = check_option("depths", depths)
        stages = len(self.depths)
        self.num_layers = check_integer("num_layers", num_layers, least=2 * stages + 2)
        if self.num_layers % 2:
            raise ConfigError(f"num_layers must be even, two in a block and two, got {num_layers}")
        if stem_stride is not None:
            check_integer("stem_stride", stem_stride, least=1, most=2)
        self.stem_stride = stem_stride
        blocks = dealt(self.num_layers // 2 - 1, stages)
        self._stem = _NormalizedConvolution(self.depths[0], 1, "stem", self.dtype_policy)
        self._blocks = [
            [
                _NormalizedConvolution(
                    filters,
                    2 if s and not b and not c else 1,
                    f"stage_{s}_{b}_{c}",
                    self.dtype_policy,
                )
                for c in range(2)
            ]
            for s, (filters, count) in enumerate(zip(self.depths, blocks))
            for b in range(count)
        ]

    @property
    @override
    def ends_in_activation(self) -> bool:
        return True

    @property
    @override
    def uses_training(self) -> bool:
        return False

    @override
    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H', W', depths[-1]].

        H' is H / 2^(D - 1), or half of it where the stem has stride 2.
        """
        del training
        height = x.shape[1]
        large = height is not None and height >= _LARGE
        x = tf.nn.relu(self._stem(x, self.stem_stride or (2 if large else 1)))
        for inner, outer in self._blocks:
            y = outer(tf.nn.relu(inner(x)))
            shortcut = x[:, :: inner.stride, :: inner.stride]
            added = y.shape[-1] - x.shape[-1]
            if added > 0:
                shortcut = tf.pad(shortcut, [[0, 0], [0, 0], [0, 0], [0, added]])
            x = tf.nn.relu(y + shortcut[..., : y.shape[-1]])
        return x

    @override
    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "depths": list(self.depths),
            "num_layers": self.num_layers,
            "stem_stride": self.stem_stride,
        }


class _NormalizedConvolution(tf.keras.layers.Layer):
    """Conv3x3, SAME and without bias, then layer normalization over channels."""

    def __init__(self, filters: int, stride: int, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.filters, self.stride = filters, stride
        self._norm = LayerNormalization(name="norm", dtype=dtype)

    def build(self, input_shape: Any) -> None:
        """Makes the kernel [3, 3, C, filters]."""
        self.kernel = self.add_weight("kernel", (3, 3, input_shape[-1], self.filters))
        super().build(input_shape)

    def call(self, x: tf.Tensor, stride: int | None = None) -> tf.Tensor:
        """Maps [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._norm(tf.nn.conv2d(x, self.kernel, stride or self.stride, "SAME"))
