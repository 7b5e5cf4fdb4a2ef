"""Hand-designed encoders to compare found cells with, behind the same contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.encoders import Encoder, least_side, same_conv
from rldarts_tf.kernels.normalization import FilterResponseNorm
from rldarts_tf.kernels.precision import Conv2D
from rldarts_tf.options import check_option


class _Plain(Encoder):
    """An encoder without dropout or batch normalization."""

    @property
    @override
    def uses_training(self) -> bool:
        return False


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class ImpalaCNN(_Plain):
    """IMPALA-CNN (Espeholt et al. 2018, figure 3, the deep network without its LSTM).

    Per block: Conv3x3, MaxPool3x3 of stride 2, two residual blocks (ReLU, Conv3x3, ReLU, Conv3x3,
    plus the input).

    Args:
      depths: channels of each block; [16, 32, 32] is the published network, [16, 16, 16] and
        [64, 64, 64] are those of RL-DARTS.
      kernel_size: of all convolutions; 5 is what RL-DARTS compares 3 with (table 1, figure 13).
      **kwargs: arguments of `Encoder`.

    Raises:
      ConfigError: an argument is not valid.
    """

    def __init__(
        self, depths: Sequence[int] = (16, 32, 32), *, kernel_size: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.depths = check_option("depths", depths)
        self.kernel_size = check_option("kernel_size", kernel_size)
        dtype = self.dtype_policy
        self._blocks = [
            [same_conv(filters, f"block_{d}_conv_{c}", dtype, self.kernel_size) for c in range(5)]
            for d, filters in enumerate(self.depths)
        ]

    @override
    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H / 2^D, W / 2^D, depths[-1]]."""
        del training
        for first, *residual in self._blocks:
            x = tf.nn.max_pool2d(first(x), ksize=3, strides=2, padding="SAME")
            for inner, outer in zip(residual[::2], residual[1::2]):
                x += outer(tf.nn.relu(inner(tf.nn.relu(x))))
        return x

    @override
    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "depths": list(self.depths),
            "kernel_size": self.kernel_size,
        }


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class NatureCNN(_Plain):
    """The three-layer network of DQN (Mnih et al. 2015, methods, "model architecture").

    Conv8x8 of stride 4 with 32 filters, Conv4x4/2 with 64, Conv3x3/1 with 64, without padding,
    each followed by ReLU; then the dense layer.

    Args:
      features: size of the output.
      **kwargs: arguments of `Encoder`.
    """

    def __init__(self, features: int = 512, **kwargs: Any) -> None:
        super().__init__(features=features, **kwargs)
        sizes = [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
        dtype = self.dtype_policy
        self._convs = [
            Conv2D(filters, kernel, stride, activation="relu", name=f"conv_{i}", dtype=dtype)
            for i, (filters, kernel, stride) in enumerate(sizes)
        ]

    @property
    @override
    def least_side(self) -> int:
        return least_side(self._convs)

    @override
    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H', W', 64]."""
        del training
        for conv in self._convs:
            x = conv(x)
        return x


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class PiSacCNN(_Plain):
    """The encoder of PI-SAC (Lee et al. 2020, `FRNConv` of the release): SAC's baseline in A.3.

    Convolutions 3x3 without padding, the first of stride 2 and the others of stride 1, each
    followed by filter response normalization and its thresholded unit; then the head, which is
    Dense(50) and LayerNormalization there (`features=50, head="layer_norm"`).

    Args:
      depths: filters of each convolution.
      features: size of the output.
      **kwargs: arguments of `Encoder`.
    """

    @property
    @override
    def ends_in_activation(self) -> bool:
        return True  # The last layer is the thresholded unit.

    def __init__(
        self, depths: Sequence[int] = (32, 32, 32, 32), features: int = 50, **kwargs: Any
    ) -> None:
        super().__init__(features=features, **kwargs)
        self.depths = check_option("depths", depths)
        dtype = self.dtype_policy
        self._stack: list[tf.keras.layers.Layer] = [
            layer
            for i, filters in enumerate(self.depths)
            for layer in (
                Conv2D(filters, 3, strides=1 if i else 2, name=f"conv_{i}", dtype=dtype),
                FilterResponseNorm(name=f"norm_{i}", dtype=dtype),
            )
        ]

    @property
    @override
    def least_side(self) -> int:
        return least_side(self._stack[::2])

    @override
    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H', W', depths[-1]]."""
        del training
        for layer in self._stack:
            x = layer(x)
        return x

    @override
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depths": list(self.depths)}


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class MinAtarCNN(_Plain):
    """The network that MinAtar was published with (Young and Tian 2019, section 3).

    Conv3x3 of stride 1 with 16 filters, without padding, followed by ReLU; then the dense layer,
    of 128 units there.

    Args:
      features: size of the output.
    """

    def __init__(self, features: int = 128, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(features=features, name=name, **kwargs)
        self._conv = Conv2D(16, 3, activation="relu", name="conv", dtype=self.dtype_policy)

    @property
    def ends_in_activation(self) -> bool:
        """True: the maps have passed ReLU."""
        return True

    @property
    @override
    def least_side(self) -> int:
        return least_side([self._conv])

    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H - 2, W - 2, 16]."""
        del training
        return self._conv(x)
