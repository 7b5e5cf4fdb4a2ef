"""The candidate ops: one registry, name -> Keras layer.

An op maps images [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), filters]. To add one:

    register_op("my_op", lambda filters, stride: MyLayer(filters, stride))

and name it in a `SearchSpace`. A cell calls the layer of a registered op once per edge. Two kinds
of op are cheaper than that, and cells know them by their class:

* `Convolution`: those that leave the same node run as one wide convolution (`ConvolutionBank`);
* `ParameterFree`: computed once per node, however many edges use the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.errors import ConfigError
from rldarts_tf.search_space import NONE, SKIP_CONNECT

OpFactory = Callable[[int, int], tf.keras.layers.Layer]
"""(filters, stride) -> layer."""

NORMALIZATIONS = (None, "layer", "batch")


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class Convolution(tf.keras.layers.Layer):
    """Convolution, then normalization if any, then activation: one edge on its own.

    SAME padding, with bias. A dilated convolution of stride s = dilation convolves every s-th row
    and column of its input, which are the values that the strided output depends on.

    Args:
      filters: output channels.
      kernel_size: side of the kernel.
      stride: 1 or 2.
      dilation: spacing of the kernel's taps.
      activation: name of a Keras activation, or None.
      normalization: None, "layer" (over channels) or "batch" (running statistics when
        `training` is false).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        activation: str | None = None,
        normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if stride > 1 and dilation not in (1, stride):
            raise ConfigError(f"stride {stride} needs dilation 1 or {stride}, got {dilation}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.activation = activation
        self.normalization = normalization
        self._bank = ConvolutionBank((self,), fan_out=1, name="bank")

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._bank(x, training=training)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        config = super().get_config()
        for key in (
            "filters",
            "kernel_size",
            "stride",
            "dilation",
            "activation",
            "normalization",
        ):
            config[key] = getattr(self, key)
        return config


class ConvolutionBank(tf.keras.layers.Layer):
    """Σ_o w_o · o(x) for convolution ops o on one input, for several targets at once.

    The kernels of the `fan_out` edges that use the same op lie side by side in one wide kernel, so
    that they run as one convolution; the results of the ops are summed before they are parted.
    Where an op is positively homogeneous in its kernel and bias (no activation, or ReLU, and no
    normalization), w >= 0 goes into these: w · relu(k * x + b) = relu(w k * x + w b). The gradient
    of w is then a reduction over the kernel, not over feature maps.

    Args:
      convolutions: the ops, as prototypes whose settings are read; all of one filters and stride.
      fan_out: n, the number of targets.
    """

    def __init__(
        self, convolutions: Sequence[Convolution], fan_out: int, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        # Plain dictionaries: Keras would track the prototypes as layers of this one.
        self._settings: tuple[dict[str, Any], ...] = tuple(
            {
                "kernel_size": op.kernel_size,
                "dilation": op.dilation,
                "activation": op.activation,
                "normalization": op.normalization,
            }
            for op in convolutions
        )
        self.filters = convolutions[0].filters
        self.stride = convolutions[0].stride
        self.fan_out = fan_out

    def build(self, input_shape: Any) -> None:
        """Makes per op a kernel [k, k, C, n * filters] and a bias [n * filters]."""
        channels = int(input_shape[-1])
        width = self.fan_out * self.filters
        self.kernels: list[tf.Variable] = []
        self.biases: list[tf.Variable] = []
        self.scales: list[tf.Variable | None] = []
        self.normalizers: list[tf.keras.layers.Layer | None] = []
        for index, op in enumerate(self._settings):
            k = op["kernel_size"]
            # Glorot's limit of a single edge: the width of the bank must not change it.
            limit = (6.0 / (k * k * (channels + self.filters))) ** 0.5
            self.kernels.append(
                self.add_weight(
                    name=f"kernel_{index}",
                    shape=(k, k, channels, width),
                    initializer=tf.keras.initializers.RandomUniform(-limit, limit),
                )
            )
            self.biases.append(
                self.add_weight(name=f"bias_{index}", shape=(width,), initializer="zeros")
            )
            normalized = op["normalization"] is not None
            self.scales.append(
                self.add_weight(name=f"scale_{index}", shape=(width,), initializer="ones")
                if normalized
                else None
            )
            self.normalizers.append(
                tf.keras.layers.BatchNormalization(
                    center=False, scale=False, name=f"normalization_{index}"
                )
                if op["normalization"] == "batch"
                else None
            )
        super().build(input_shape)

    def call(
        self, x: tf.Tensor, weights: tf.Tensor | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """The weighted sum over the ops, targets side by side.

        Args:
          x: images [B, H, W, C].
          weights: non-negative float [ops, n], or None for all ones.
          training: whether batch normalization uses the statistics of the batch.

        Returns:
          [B, ceil(H / stride), ceil(W / stride), n * filters].
        """
        dense: list[tf.Tensor] = []
        dilated: dict[int, list[tf.Tensor]] = {}
        inputs: dict[int, tf.Tensor] = {}
        for index, op in enumerate(self._settings):
            dilation = op["dilation"]
            if dilation == 1:
                dense.append(self._apply(index, x, self.stride, weights, training))
            elif self.stride > 1:
                subsampled = x[:, :: self.stride, :: self.stride]
                dense.append(self._apply(index, subsampled, 1, weights, training))
            else:
                if dilation not in inputs:
                    inputs[dilation] = _interleave(x, dilation)
                if op["normalization"] == "batch":
                    # The padding of maps of odd size must not count in the batch's statistics.
                    dense.append(
                        self._apply(
                            index, inputs[dilation], 1, weights, training, (dilation, tf.shape(x))
                        )
                    )
                else:
                    part = self._apply(index, inputs[dilation], 1, weights, training)
                    dilated.setdefault(dilation, []).append(part)
        for dilation, parts in dilated.items():
            dense.append(_deinterleave(_add(parts), dilation, tf.shape(x)))
        y = _add(dense)
        height, width = (None if s is None else -(-s // self.stride) for s in x.shape[1:3])
        return tf.ensure_shape(y, [None, height, width, self.fan_out * self.filters])

    def _apply(
        self,
        index: int,
        x: tf.Tensor,
        stride: int,
        weights: tf.Tensor | None,
        training: bool | None,
        interleaved: tuple[int, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """One op; `interleaved`: undo that of (dilation, shape) right after the convolution."""
        op = self._settings[index]
        kernel, bias = self.kernels[index], self.biases[index]
        per_channel = None
        if weights is not None:
            per_channel = tf.cast(tf.repeat(weights[index], self.filters), x.dtype)
        foldable = op["normalization"] is None and op["activation"] in (None, "relu")
        if per_channel is not None and foldable:
            kernel, bias = kernel * per_channel, bias * per_channel
        y = tf.nn.conv2d(x, kernel, strides=stride, padding="SAME")
        if interleaved is not None:
            y = _deinterleave(y, *interleaved)
        if op["normalization"] is not None:
            y = self._normalize(index, y, training) * self.scales[index]
        y = tf.nn.bias_add(y, bias)
        if op["activation"] is not None:
            y = tf.keras.activations.get(op["activation"])(y)
        if per_channel is not None and not foldable:
            y = y * per_channel
        return y

    def _normalize(self, index: int, y: tf.Tensor, training: bool | None) -> tf.Tensor:
        normalizer = self.normalizers[index]
        if normalizer is not None:
            return normalizer(y, training=training)
        # Layer normalization over the channels of each edge, so that the edges of a bank stay
        # independent of each other.
        shape = tf.shape(y)
        edges = tf.reshape(y, tf.concat([shape[:3], [self.fan_out, self.filters]], axis=0))
        mean, variance = tf.nn.moments(edges, axes=[-1], keepdims=True)
        return tf.reshape((edges - mean) * tf.math.rsqrt(variance + 1e-3), shape)

    def edge_weights(self, op_index: int, target: int) -> list[Any]:
        """The numpy weights of one edge: views into the wide variables, in a fixed order."""
        return [value[..., self._channels(target)] for value in self._values(op_index)]

    def set_edge_weights(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        """Assigns what `edge_weights` of an edge with the same op returned."""
        for variable, value in zip(self._variables(op_index), values):
            wide = variable.numpy()
            wide[..., self._channels(target)] = value
            variable.assign(wide)

    def _channels(self, target: int) -> slice:
        return slice(target * self.filters, (target + 1) * self.filters)

    def _variables(self, op_index: int) -> list[tf.Variable]:
        normalizer = self.normalizers[op_index]
        candidates = [self.kernels[op_index], self.biases[op_index], self.scales[op_index]]
        if normalizer is not None:
            candidates += normalizer.weights
        return [variable for variable in candidates if variable is not None]

    def _values(self, op_index: int) -> list[Any]:
        return [variable.numpy() for variable in self._variables(op_index)]


def _interleave(x: tf.Tensor, dilation: int) -> tf.Tensor:
    """Moves the dilation² interleaved sub-images of [B, H, W, C] into the batch.

    A SAME convolution of the sub-images is the dilated SAME convolution of the images: taps that
    are `dilation` apart become neighbours, and padding by zeros stays padding by zeros.
    """
    shape = tf.shape(x)
    paddings = [[0, -shape[1] % dilation], [0, -shape[2] % dilation]]
    if x.shape[1] is not None and x.shape[2] is not None:
        paddings = [[0, -x.shape[1] % dilation], [0, -x.shape[2] % dilation]]
    return tf.space_to_batch(x, block_shape=[dilation, dilation], paddings=paddings)


def _deinterleave(x: tf.Tensor, dilation: int, shape: tf.Tensor) -> tf.Tensor:
    """The inverse of `_interleave` for images of the given dynamic shape."""
    crops = [[0, -shape[1] % dilation], [0, -shape[2] % dilation]]
    return tf.batch_to_space(x, block_shape=[dilation, dilation], crops=crops)


def _add(tensors: list[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class ParameterFree(tf.keras.layers.Layer):
    """An op without weights that keeps the number of channels.

    Pools have a stride of their own. The others, where the stride is 2, follow an average pool 3x3
    of that stride.

    Args:
      function: "identity", "max_pool_3x3", "avg_pool_3x3", or the name of a Keras activation.
      stride: 1 or 2.
    """

    def __init__(self, function: str, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.stride = stride

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
        if self.function == "max_pool_3x3":
            return tf.nn.max_pool2d(x, ksize=3, strides=self.stride, padding="SAME")
        if self.function == "avg_pool_3x3":
            return tf.nn.avg_pool2d(x, ksize=3, strides=self.stride, padding="SAME")
        if self.stride > 1:
            x = tf.nn.avg_pool2d(x, ksize=3, strides=self.stride, padding="SAME")
        return x if self.function == "identity" else tf.keras.activations.get(self.function)(x)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "function": self.function, "stride": self.stride}


_REGISTRY: dict[str, OpFactory] = {}


def register_op(name: str, factory: OpFactory) -> None:
    """Makes an op known by a name.

    Args:
      name: what search spaces call it.
      factory: (filters, stride) -> Keras layer, [B, H, W, C] -> [B, ceil(H / stride),
        ceil(W / stride), filters]. It is called once per edge; where it makes a `ParameterFree` or
        `Convolution` layer, cells use their faster forms. If the layer is to be saved with a whole
        model, register its class with `tf.keras.utils.register_keras_serializable`.

    Raises:
      ConfigError: the name is taken or reserved.
    """
    if name == NONE:
        raise ConfigError(f"op name {NONE!r} is reserved for the zero op")
    if name in _REGISTRY:
        raise ConfigError(f"an op named {name!r} is registered already")
    _REGISTRY[name] = factory


def registered_ops() -> tuple[str, ...]:
    """The names of all ops, sorted."""
    return tuple(sorted(_REGISTRY))


def make_op(
    name: str, filters: int, stride: int = 1, normalization: str | None = None
) -> tf.keras.layers.Layer:
    """A new layer of a registered op, for one edge.

    Args:
      name: the op.
      filters: output channels.
      stride: 1 or 2.
      normalization: applied after each convolution of the built-in ops: None, "layer" or "batch".

    Raises:
      ConfigError: unknown op or normalization.
    """
    if name not in _REGISTRY:
        raise ConfigError(f"unknown op {name!r}; known: {', '.join(registered_ops())}")
    if normalization not in NORMALIZATIONS:
        raise ConfigError(f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}")
    layer = _REGISTRY[name](filters, stride)
    if normalization is not None and isinstance(layer, (Convolution, SeparableConvolution)):
        config = layer.get_config()
        layer = type(layer).from_config({**config, "normalization": normalization})
    return layer


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class SeparableConvolution(tf.keras.layers.Layer):
    """Depthwise convolution, pointwise convolution, then normalization if any, then activation.

    Args: as those of `Convolution`, without dilation.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        activation: str | None = None,
        normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.activation = activation
        self.normalization = normalization
        self._depthwise = tf.keras.layers.DepthwiseConv2D(
            kernel_size, strides=stride, padding="same", use_bias=False, name="depthwise"
        )
        self._pointwise = Convolution(
            filters, 1, activation=activation, normalization=normalization, name="pointwise"
        )

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._pointwise(self._depthwise(x), training=training)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        config = super().get_config()
        for key in ("filters", "kernel_size", "stride", "activation", "normalization"):
            config[key] = getattr(self, key)
        return config


def _register_built_in() -> None:
    def convolution(k: int, dilation: int, activation: str | None) -> OpFactory:
        return lambda filters, stride: Convolution(
            filters, k, stride, dilation=dilation, activation=activation
        )

    def separable(k: int, activation: str | None) -> OpFactory:
        return lambda filters, stride: SeparableConvolution(
            filters, k, stride, activation=activation
        )

    def parameter_free(function: str) -> OpFactory:
        return lambda filters, stride: ParameterFree(function, stride)

    for suffix, activation in (("", None), ("_relu", "relu")):
        for k in (1, 3, 5):
            register_op(f"conv_{k}x{k}{suffix}", convolution(k, 1, activation))
        for k in (3, 5):
            register_op(f"dil_conv_{k}x{k}{suffix}", convolution(k, 2, activation))
            register_op(f"sep_conv_{k}x{k}{suffix}", separable(k, activation))
    for function in ("relu", "tanh", "elu", "gelu", "selu", "sigmoid", "swish"):
        register_op(function, parameter_free(function))
    for function in ("max_pool_3x3", "avg_pool_3x3"):
        register_op(function, parameter_free(function))
    register_op(SKIP_CONNECT, parameter_free("identity"))


_register_built_in()
