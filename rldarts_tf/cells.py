"""A cell: a small directed acyclic graph of ops, of a supernet or of a discrete network.

Both are the same class. A cell has a topology, per node j its incoming edges (i, op); in a supernet
that is every op on every edge i < j and the caller gives the op weights, in a discrete network it
is the genotype's and all weights are one:

    x_j = Σ_{(i, o) -> j} p_o^(i,j) · o(x_i)                     (RL-DARTS section 3.1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import CellTopology
from rldarts_tf.kernels.banks import (
    Bank,
    ConvolutionBank,
    ConvolutionSettings,
    Deferred,
    LayerBank,
    ParameterFreeBank,
    add,
    total,
)
from rldarts_tf.kernels.precision import Conv2D
from rldarts_tf.kernels.recompute import recomputing
from rldarts_tf.ops import Convolution, ParameterFree, make_op
from rldarts_tf.search_space import OUTPUT_MODES, edge_row


@dataclasses.dataclass(frozen=True)
class _FanOut:
    """What leaves one node by one kind of op: computed together.

    Attributes:
      bank: computes it.
      source: the node.
      ops: the ops that the bank computes, in its order.
      targets: the nodes that receive the results, in the bank's order.
    """

    bank: Bank
    source: int
    ops: tuple[str, ...]
    targets: tuple[int, ...]


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class Cell(tf.keras.layers.Layer):
    """Images [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters].

    Args:
      topology: per node j = 1..I its edges (i, op), i < j.
      filters: channels of every node. An input of another number of channels goes through a
        Conv1x1 first.
      stride: 1 for a normal cell. 2 for a reduction cell: it holds for the edges that leave node 0.
      output_mode: "concat" (Conv1x1 over the depthwise concatenation of all nodes), "last" (the
        last node), "sum", "average", or "weighted_sum" (weights are learned, 1 / I at first).
      normalization: of the convolutions: None, "layer" or "batch".
      op_columns: for a supernet, the ops in the order of the columns of the op weights.
      recompute: hold only the nodes' values for the backward pass and compute the rest again there:
        least memory, at the cost of one more forward pass of the ops that are not linear.

    Raises:
      ConfigError: an argument is not valid.
    """

    def __init__(
        self,
        topology: CellTopology,
        filters: int,
        stride: int = 1,
        output_mode: str = "concat",
        normalization: str | None = None,
        op_columns: Sequence[str] | None = None,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if output_mode not in OUTPUT_MODES:
            raise ConfigError(f"output_mode must be one of {OUTPUT_MODES}, got {output_mode!r}")
        if filters < 1:
            raise ConfigError(f"filters must be at least 1, got {filters}")
        if stride not in (1, 2):
            raise ConfigError(f"stride must be 1 or 2, got {stride}")
        self.topology = tuple(tuple((int(i), str(op)) for i, op in node) for node in topology)
        self.filters = filters
        self.stride = stride
        self.output_mode = output_mode
        self.normalization = normalization
        self.op_columns = None if op_columns is None else tuple(op_columns)
        self.num_nodes = len(self.topology)
        self._adapter: tf.keras.layers.Layer | None = None
        self.recompute = recompute
        self._fan_outs = [
            fan_out for source in range(self.num_nodes) for fan_out in self._make_fan_outs(source)
        ]
        # Keras tracks layers in attributes and lists, not inside the helper objects.
        self.banks = [fan_out.bank for fan_out in self._fan_outs]
        if recompute and self.uses_training:
            raise ConfigError(
                "recompute: not with batch normalization or other ops that depend on `training`, "
                "which would run twice"
            )
        self._output_conv = (
            Conv2D(filters, 1, name="output_conv", dtype=self.dtype_policy)
            if output_mode == "concat"
            else None
        )

    def _make_fan_outs(self, source: int) -> list[_FanOut]:
        """Groups the edges that leave a node: ops of one kind with the same targets."""
        targets_of: dict[str, tuple[int, ...]] = {}
        for j, node in enumerate(self.topology, start=1):
            for i, op in node:
                if i == source:
                    targets_of[op] = (*targets_of.get(op, ()), j)
        stride = self.stride if source == 0 else 1
        convolutions: dict[tuple[int, ...], dict[str, ConvolutionSettings]] = {}
        functions: dict[tuple[int, ...], dict[str, str]] = {}
        fan_outs: list[_FanOut] = []

        def keywords() -> dict[str, Any]:
            return {"name": f"bank_{source}_{len(fan_outs)}", "dtype": self.dtype_policy}

        def make(op: str) -> tf.keras.layers.Layer:
            return make_op(op, self.filters, stride, self.normalization, self.dtype_policy)

        def append(bank: Bank, ops: Iterable[str], targets: tuple[int, ...]) -> None:
            fan_outs.append(_FanOut(bank, source, tuple(ops), targets))

        for op, targets in targets_of.items():
            layer = make(op)
            if isinstance(layer, Convolution):
                convolutions.setdefault(targets, {})[op] = layer.settings
            elif isinstance(layer, ParameterFree):
                functions.setdefault(targets, {})[op] = layer.function
            else:
                others = [make(op) for _ in targets[1:]]
                append(LayerBank([layer, *others], **keywords()), [op], targets)
        for targets, names in functions.items():
            bank = ParameterFreeBank([*names.values()], stride, len(targets), **keywords())
            append(bank, names, targets)
        for targets, settings in convolutions.items():
            wide = ConvolutionBank(
                [*settings.values()], self.filters, stride, len(targets), **keywords()
            )
            append(wide, settings, targets)
        return fan_outs

    def build(self, input_shape: Any) -> None:
        """Makes the variables, and the Conv1x1 that adapts the input where one is needed."""
        if int(input_shape[-1]) != self.filters:
            self._adapter = Conv2D(self.filters, 1, name="adapter", dtype=self.dtype_policy)
        if self.output_mode == "weighted_sum":
            self.output_weights = self.add_weight(
                name="output_weights",
                shape=(self.num_nodes,),
                initializer=tf.keras.initializers.Constant(1.0 / self.num_nodes),
            )
        # Built here, for they may be used without being called.
        for bank in self.banks:
            with tf.name_scope(bank.name):
                bank.build((*input_shape[:-1], self.filters))
        super().build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        op_weights: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """The cell's output.

        Args:
          x: images [B, H, W, C].
          op_weights: p, float [E, |O|]: a row per edge in the order of `search_space.edge_row`, a
            column per op of `op_columns`. None: every weight is one.
          training: passed to normalizations.
        """
        if op_weights is not None and self.op_columns is None:
            raise ConfigError("this cell has no op_columns: it takes no op_weights")
        if self._adapter is not None:
            x = self._adapter(x)
        if self.recompute or (op_weights is not None and self._is_linear):
            run = recomputing(self._nodes_by_target, self._leaving, self._output)
            return run(x, *([] if op_weights is None else [op_weights]))
        nodes = self._nodes(
            x, lambda source, node: self._leaving(source, node, op_weights, training), add
        )
        return self._output(nodes[1:])

    @property
    def _is_linear(self) -> bool:
        """Whether the cell has only linear convolutions and ops without weights."""
        return all(
            bank.is_linear
            if isinstance(bank, ConvolutionBank)
            else isinstance(bank, ParameterFreeBank)
            for bank in self.banks
        )

    def _leaving(
        self,
        source: int,
        x: tf.Tensor,
        op_weights: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> list[tuple[int, tf.Tensor]]:
        """(j, what node j receives) of all edges that leave a node."""
        return self._each_target(
            source, op_weights, lambda bank, weights: bank(x, weights, training=training)
        )

    def _each_target(
        self,
        source: int,
        op_weights: tf.Tensor | None,
        compute: Callable[[Bank, tf.Tensor | None], list[Any]],
    ) -> list[tuple[int, Any]]:
        """(j, part) of all banks of a node, whose parts `compute` gives from their weights."""
        return [
            (target, part)
            for fan_out in self._fan_outs
            if fan_out.source == source
            for target, part in zip(
                fan_out.targets, compute(fan_out.bank, self._weights_of(fan_out, op_weights))
            )
        ]

    def _nodes_by_target(
        self, x: tf.Tensor, op_weights: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """x_0, ..., x_I, where what is cheaper so is computed for each target, from all sources.

        Linear convolutions with one target are one convolution of the concatenated sources, and
        ops without weights are evaluated while they are summed.
        """

        def leaving(source: int, x: tf.Tensor) -> list[tuple[int, Deferred]]:
            return self._each_target(
                source, op_weights, lambda bank, weights: bank.deferred(x, weights)
            )

        return self._nodes(x, leaving, total)

    def _nodes(
        self,
        x: tf.Tensor,
        leaving: Callable[[int, tf.Tensor], list[tuple[int, Any]]],
        sum_up: Callable[[list[Any]], tf.Tensor],
    ) -> list[tf.Tensor]:
        """x_0, ..., x_I: a node is the sum of what leaves the nodes before it for it."""
        nodes = [x]
        incoming: list[list[Any]] = [[] for _ in range(self.num_nodes + 1)]
        for source in range(self.num_nodes):
            for target, part in leaving(source, nodes[source]):
                incoming[target].append(part)
            nodes.append(sum_up(incoming[source + 1]))
        return nodes

    def _weights_of(self, fan_out: _FanOut, op_weights: tf.Tensor | None) -> tf.Tensor | None:
        """The weights [ops, targets] of a fan-out, or None."""
        if op_weights is None:
            return None
        columns = self.op_columns or ()
        indices = [
            [(edge_row(fan_out.source, j), columns.index(op)) for j in fan_out.targets]
            for op in fan_out.ops
        ]
        return tf.gather_nd(op_weights, indices)

    def _output(self, nodes: Sequence[tf.Tensor]) -> tf.Tensor:
        if self.output_mode == "last":
            return nodes[-1]
        if self._output_conv is not None:
            return self._output_conv(tf.concat(nodes, axis=-1))
        if self.output_mode == "weighted_sum":
            weights = tf.unstack(tf.cast(self.output_weights, nodes[0].dtype))
            return tf.add_n([w * node for w, node in zip(weights, nodes)])
        y = tf.add_n(nodes)
        return y if self.output_mode == "sum" else y / len(nodes)

    @property
    def uses_training(self) -> bool:
        """Whether batch normalization or an op of the user's asks for `training`."""
        return any(bank.uses_training for bank in self.banks)

    def edge_variables(self, source: int, target: int, op: str) -> list[Any]:
        """θ of one op on one edge as numpy arrays, in the order that `set_edge_variables` takes.

        Raises:
          KeyError: the cell has no such edge.
        """
        bank, op_index, position = self._find(source, target, op)
        return bank.edge_variables(op_index, position)

    def set_edge_variables(self, source: int, target: int, op: str, values: Sequence[Any]) -> None:
        """Assigns θ of one op on one edge; see `edge_variables`."""
        bank, op_index, position = self._find(source, target, op)
        bank.set_edge_variables(op_index, position, values)

    def inherit_weights(self, other: Cell) -> None:
        """Copies from a cell that has all of this one's edges, the same filters and inputs."""
        for j, node in enumerate(self.topology, start=1):
            for i, op in node:
                self.set_edge_variables(i, j, op, other.edge_variables(i, j, op))
        for mine, theirs in (
            (self._adapter, other._adapter),
            (self._output_conv, other._output_conv),
        ):
            if mine is not None and theirs is not None:
                mine.set_weights(theirs.get_weights())
        if self.output_mode == "weighted_sum":
            self.output_weights.assign(other.output_weights)

    def _find(self, source: int, target: int, op: str) -> tuple[Bank, int, int]:
        for fan_out in self._fan_outs:
            if fan_out.source == source and op in fan_out.ops and target in fan_out.targets:
                return fan_out.bank, fan_out.ops.index(op), fan_out.targets.index(target)
        raise KeyError(f"no edge ({source}, {target}) with op {op!r}")

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            **super().get_config(),
            "topology": [[[i, op] for i, op in node] for node in self.topology],
            "filters": self.filters,
            "stride": self.stride,
            "output_mode": self.output_mode,
            "normalization": self.normalization,
            "op_columns": None if self.op_columns is None else list(self.op_columns),
            "recompute": self.recompute,
        }
