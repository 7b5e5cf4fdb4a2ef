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
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.errors import naming
from rldarts_tf.kernels.dilation import SpatialShape, as_dense, deinterleave, spatial_shape
from rldarts_tf.kernels.mixing import IDENTITY, Functions, apply_function, mix
from rldarts_tf.kernels.precision import bias_add
from rldarts_tf.kernels.terms import ConvolutionTerm, MapTerm, MixtureTerm, Term, add

POOLS = ("max_pool_3x3", "avg_pool_3x3")


class Bank(tf.keras.layers.Layer):
    """The interface of the three kinds.

    Args:
      fan_out: n, the number of targets.
    """

    def __init__(self, fan_out: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fan_out = fan_out

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
        return all(op.activation is None and op.normalization is None for op in self._ops)

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
            elif op.normalization == "batch":
                # The padding of maps of odd size must not count in the batch's statistics.
                after = (dilation, spatial_shape(x))
                dense.append(self._apply(index, maps, 1, p_o, training, after))
            else:
                part = self._apply(index, maps, 1, p_o, training)
                interleaved.setdefault(dilation, []).append(part)
        for dilation, parts in interleaved.items():
            dense.append(deinterleave(add(parts), dilation, spatial_shape(x)))
        height, width = (None if s is None else -(-s // self.stride) for s in x.shape[1:3])
        y = tf.ensure_shape(add(dense), [None, height, width, self.fan_out * self.filters])
        return tf.split(y, self.fan_out, axis=-1)

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
        self, index: int, p_o: tf.Tensor | None, dtype: tf.DType
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The wide kernel and bias of an op, times its op weights per channel if there are any."""
        kernel, bias = tf.convert_to_tensor(self.kernels[index]), self.biases[index]
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
    ) -> tf.Tensor:
        """One op; `interleaved`: undo that of (dilation, (H, W)) right after the convolution."""
        op = self._ops[index]
        foldable = op.normalization is None and op.activation in (None, "relu")
        kernel, bias = self._folded(index, p_o if foldable else None, x.dtype)
        y = tf.nn.conv2d(x, kernel, strides=stride, padding="SAME")
        if interleaved is not None:
            y = deinterleave(y, *interleaved)
        if op.normalization is not None:
            y = self._normalize(index, y, training) * tf.cast(self.scales[index], y.dtype)
        y = bias_add(y, bias)
        if op.activation is not None:
            y = tf.keras.activations.get(op.activation)(y)
        if p_o is not None and not foldable:
            y = y * tf.cast(p_o, y.dtype)
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
            "max_pool_3x3": lambda: tf.nn.max_pool2d(x, **window),
            "avg_pool_3x3": lambda: tf.nn.avg_pool2d(x, **window),
        }
        return [pools[pool]() for pool in self._pools]

    @property
    @override
    def cheap_to_recompute(self) -> bool:
        return True

    @override
    def call(
        self, x: tf.Tensor, p: tf.Tensor | None = None, training: bool | None = None
    ) -> list[tf.Tensor]:
        bases = self.bases(x)
        if p is None:
            terms = [
                apply_function(name, base)
                for base, names in zip(bases, self.functions)
                for name in names
            ]
            return [add(terms)] * self.fan_out
        return mix(bases, self.functions, tf.gather(p, self._op_indices))

    @override
    def terms(self, x: tf.Tensor, p: tf.Tensor | None = None) -> list[list[Term]]:
        bases = tuple(self.bases(x))
        if p is None:
            p = tf.ones([len(self._op_indices), self.fan_out], x.dtype)
        columns = tf.unstack(tf.gather(p, self._op_indices), axis=1)
        return [[MixtureTerm(bases, self.functions, p_t)] for p_t in columns]


class LayerBank(Bank):
    """An op of the user's: a layer for each target.

    Args:
      op: its name.
      layers: n of them.
    """

    def __init__(self, op: str, layers: Sequence[tf.keras.layers.Layer], **kwargs: Any) -> None:
        super().__init__(len(layers), **kwargs)
        self.layers = list(layers)
        self._op = op
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
        keywords = {"training": training} if self._takes_training else {}
        # Some layers have a policy of their own, whatever that of the network.
        with naming(f"op {self._op!r}"):
            results = [tf.cast(layer(x, **keywords), x.dtype) for layer in self.layers]
        if p is None:
            return results
        return [tf.cast(p_t, y.dtype) * y for p_t, y in zip(tf.unstack(p[0]), results)]

    @override
    def edge_variables(self, op_index: int, target: int) -> list[Any]:
        return self.layers[target].get_weights()

    @override
    def set_edge_variables(self, op_index: int, target: int, values: Sequence[Any]) -> None:
        self.layers[target].set_weights(values)
