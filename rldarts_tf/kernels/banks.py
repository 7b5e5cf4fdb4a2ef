"""Banks: all edges that leave one node by ops of one kind, computed together.

A bank maps a node's value x to what each of its targets t receives:

    y_t = Σ_o p_ot · o_t(x)

p are op weights; θ, the weights of the ops, are called variables.

* `ConvolutionBank`: the kernels of all targets lie side by side in wide ones;
* `ParameterFreeBank`: each op is computed once, whatever the number of targets;
* `LayerBank`: any other Keras layer, one for each target.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.errors import naming
from rldarts_tf.kernels.dilation import SpatialShape, as_dense, deinterleave, spatial_shape
from rldarts_tf.kernels.mixing import IDENTITY, Functions, apply_function, mix
from rldarts_tf.kernels.normalization import unit_rms
from rldarts_tf.kernels.precision import bias_add
from rldarts_tf.kernels.terms import ConvolutionTerm, MapTerm, MixtureTerm, Term, add
from rldarts_tf.kernels.unit import mix_unit, scale_to_unit

POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Bank(tf.keras.layers.Layer):
    """The interface of the three kinds.

    Args:
      fan_out: n, the number of targets.
      unit_ops: bring the result of each op for each target to root mean square 1 per image, so that
        p alone says how much of it there is.
    """

    def __init__(self, fan_out: int, unit_ops: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fan_out = fan_out
        self.unit_ops = unit_ops

    def call(
        self, x: tf.Tensor, p: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        """Computes what each target receives.

        Args:
          x: images [B, H, W, C].
          p: op weights, non-negative float [ops, n], or None for all ones.
          training: whether batch normalization uses the statistics of the batch.

        Returns:
          n maps [B, ceil(H / stride), ceil(W / stride), filters].
        """
        raise NotImplementedError

    def terms(self, x: tf.Tensor, p: tf.Tensor | None = None) -> list[list[Term]]:
        """Per target the terms whose `total` is what `call` returns for it.

        They are not yet computed where the target can do so together with terms of other banks.
        """
        return [[MapTerm(y)] for y in self(x, p)]

    def selected(
        self, x: tf.Tensor, p: tf.Tensor, active: tf.Tensor, training: bool | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """As `call`, but computes those ops alone that are active, where the kind of bank can.

        Args:
          x: images [B, H, W, C].
          p: op weights [ops, n].
          active: bool [k, ops, n]: k layers of at most one op per target, no op in two of them; p
            of all others is 0.
          training: see `call`.

        Returns:
          (maps that each target receives, [B, H', W', filters], or none of them; the same as maps
          [B, H', W', k * filters], of k active ops side by side, or none).
        """
        return self(x, p, training=training), []

    @property
    def cheap_to_recompute(self) -> bool:
        """Whether a gradient needs no result of a convolution of the forward pass."""
        return False

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
    """How ops of a `ConvolutionBank` differ; see `rldarts_tf.ops.Convolution`."""

    kernel_size: int
    dilation: int = 1
    activation: str | None = None
    normalization: str | None = None


class ConvolutionBank(Bank):
    """The convolutions that leave one node.

    The kernels of the n targets that use the same op lie side by side in one wide kernel, so that
    they run as one convolution; the results of the ops are summed before they are parted.
    Where an op is positively homogeneous in its kernel and bias (no activation, or ReLU, and no
    normalization), p >= 0 goes into these: p · relu(k * x + b) = relu(p k * x + p b). The gradient
    of p is then a reduction over the kernel, not over feature maps.

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
    @override
    def cheap_to_recompute(self) -> bool:
        # That is: whether the bank is linear.
        return not self.unit_ops and all(
            op.activation is None and op.normalization is None for op in self._ops
        )

    @property
    @override
    def uses_training(self) -> bool:
        return any(op.normalization == "batch" for op in self._ops)

    @override
    def call(
        self, x: tf.Tensor, p: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        dense: list[tf.Tensor] = []
        interleaved: dict[int, list[tf.Tensor]] = {}
        for index, (op, p_o) in enumerate(zip(self._ops, self._per_channel(p))):
            maps, stride, dilation = as_dense(x, self.stride, op.dilation)
            if dilation == 1:
                dense.append(self._apply(index, maps, stride, p_o, training))
            elif op.normalization == "batch" or self.unit_ops:
                # The padding of maps of odd size must not count in statistics of maps.
                after = (dilation, spatial_shape(x))
                dense.append(self._apply(index, maps, 1, p_o, training, after))
            else:
                part = self._apply(index, maps, 1, p_o, training)
                interleaved.setdefault(dilation, []).append(part)
        for dilation, parts in interleaved.items():
            dense.append(deinterleave(add(parts), dilation, spatial_shape(x)))
        shape = [None, *_size(x, self.stride), self.fan_out * self.filters]
        y = tf.ensure_shape(add(dense), shape)
        return tf.split(y, self.fan_out, axis=-1)

    @override
    def selected(
        self, x: tf.Tensor, p: tf.Tensor, active: tf.Tensor, training: bool | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        pieces = []
        computed = tf.reduce_any(active, axis=0)
        # Of several drawn ops all but one have p = 0 and yet a gradient of p (straight through);
        # p inside of ReLU would take it: the derivative of relu(0) is 0.
        folds_relu = active.shape[0] == 1
        for index, p_o in enumerate(self._per_channel(p)):
            of_op = computed[index]
            channels = tf.where(tf.repeat(of_op, self.filters))[:, 0]
            y = tf.cond(
                tf.reduce_any(of_op),
                functools.partial(self._alone, index, x, p_o, training, channels, folds_relu),
                functools.partial(_nothing, x, self.stride, 0),
            )
            sizes = self.filters * tf.cast(of_op, tf.int32)
            pieces.append(tf.split(y, sizes, axis=-1, num=self.fan_out))
        return [], [tf.concat(of_target, axis=-1) for of_target in zip(*pieces)]

    def _alone(
        self,
        index: int,
        x: tf.Tensor,
        p_o: tf.Tensor | None,
        training: bool | None,
        channels: tf.Tensor | None = None,
        folds_relu: bool = True,
    ) -> tf.Tensor:
        """One op for all targets side by side, or for those of `channels` of the wide kernel."""
        maps, stride, dilation = as_dense(x, self.stride, self._ops[index].dilation)
        after = None if dilation == 1 else (dilation, spatial_shape(x))
        return self._apply(index, maps, stride, p_o, training, after, channels, folds_relu)

    @override
    def terms(self, x: tf.Tensor, p: tf.Tensor | None = None) -> list[list[Term]]:
        if not self.cheap_to_recompute:
            return super().terms(x, p)
        terms: list[list[Term]] = [[] for _ in range(self.fan_out)]
        for index, (op, p_o) in enumerate(zip(self._ops, self._per_channel(p))):
            kernel, bias = self._folded(index, p_o, x.dtype)
            kernels = tf.split(kernel, self.fan_out, axis=-1)
            biases = tf.split(bias, self.fan_out)
            for of_target, k, b in zip(terms, kernels, biases):
                of_target.append(ConvolutionTerm(x, k, b, self.stride, op.dilation))
        return terms

    def _per_channel(self, p: tf.Tensor | None) -> list[tf.Tensor | None]:
        """Per op the op weights of the wide kernel's channels, [n * filters]."""
        if p is None:
            return [None] * len(self._ops)
        # Each weight is repeated over the channels of its target: one node in the graph where
        # tf.repeat makes twenty.
        spread = np.repeat(np.eye(self.fan_out, dtype=p.dtype.as_numpy_dtype), self.filters, 1)
        return tf.unstack(p @ spread)

    def _folded(
        self,
        index: int,
        p_o: tf.Tensor | None,
        dtype: tf.DType,
        channels: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The wide kernel and bias of an op, times its op weights per channel if there are any."""
        kernel = _some(tf.convert_to_tensor(self.kernels[index]), channels)
        bias = _some(tf.convert_to_tensor(self.biases[index]), channels)
        if p_o is not None:
            p_o = tf.cast(p_o, kernel.dtype)
            kernel, bias = kernel * p_o, bias * p_o
        return tf.cast(kernel, dtype), tf.cast(bias, dtype)

    def _apply(
        self,
        index: int,
        x: tf.Tensor,
        stride: int,
        p_o: tf.Tensor | None,
        training: bool | None,
        interleaved: tuple[int, SpatialShape] | None = None,
        channels: tf.Tensor | None = None,
        folds_relu: bool = True,
    ) -> tf.Tensor:
        """One op.

        `interleaved`: undo that of (dilation, (H, W)) right after the convolution. `channels`:
        those of the wide kernel that are computed, or all. `folds_relu`: p may scale what is under
        a ReLU instead of what comes out, which is the same function and less to compute.
        """
        op = self._ops[index]
        p_o = None if p_o is None else _some(p_o, channels)
        linear = op.activation is None or (op.activation == "relu" and folds_relu)
        foldable = not self.unit_ops and op.normalization is None and linear
        kernel, bias = self._folded(index, p_o if foldable else None, x.dtype, channels)
        y = tf.nn.conv2d(x, kernel, strides=stride, padding="SAME")
        if interleaved is not None:
            y = deinterleave(y, *interleaved)
        if op.normalization is not None:
            scale = _some(tf.convert_to_tensor(self.scales[index]), channels)
            y = self._normalize(index, y, training) * tf.cast(scale, y.dtype)
        y = bias_add(y, bias)
        if op.activation is not None:
            y = tf.keras.activations.get(op.activation)(y)
        if self.unit_ops:
            p_o = tf.ones_like(bias) if p_o is None else p_o
            return scale_to_unit(y, p_o, self.filters, in_branch=channels is not None)
        if p_o is not None and not foldable:
            y = y * tf.cast(p_o, y.dtype)
        return y

    def _normalize(self, index: int, y: tf.Tensor, training: bool | None) -> tf.Tensor:
        normalizer = self.normalizers[index]
        if normalizer is not None:
            return normalizer(y, training=training)

        def over_channels(edges: tf.Tensor) -> tf.Tensor:
            mean, variance = tf.nn.moments(edges, axes=[-1], keepdims=True)
            return (edges - mean) * tf.math.rsqrt(variance + 1e-3)

        return self._per_edge(y, over_channels)

    def _per_edge(self, y: tf.Tensor, normalize: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Normalizes [B, H, W, targets, filters], so that edges stay independent of each other."""
        shape = tf.shape(y)
        edges = tf.reshape(y, tf.concat([shape[:3], [-1, self.filters]], axis=0))
        return tf.reshape(normalize(edges), shape)

    @override
    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        return [
            variable.numpy()[..., self._channels(target)] for variable in self._variables(op_index)
        ]

    @override
    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
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


def _size(x: tf.Tensor, stride: int) -> list[int | None]:
    """(H', W') of an op's result, as far as it is known."""
    return [None if s is None else -(-s // stride) for s in x.shape[1:3]]


def _nothing(x: tf.Tensor, stride: int, channels: int) -> tf.Tensor:
    """Zeros in place of the result of an op that is not computed."""
    size = [-(-s // stride) for s in spatial_shape(x)]
    return tf.zeros([tf.shape(x)[0], *size, channels], x.dtype)


def _some(of_channels: tf.Tensor, channels: tf.Tensor | None) -> tf.Tensor:
    """Values [..., channels] of some of the channels, or of all."""
    return of_channels if channels is None else tf.gather(of_channels, channels, axis=-1)


class ParameterFreeBank(Bank):
    """The ops without weights that leave one node.

    Pools have a stride of their own. The other functions, where the stride is 2, follow an average
    pool 3x3 of that stride, which is computed once for all of them.

    Args:
      functions: per op "identity", one of `POOLS`, or the name of a Keras activation.
      stride: 1 or 2.
      fan_out: n, the number of targets.
    """

    def __init__(self, functions: Sequence[str], stride: int, fan_out: int, **kwargs: Any) -> None:
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
        """The maps to which `functions` are applied: x itself or its pools."""
        window = {"ksize": 3, "strides": self.stride, "padding": "SAME"}
        pools: dict[str, Callable[[], tf.Tensor]] = {
            IDENTITY: lambda: x,
            "max_pool_3x3": lambda: _max_pool(x, self.stride),
            "avg_pool_3x3": lambda: tf.nn.avg_pool2d(x, **window),
        }
        return [pools[pool]() for pool in self._pools]

    @property
    @override
    def cheap_to_recompute(self) -> bool:
        return not self.unit_ops

    @override
    def call(
        self, x: tf.Tensor, p: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        bases = self.bases(x)
        if self.unit_ops:
            p = tf.ones([len(self._op_indices), self.fan_out], x.dtype) if p is None else p
            return mix_unit(bases, self.functions, tf.gather(p, self._op_indices))
        if p is None:
            terms = [
                apply_function(name, base)
                for base, names in zip(bases, self.functions)
                for name in names
            ]
            return [add(terms)] * self.fan_out
        return mix(bases, self.functions, tf.gather(p, self._op_indices))

    @override
    def selected(
        self, x: tf.Tensor, p: tf.Tensor, active: tf.Tensor, training: bool | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        if self.unit_ops:
            return super().selected(x, p, active, training)
        layers = tf.gather(active, self._op_indices, axis=1)
        p = tf.gather(p, self._op_indices)
        return mix(self.bases(x), self.functions, p, layers), []

    @override
    def terms(self, x: tf.Tensor, p: tf.Tensor | None = None) -> list[list[Term]]:
        if self.unit_ops:
            return super().terms(x, p)
        bases = tuple(self.bases(x))
        if p is None:
            p = tf.ones([len(self._op_indices), self.fan_out], x.dtype)
        columns = tf.unstack(tf.gather(p, self._op_indices), axis=1)
        return [[MixtureTerm(bases, self.functions, p_t)] for p_t in columns]


def _max_pool(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Max-pool 3x3, SAME; also with a second derivative that is right.

    On CPUs TensorFlow's kernel for it (MaxPoolGradGrad, 2.15) may write its result over the input
    that it still reads, where both have one shape. With the padding made before they differ.
    """
    if stride == 1:
        around = [[0, 0], [1, 1], [1, 1], [0, 0]]
        x = tf.pad(x, around, constant_values=x.dtype.min)
        return tf.nn.max_pool2d(x, 3, 1, padding="VALID")
    return tf.nn.max_pool2d(x, 3, stride, padding="SAME")


class LayerBank(Bank):
    """Any other op, such as one of the user's: a layer for each target.

    Args:
      op: its name.
      layers: n of them.
      filters: channels of each target.
      stride: 1 or 2.
    """

    def __init__(
        self,
        op: str,
        layers: Sequence[tf.keras.layers.Layer],
        filters: int,
        stride: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(len(layers), **kwargs)
        self.layers = list(layers)
        self.filters = filters
        self.stride = stride
        self._op = op
        # Layers make their variables when they are called first, which no branch of a graph may.
        self._called = False
        # Not from Keras' notes on the layer, which are others in each version of it.
        self._takes_training = "training" in inspect.signature(layers[0].call).parameters

    @property
    @override
    def uses_training(self) -> bool:
        # A layer that has the argument may say of itself that it is of no use.
        return getattr(self.layers[0], "uses_training", self._takes_training)

    @override
    def call(
        self, x: tf.Tensor, p: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        weights = [None] * self.fan_out if p is None else tf.unstack(p[0])
        results = [self._of_target(*pair, x, training) for pair in zip(self.layers, weights)]
        self._called = True
        return results

    @override
    def selected(
        self, x: tf.Tensor, p: tf.Tensor, active: tf.Tensor, training: bool | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        if not self._called:
            return super().selected(x, p, active, training)
        computed = tf.unstack(tf.reduce_any(active, axis=0)[0])
        maps = []
        for layer, p_t, is_active in zip(self.layers, tf.unstack(p[0]), computed):
            y = tf.cond(
                is_active,
                functools.partial(self._of_target, layer, p_t, x, training),
                functools.partial(_nothing, x, self.stride, self.filters),
            )
            maps.append(tf.ensure_shape(y, [None, *_size(x, self.stride), self.filters]))
        return maps, []

    def _of_target(
        self,
        layer: tf.keras.layers.Layer,
        p_t: tf.Tensor | None,
        x: tf.Tensor,
        training: bool | None,
    ) -> tf.Tensor:
        """What one target receives."""
        keywords = {"training": training} if self._takes_training else {}
        with naming(f"op {self._op!r}"):
            # Some layers have a policy of their own, whatever that of the network.
            y = tf.cast(layer(x, **keywords), x.dtype)
        if self.unit_ops:
            y = unit_rms(y, (1, 2, 3))
        return y if p_t is None else tf.cast(p_t, y.dtype) * y

    @override
    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        return self.layers[target].get_weights()

    @override
    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        self.layers[target].set_weights(values)
