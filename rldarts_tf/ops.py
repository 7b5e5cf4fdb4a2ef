"""The candidate ops: one registry, name -> Keras layer.

An op maps images [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), filters]. To add one:

    register_op("my_op", lambda filters, stride: MyLayer(filters, stride))

and name it in a `SearchSpace`. A cell calls the layer of a registered op once per edge. Two kinds
of op are cheaper than that, and cells know them by their class:

* `Convolution`: those that leave the same node run as one wide convolution;
* `ParameterFree`: computed once per node, however many edges use the result.

See `rldarts_tf.kernels` for how.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from rldarts_tf.errors import ConfigError, naming
from rldarts_tf.inverted_residual import InvertedResidual
from rldarts_tf.kernels.banks import ConvolutionBank, ConvolutionSettings, ParameterFreeBank
from rldarts_tf.kernels.precision import set_policy
from rldarts_tf.options import check_option
from rldarts_tf.space import NONE, SKIP_CONNECT

OpFactory = Callable[..., tf.keras.layers.Layer]
"""(filters, stride) or (filters, stride, dtype) -> layer."""


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
        self._bank = ConvolutionBank(
            [self.settings], filters, stride, fan_out=1, name="bank", dtype=self.dtype_policy
        )

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._bank(x, training=training)[0]

    @property
    def settings(self) -> ConvolutionSettings:
        """Settings of the convolution, for a bank."""
        return ConvolutionSettings(
            self.kernel_size, self.dilation, self.activation, self.normalization
        )

    @property
    def uses_training(self) -> bool:
        """Whether there is batch normalization."""
        return self.normalization == "batch"

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`."""
        config = super().get_config()
        for key in ("filters", "kernel_size", "stride", "dilation", "activation", "normalization"):
            config[key] = getattr(self, key)
        return config


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
        self._bank = ParameterFreeBank(
            [function], stride, fan_out=1, name="bank", dtype=self.dtype_policy
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
        return self._bank(x)[0]

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`."""
        return {**super().get_config(), "function": self.function, "stride": self.stride}


_REGISTRY: dict[str, OpFactory] = {}
_HAS_WEIGHTS: dict[str, tuple[OpFactory, bool]] = {}  # by name, with the factory that was asked


def register_op(name: str, factory: OpFactory) -> None:
    """Makes an op known by a name.

    Args:
      name: what search spaces call it.
      factory: (filters, stride) -> Keras layer, [B, H, W, C] -> [B, ceil(H / stride),
        ceil(W / stride), filters]. It is called once per edge; where it makes a `ParameterFree` or
        `Convolution` layer, cells use their faster forms. It may have a third parameter `dtype`:
        the Keras policy of the network. Without it the layer, and those inside of it, are given
        that policy where they have taken the global one. Encoders call the layer without
        AutoGraph: where the shape of the computation depends on a tensor, use tf.cond, or
        tf.function. If the layer is to be saved with a whole model, register its class with
        `tf.keras.utils.register_keras_serializable`.

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


def check_ops(names: Iterable[str], owner: str = "") -> None:
    """Checks that ops can be made.

    Args:
      names: of the ops; `none` needs no registration.
      owner: what names them, for the message.

    Raises:
      ConfigError: some are not registered; the message lists them, and says what registers them.
    """
    unknown = [name for name in dict.fromkeys(names) if name not in (*_REGISTRY, NONE)]
    if unknown:
        raise ConfigError(
            f"{owner}{': ' if owner else ''}unknown op {', '.join(map(repr, unknown))}: import the "
            "module that calls register_op for it before (on the command line: --import=MODULE); "
            f"known: {', '.join(registered_ops())}"
        )


def parameter_free(names: Iterable[str]) -> frozenset[str]:
    """Those of the ops that have no weights; `none` is not among them.

    Raises:
      ConfigError: an op is not registered.
    """
    names = [name for name in names if name != NONE]
    check_ops(names)
    return frozenset(name for name in names if not _has_weights(name))


def _has_weights(name: str) -> bool:
    """Whether an op has weights; a layer is made to tell, but once, for Keras keeps some of it."""
    factory, known = _HAS_WEIGHTS.get(name, (None, False))
    if factory is not _REGISTRY[name]:
        layer = make_op(name, filters=2)
        layer(tf.zeros([1, 4, 4, 2], layer.compute_dtype))
        known = bool(layer.weights)
        _HAS_WEIGHTS[name] = _REGISTRY[name], known
    return known


def make_op(
    name: str,
    filters: int,
    stride: int = 1,
    normalization: str | None = None,
    dtype: tf.keras.mixed_precision.Policy | str | None = None,
) -> tf.keras.layers.Layer:
    """A new layer of a registered op, for one edge.

    Args:
      name: the op.
      filters: output channels.
      stride: 1 or 2.
      normalization: applied after each convolution of the built-in ops: None, "layer" or "batch".
        Ops that have a normalization of their own keep it if None.
      dtype: the layer's Keras policy; the global one if None.

    Raises:
      ConfigError: unknown op or normalization.
    """
    check_ops([name])
    check_option("normalization", normalization)
    policy = tf.keras.layers.Layer(dtype=dtype).dtype_policy
    factory = _REGISTRY[name]
    takes_dtype = "dtype" in inspect.signature(factory).parameters
    with naming(f"op {name!r}"):
        layer = factory(filters, stride, **({"dtype": policy} if takes_dtype else {}))
    if not takes_dtype:
        set_policy(layer, policy)
    if normalization is not None and isinstance(layer, _NORMALIZED):
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
            kernel_size,
            strides=stride,
            padding="same",
            use_bias=False,
            name="depthwise",
            dtype=self.dtype_policy,
        )
        self._pointwise = Convolution(
            filters,
            1,
            activation=activation,
            normalization=normalization,
            name="pointwise",
            dtype=self.dtype_policy,
        )

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""
        return self._pointwise(self._depthwise(x), training=training)

    @property
    def uses_training(self) -> bool:
        """Whether there is batch normalization."""
        return self.normalization == "batch"

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`."""
        config = super().get_config()
        for key in ("filters", "kernel_size", "stride", "activation", "normalization"):
            config[key] = getattr(self, key)
        return config


_NORMALIZED = (Convolution, SeparableConvolution, InvertedResidual)
"""Ops that take a normalization."""


def _register_built_in() -> None:
    def convolution(
        k: int, dilation: int, activation: str | None, normalization: str | None = None
    ) -> OpFactory:
        return lambda filters, stride, dtype: Convolution(
            filters, k, stride, dilation, activation, normalization, dtype=dtype
        )

    def inverted(k: int, expansion: int) -> OpFactory:
        return lambda filters, stride, dtype: InvertedResidual(
            filters, k, expansion, stride, dtype=dtype
        )

    def separable(k: int, activation: str | None) -> OpFactory:
        return lambda filters, stride, dtype: SeparableConvolution(
            filters, k, stride, activation=activation, dtype=dtype
        )

    def parameter_free(function: str) -> OpFactory:
        return lambda filters, stride, dtype: ParameterFree(function, stride, dtype=dtype)

    for suffix, activation in (("", None), ("_relu", "relu")):
        for k in (1, 3, 5):
            register_op(f"conv_{k}x{k}{suffix}", convolution(k, 1, activation))
        for k in (3, 5):
            register_op(f"dil_conv_{k}x{k}{suffix}", convolution(k, 2, activation))
            register_op(f"sep_conv_{k}x{k}{suffix}", separable(k, activation))
    for k in (3, 5):
        register_op(f"conv_{k}x{k}_norm_relu", convolution(k, 1, "relu", "layer"))
        for expansion in (1, 3, 5):
            register_op(f"inv_res_{k}x{k}_e{expansion}", inverted(k, expansion))
    for function in ("relu", "tanh", "elu", "gelu", "selu", "sigmoid", "swish"):
        register_op(function, parameter_free(function))
    for function in ("max_pool_3x3", "avg_pool_3x3"):
        register_op(function, parameter_free(function))
    register_op(SKIP_CONNECT, parameter_free("identity"))


_register_built_in()
