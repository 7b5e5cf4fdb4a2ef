"""The residual network that A2D compares with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.encoders import Encoder
from rldarts_tf.errors import ConfigError
from rldarts_tf.kernels.normalization import LayerNormalization
from rldarts_tf.options import check_option


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class ResNet(Encoder):
    """The residual network for CIFAR (He et al. 2015, section 4.2), which A2D compares with.

    Conv3x3, then per stage n blocks of two Conv3x3 beside an identity, which is subsampled and
    padded with zeros where the shape changes (option A there). The first block of each stage but
    the first has stride 2. With three stages it has 6 n + 2 layers, the dense one included.
    Normalization is over channels, in place of that of batches, so that it acts as it learns.

    Args:
      depths: channels of each stage; [16, 32, 64] is the published network.
      num_layers: 2 n `len(depths)` + 2; 14, 20, 38 and 74 are A2D's.
      stem_stride: of the first Conv3x3; 1 is the published network, 2 for frames of 64x64 or more.
      **kwargs: arguments of `Encoder`.

    Raises:
      ConfigError: an argument is not valid.
    """

    def __init__(
        self,
        depths: Sequence[int] = (16, 32, 64),
        *,
        num_layers: int = 20,
        stem_stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depths = check_option("depths", depths)
        self.num_layers = check_option("num_layers", num_layers)
        self.stem_stride = check_option("stem_stride", stem_stride)
        per_stage, rest = divmod(self.num_layers - 2, 2 * len(self.depths))
        if rest or not per_stage:
            raise ConfigError(
                f"num_layers must be 2 more than a multiple of {2 * len(self.depths)}, with "
                f"{len(self.depths)} stages, got {num_layers}"
            )
        self._stem = _NormalizedConvolution(self.depths[0], stem_stride, "stem", self.dtype_policy)
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
            for s, filters in enumerate(self.depths)
            for b in range(per_stage)
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
        """Float images [B, H, W, C] -> maps [B, H / 2^(D - 1), W / 2^(D - 1), depths[-1]]."""
        del training
        x = tf.nn.relu(self._stem(x))
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
        self.stride = stride
        self._conv = tf.keras.layers.Conv2D(
            filters, 3, stride, padding="same", use_bias=False, name="conv", dtype=dtype
        )
        self._norm = LayerNormalization(name="norm", dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._norm(self._conv(x))
