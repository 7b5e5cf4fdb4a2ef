"""Banks: all edges that leave one node by ops of one kind, computed together.

A bank maps a node's value x to what each of its targets t receives:

    y_t = Σ_o w_ot · o_t(x)

* `ConvolutionBank`: the kernels of all targets lie side by side in wide ones;
* `ParameterFreeBank`: each op is computed once, whatever the number of targets;
* `LayerBank`: any other Keras layer, one for each target.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rldarts_tf.kernels.mixing import IDENTITY, Functions, apply_function, combine, mix
from rldarts_tf.kernels.precision import bias_add

POOLS = ("max_pool_3x3", "avg_pool_3x3")

SpatialShape = tuple[Any, ...]
"""(H, W), each an integer or, where it is unknown when a graph is traced, a scalar tensor."""


class Kernel(NamedTuple):
    """A linear convolution with bias: arrays [k, k, C, filters] and [filters]."""

    kernel: tf.Tensor
    bias: tf.Tensor
    stride: int
    dilation: int


class Deferred(NamedTuple):
    """What one target receives from one bank: a sum whose terms are yet to be computed.

    Attributes:
      maps: terms that are computed: [B, H, W, C].
      convolutions: maps and what they are to be convolved with.
      bases: maps that `functions` are to be applied to.
      functions: per base.
      weights: float [functions].
    """

    maps: tuple[tf.Tensor, ...] = ()
    convolutions: tuple[tuple[tf.Tensor, Kernel], ...] = ()
    bases: tuple[tf.Tensor, ...] = ()
    functions: Functions = ()
    weights: tf.Tensor | None = None


def total(parts: Sequence[Deferred]) -> tf.Tensor:
    """The sum of what one target receives.

    Linear convolutions run as one of the concatenated sources, and functions are evaluated while
    they are summed.
    """
    maps = [y for part in parts for y in part.maps]
    maps += _convolve([pair for part in parts for pair in part.convolutions])
    mixed = [part for part in parts if part.bases]
    if not mixed:
        return add(maps)
    bases = [base for part in mixed for base in part.bases]
    functions = tuple(names for part in mixed for names in part.functions)
    weights = tf.concat([part.weights for part in mixed], axis=0)
    return combine(maps, bases, functions, tf.cast(weights, bases[0].dtype))


def _convolve(pairs: Sequence[tuple[tf.Tensor, Kernel]]) -> list[tf.Tensor]:
    """Maps whose sum is that of all convolutions; those of the same kind run as one.

    Σ_i k_i * x_i is one convolution of the concatenated x_i, with the kernels stacked likewise.
    """
    kinds: dict[tuple[int, int, int], list[tuple[tf.Tensor, Kernel]]] = {}
    for x, kernel in pairs:
        kind = (int(kernel.kernel.shape[0]), kernel.stride, kernel.dilation)
        kinds.setdefault(kind, []).append((x, kernel))
    results = []
    for (_, stride, dilation), members in kinds.items():
        x = tf.concat([x for x, _ in members], axis=-1) if len(members) > 1 else members[0][0]
        stacked = tf.concat([kernel.kernel for _, kernel in members], axis=2)
        maps, inner_stride, inner_dilation = _as_dense(x, stride, dilation)
        y = tf.nn.conv2d(maps, stacked, strides=inner_stride, padding="SAME")
        y = bias_add(y, add([kernel.bias for _, kernel in members]))
        if inner_dilation > 1:
            y = _deinterleave(y, inner_dilation, spatial_shape(x))
        results.append(y)
    return results


class Bank(tf.keras.layers.Layer):
    """What the kinds of bank have in common.

    Args:
      fan_out: n, the number of targets.
    """

    def __init__(self, fan_out: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fan_out = fan_out

    def call(
        self, x: tf.Tensor, weights: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        """What each target receives.

        Args:
          x: images [B, H, W, C].
          weights: w, non-negative float [ops, n], or None for all ones.
          training: whether batch normalization uses the statistics of the batch.

        Returns:
          n maps [B, ceil(H / stride), ceil(W / stride), filters].
        """
        raise NotImplementedError

    def deferred(self, x: tf.Tensor, weights: tf.Tensor | None = None) -> list[Deferred]:
        """The same results, where it saves work not computed yet; see `total`."""
        return [Deferred(maps=(y,)) for y in self(x, weights)]

    @property
    def uses_training(self) -> bool:
        """Whether `training` may change the result."""
        return False

    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        """θ of one op for one target as numpy arrays, in a fixed order."""
        return []

    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        """Assigns what `edge_variables` of an edge with the same op returned."""


@dataclasses.dataclass(frozen=True)
class ConvolutionSettings:
    """What tells the ops of a `ConvolutionBank` apart; see `rldarts_tf.ops.Convolution`."""

    kernel_size: int
    dilation: int = 1
    activation: str | None = None
    normalization: str | None = None


class ConvolutionBank(Bank):
    """The convolutions that leave one node.

    The kernels of the n targets that use the same op lie side by side in one wide kernel, so that
    they run as one convolution; the results of the ops are summed before they are parted.
    Where an op is positively homogeneous in its kernel and bias (no activation, or ReLU, and no
    normalization), w >= 0 goes into these: w · relu(k * x + b) = relu(w k * x + w b). The gradient
    of w is then a reduction over the kernel, not over feature maps.

    Args:
      ops: their settings.
      filters: channels of each target.
      stride: 1 or 2.
      fan_out: n, the number of targets.
    """

    def __init__(
        self,
        ops: Sequence[ConvolutionSettings],
        filters: int,
        stride: int,
        fan_out: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(fan_out, **kwargs)
        self._ops = tuple(ops)
        self.filters = filters
        self.stride = stride

    def build(self, input_shape: Any) -> None:
        """Makes per op a kernel [k, k, C, n * filters] and a bias [n * filters]."""
        channels = int(input_shape[-1])
        width = self.fan_out * self.filters
        self.kernels: list[tf.Variable] = []
        self.biases: list[tf.Variable] = []
        self.scales: list[tf.Variable | None] = []
        self.normalizers: list[tf.keras.layers.Layer | None] = []
        for index, op in enumerate(self._ops):
            k = op.kernel_size
            # Glorot's limit of a single edge: the width of the bank must not change it.
            limit = (6.0 / (k * k * (channels + self.filters))) ** 0.5
            kernel_initializer = tf.keras.initializers.RandomUniform(-limit, limit)
            shape = (k, k, channels, width)
            self.kernels.append(self._add(f"kernel_{index}", shape, kernel_initializer))
            self.biases.append(self._add(f"bias_{index}", (width,), "zeros"))
            normalized = op.normalization is not None
            self.scales.append(
                self._add(f"scale_{index}", (width,), "ones") if normalized else None
            )
            self.normalizers.append(
                tf.keras.layers.BatchNormalization(
                    center=False,
                    scale=False,
                    name=f"normalization_{index}",
                    dtype=self.dtype_policy,
                )
                if op.normalization == "batch"
                else None
            )
        super().build(input_shape)

    def _add(self, name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
        # Read in full precision: op weights are folded in, and their gradients taken, before the
        # cast to the dtype of the maps.
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, experimental_autocast=False
        )

    @property
    def is_linear(self) -> bool:
        """Whether the bank is a linear map of its input, plus a bias."""
        return all(op.activation is None and op.normalization is None for op in self._ops)

    @property
    def uses_training(self) -> bool:
        """Whether there is batch normalization."""
        return any(op.normalization == "batch" for op in self._ops)

    def call(
        self, x: tf.Tensor, weights: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        """See `Bank`."""
        dense: list[tf.Tensor] = []
        interleaved: dict[int, list[tf.Tensor]] = {}
        for index, (op, w) in enumerate(zip(self._ops, self._per_channel(weights))):
            maps, stride, dilation = _as_dense(x, self.stride, op.dilation)
            if dilation == 1:
                dense.append(self._apply(index, maps, stride, w, training))
            elif op.normalization == "batch":
                # The padding of maps of odd size must not count in the batch's statistics.
                after = (dilation, spatial_shape(x))
                dense.append(self._apply(index, maps, 1, w, training, after))
            else:
                part = self._apply(index, maps, 1, w, training)
                interleaved.setdefault(dilation, []).append(part)
        for dilation, parts in interleaved.items():
            dense.append(_deinterleave(add(parts), dilation, spatial_shape(x)))
        height, width = (None if s is None else -(-s // self.stride) for s in x.shape[1:3])
        y = tf.ensure_shape(add(dense), [None, height, width, self.fan_out * self.filters])
        return tf.split(y, self.fan_out, axis=-1)

    def deferred(self, x: tf.Tensor, weights: tf.Tensor | None = None) -> list[Deferred]:
        """See `Bank`."""
        if not self.is_linear:
            return super().deferred(x, weights)
        parts: list[list[tuple[tf.Tensor, Kernel]]] = [[] for _ in range(self.fan_out)]
        for index, (op, w) in enumerate(zip(self._ops, self._per_channel(weights))):
            kernel, bias = self._folded(index, w, x.dtype)
            kernels = tf.split(kernel, self.fan_out, axis=-1)
            biases = tf.split(bias, self.fan_out)
            for part, k, b in zip(parts, kernels, biases):
                part.append((x, Kernel(k, b, self.stride, op.dilation)))
        return [Deferred(convolutions=tuple(part)) for part in parts]

    def _per_channel(self, weights: tf.Tensor | None) -> list[tf.Tensor | None]:
        """Per op the weights [n * filters] of the wide kernel's channels."""
        if weights is None:
            return [None] * len(self._ops)
        # Each weight is repeated over the channels of its target: one node in the graph where
        # tf.repeat makes twenty.
        spread = np.repeat(
            np.eye(self.fan_out, dtype=weights.dtype.as_numpy_dtype), self.filters, 1
        )
        return tf.unstack(weights @ spread)

    def _folded(
        self, index: int, weights: tf.Tensor | None, dtype: tf.DType
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The wide kernel and bias of an op, times its weights per channel if there are any."""
        kernel, bias = tf.convert_to_tensor(self.kernels[index]), self.biases[index]
        if weights is not None:
            weights = tf.cast(weights, kernel.dtype)
            kernel, bias = kernel * weights, bias * weights
        return tf.cast(kernel, dtype), tf.cast(bias, dtype)

    def _apply(
        self,
        index: int,
        x: tf.Tensor,
        stride: int,
        weights: tf.Tensor | None,
        training: bool | None,
        interleaved: tuple[int, SpatialShape] | None = None,
    ) -> tf.Tensor:
        """One op; `interleaved`: undo that of (dilation, (H, W)) right after the convolution."""
        op = self._ops[index]
        foldable = op.normalization is None and op.activation in (None, "relu")
        kernel, bias = self._folded(index, weights if foldable else None, x.dtype)
        y = tf.nn.conv2d(x, kernel, strides=stride, padding="SAME")
        if interleaved is not None:
            y = _deinterleave(y, *interleaved)
        if op.normalization is not None:
            y = self._normalize(index, y, training) * tf.cast(self.scales[index], y.dtype)
        y = bias_add(y, bias)
        if op.activation is not None:
            y = tf.keras.activations.get(op.activation)(y)
        if weights is not None and not foldable:
            y = y * tf.cast(weights, y.dtype)
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

    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        """See `Bank`: views into the wide variables."""
        return [
            variable.numpy()[..., self._channels(target)] for variable in self._variables(op_index)
        ]

    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        """See `Bank`."""
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


class ParameterFreeBank(Bank):
    """The ops without weights that leave one node.

    Pools have a stride of their own. The other functions, where the stride is 2, follow an average
    pool 3x3 of that stride, which is computed once for all of them.

    Args:
      functions: per op "identity", one of `POOLS`, or the name of a Keras activation.
      stride: 1 or 2.
      fan_out: n, the number of targets.
    """

    def __init__(
        self,
        functions: Sequence[str],
        stride: int,
        fan_out: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(fan_out, **kwargs)
        self.stride = stride
        default = "avg_pool_3x3" if stride > 1 else IDENTITY
        members: dict[str, list[tuple[int, str]]] = {}
        for index, function in enumerate(functions):
            pool, after = (function, IDENTITY) if function in POOLS else (default, function)
            members.setdefault(pool, []).append((index, after))
        self._pools = tuple(members)
        self.functions: Functions = tuple(
            tuple(function for _, function in pairs) for pairs in members.values()
        )
        # The place of each term, in the order of `functions`, among the ops.
        self._op_indices = tuple(index for pairs in members.values() for index, _ in pairs)

    def bases(self, x: tf.Tensor) -> list[tf.Tensor]:
        """What `functions` are applied to: x itself or its pools."""
        window = {"ksize": 3, "strides": self.stride, "padding": "SAME"}
        pools: dict[str, Callable[[], tf.Tensor]] = {
            IDENTITY: lambda: x,
            "max_pool_3x3": lambda: tf.nn.max_pool2d(x, **window),
            "avg_pool_3x3": lambda: tf.nn.avg_pool2d(x, **window),
        }
        return [pools[pool]() for pool in self._pools]

    def call(
        self, x: tf.Tensor, weights: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        """See `Bank`."""
        bases = self.bases(x)
        if weights is None:
            terms = [
                apply_function(name, base)
                for base, names in zip(bases, self.functions)
                for name in names
            ]
            return [add(terms)] * self.fan_out
        return mix(bases, self.functions, tf.gather(weights, self._op_indices))

    def deferred(self, x: tf.Tensor, weights: tf.Tensor | None = None) -> list[Deferred]:
        """See `Bank`."""
        bases = tuple(self.bases(x))
        if weights is None:
            weights = tf.ones([len(self._op_indices), self.fan_out], x.dtype)
        columns = tf.unstack(tf.gather(weights, self._op_indices), axis=1)
        return [Deferred(bases=bases, functions=self.functions, weights=w) for w in columns]


class LayerBank(Bank):
    """An op of the user's: a layer for each target.

    Args:
      layers: n of them.
    """

    def __init__(self, layers: Sequence[tf.keras.layers.Layer], **kwargs: Any) -> None:
        super().__init__(len(layers), **kwargs)
        self.layers = list(layers)
        # Not from Keras' notes on the layer, which are others in each version of it.
        self._takes_training = "training" in inspect.signature(layers[0].call).parameters

    @property
    def uses_training(self) -> bool:
        """Whether the layer has that argument, or says itself that it is of no use."""
        return getattr(self.layers[0], "uses_training", self._takes_training)

    def call(
        self, x: tf.Tensor, weights: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        """See `Bank`."""
        keywords = {"training": training} if self._takes_training else {}
        # Some layers have a policy of their own, whatever that of the network.
        results = [tf.cast(layer(x, **keywords), x.dtype) for layer in self.layers]
        if weights is None:
            return results
        return [tf.cast(w, y.dtype) * y for w, y in zip(tf.unstack(weights[0]), results)]

    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        """See `Bank`."""
        return self.layers[target].get_weights()

    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        """See `Bank`."""
        self.layers[target].set_weights(values)


def _as_dense(x: tf.Tensor, stride: int, dilation: int) -> tuple[tf.Tensor, int, int]:
    """(maps, stride, dilation) such that a convolution of the maps without dilation serves.

    With a stride, dilation = stride: every s-th row and column is all that the output depends on.
    Without, the interleaved sub-images: the result has to be deinterleaved by the dilation left.
    """
    if dilation == 1:
        return x, stride, 1
    if stride > 1:
        return x[:, ::stride, ::stride], 1, 1
    return _interleave(x, dilation), 1, dilation


def _interleave(x: tf.Tensor, dilation: int) -> tf.Tensor:
    """Moves the dilation² interleaved sub-images of [B, H, W, C] into the batch.

    A SAME convolution of the sub-images is the dilated SAME convolution of the images: taps that
    are `dilation` apart become neighbours, and padding by zeros stays padding by zeros.
    """
    paddings = [[0, -size % dilation] for size in spatial_shape(x)]
    return tf.space_to_batch(x, block_shape=[dilation, dilation], paddings=paddings)


def _deinterleave(x: tf.Tensor, dilation: int, shape: SpatialShape) -> tf.Tensor:
    """The inverse of `_interleave` for images of the given (H, W)."""
    crops = [[0, -size % dilation] for size in shape]
    return tf.batch_to_space(x, block_shape=[dilation, dilation], crops=crops)


def spatial_shape(x: tf.Tensor) -> SpatialShape:
    """(H, W) of maps [B, H, W, C]: integers where they are known, else scalar tensors.

    Not `tf.shape(x)` where they are known: TensorFlow's graph optimizer (2.15, the remapper, with
    oneDNN) ends the whole process where the crops of maps that are not square are computed in the
    graph while the batch is unknown.
    """
    return tuple(
        tf.shape(x)[axis] if x.shape[axis] is None else int(x.shape[axis]) for axis in (1, 2)
    )


def add(tensors: list[tf.Tensor]) -> tf.Tensor:
    """The sum of one or more tensors of the same shape."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)
