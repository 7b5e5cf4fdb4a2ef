"""A cell: a small directed acyclic graph of ops, of a supernet or of a discrete network.

Both are the same class. A cell has a topology, per node j its incoming edges (i, op); in a supernet
that is every op on every edge i < j and the caller gives the op weights, in a discrete network it
is the genotype's and all weights are one:

    x_j = Σ_{(i, o) -> j} p_o^(i,j) · o(x_i)                     (RL-DARTS section 3.1)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import CellTopology
from rldarts_tf.ops import (
    Convolution,
    ConvolutionBank,
    ParameterFree,
    SeparableConvolution,
    make_op,
)
from rldarts_tf.search_space import OUTPUT_MODES


class _FanOut:
    """What leaves one node by one kind of layer: computed together, then parted by target.

    Attributes:
      layer: the Keras layer that is called once on the node's value.
      ops: the ops that the layer computes.
      targets: the nodes that receive the result.
    """

    def __init__(
        self, layer: tf.keras.layers.Layer, source: int, ops: Iterable[str], targets: Iterable[int]
    ) -> None:
        self.layer = layer
        self.source = source
        self.ops = tuple(ops)
        self.targets = tuple(targets)


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
        self._fan_outs = self._make_fan_outs()
        # Keras tracks layers in attributes and lists, not inside the helper objects.
        self.op_layers = [fan_out.layer for fan_out in self._fan_outs]
        self._output_conv = (
            tf.keras.layers.Conv2D(filters, 1, name="output_conv")
            if output_mode == "concat"
            else None
        )

    def _make_fan_outs(self) -> list[_FanOut]:
        """Groups the edges: same source and same targets, so that they can be computed together."""
        fan_outs = []
        for source in range(self.num_nodes):
            targets_of: dict[str, list[int]] = {}
            for j, node in enumerate(self.topology, start=1):
                for i, op in node:
                    if i == source:
                        targets_of.setdefault(op, []).append(j)
            stride = self.stride if source == 0 else 1
            banks: dict[tuple[int, ...], list[tuple[str, Convolution]]] = {}
            for op, targets in targets_of.items():
                layer = make_op(op, self.filters, stride, self.normalization)
                if isinstance(layer, Convolution):
                    banks.setdefault(tuple(targets), []).append((op, layer))
                elif isinstance(layer, ParameterFree):
                    fan_outs.append(_FanOut(layer, source, [op], targets))
                else:
                    fan_outs.append(_FanOut(layer, source, [op], targets[:1]))
                    fan_outs += [
                        _FanOut(
                            make_op(op, self.filters, stride, self.normalization),
                            source,
                            [op],
                            [target],
                        )
                        for target in targets[1:]
                    ]
            for bank_targets, members in banks.items():
                bank = ConvolutionBank(
                    [layer for _, layer in members],
                    fan_out=len(bank_targets),
                    name=f"bank_{source}_{len(fan_outs)}",
                )
                fan_outs.append(_FanOut(bank, source, [op for op, _ in members], bank_targets))
        return fan_outs

    def build(self, input_shape: Any) -> None:
        """Makes the Conv1x1 that adapts the input, where one is needed."""
        if int(input_shape[-1]) != self.filters:
            self._adapter = tf.keras.layers.Conv2D(self.filters, 1, name="adapter")
        if self.output_mode == "weighted_sum":
            self.output_weights = self.add_weight(
                name="output_weights",
                shape=(self.num_nodes,),
                initializer=tf.keras.initializers.Constant(1.0 / self.num_nodes),
            )
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
          op_weights: p, float [E, |O|]: a row per edge (i, j) in the order (0,1), (0,2), (1,2),
            (0,3), ..., a column per op of `op_columns`. None: every weight is one.
          training: passed to normalizations.
        """
        if self._adapter is not None:
            x = self._adapter(x)
        nodes = [x]
        incoming: list[list[tf.Tensor]] = [[] for _ in range(self.num_nodes + 1)]
        by_source = iter(self._fan_outs)
        fan_out = next(by_source, None)
        for source in range(self.num_nodes):
            while fan_out is not None and fan_out.source == source:
                weights = self._weights_of(fan_out, op_weights)
                parts = self._run(fan_out, nodes[source], weights, training)
                for target, part in zip(fan_out.targets, parts):
                    incoming[target].append(part)
                fan_out = next(by_source, None)
            node = incoming[source + 1]
            nodes.append(tf.add_n(node) if len(node) > 1 else node[0])
        return self._output(nodes[1:])

    def _weights_of(self, fan_out: _FanOut, op_weights: tf.Tensor | None) -> tf.Tensor | None:
        """The weights [ops, targets] of a fan-out, or None."""
        if op_weights is None:
            return None
        if self.op_columns is None:
            raise ConfigError("this cell has no op_columns: it takes no op_weights")
        indices = [
            [(edge_row(fan_out.source, j), self.op_columns.index(op)) for j in fan_out.targets]
            for op in fan_out.ops
        ]
        return tf.gather_nd(op_weights, indices)

    @staticmethod
    def _run(
        fan_out: _FanOut, x: tf.Tensor, weights: tf.Tensor | None, training: bool | None
    ) -> list[tf.Tensor]:
        """What each target receives."""
        layer = fan_out.layer
        if isinstance(layer, ConvolutionBank):
            wide = layer(x, weights, training=training)
            return tf.split(wide, len(fan_out.targets), axis=-1)
        y = layer(x) if isinstance(layer, ParameterFree) else _call(layer, x, training)
        if weights is None:
            return [y] * len(fan_out.targets)
        return [tf.cast(w, y.dtype) * y for w in tf.unstack(weights[0])]

    def _output(self, nodes: list[tf.Tensor]) -> tf.Tensor:
        if self.output_mode == "last":
            return nodes[-1]
        if self._output_conv is not None:
            return self._output_conv(tf.concat(nodes, axis=-1))
        if self.output_mode == "weighted_sum":
            weights = tf.unstack(tf.cast(self.output_weights, nodes[0].dtype))
            return tf.add_n([w * node for w, node in zip(weights, nodes)])
        total = tf.add_n(nodes)
        return total if self.output_mode == "sum" else total / len(nodes)

    @property
    def uses_training(self) -> bool:
        """Whether batch normalization or an op of the user's asks for `training`."""
        own = (ConvolutionBank, ParameterFree, SeparableConvolution)
        return self.normalization == "batch" or any(
            _takes_training(layer) for layer in self.op_layers if not isinstance(layer, own)
        )

    def edge_weights(self, source: int, target: int, op: str) -> list[Any]:
        """The numpy weights of one op on one edge, in the order that `set_edge_weights` takes.

        Raises:
          KeyError: the cell has no such edge.
        """
        layer, op_index, position = self._find(source, target, op)
        if isinstance(layer, ConvolutionBank):
            return layer.edge_weights(op_index, position)
        return layer.get_weights()

    def set_edge_weights(self, source: int, target: int, op: str, values: Sequence[Any]) -> None:
        """Assigns the weights of one op on one edge; see `edge_weights`."""
        layer, op_index, position = self._find(source, target, op)
        if isinstance(layer, ConvolutionBank):
            layer.set_edge_weights(op_index, position, values)
        else:
            layer.set_weights(values)

    def inherit_weights(self, other: Cell) -> None:
        """Copies from a cell that has all of this one's edges, the same filters and inputs."""
        for j, node in enumerate(self.topology, start=1):
            for i, op in node:
                self.set_edge_weights(i, j, op, other.edge_weights(i, j, op))
        for mine, theirs in (
            (self._adapter, other._adapter),
            (self._output_conv, other._output_conv),
        ):
            if mine is not None and theirs is not None:
                mine.set_weights(theirs.get_weights())
        if self.output_mode == "weighted_sum":
            self.output_weights.assign(other.output_weights)

    def _find(self, source: int, target: int, op: str) -> tuple[tf.keras.layers.Layer, int, int]:
        for fan_out in self._fan_outs:
            if fan_out.source == source and op in fan_out.ops and target in fan_out.targets:
                return fan_out.layer, fan_out.ops.index(op), fan_out.targets.index(target)
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
        }


def edge_row(source: int, target: int) -> int:
    """The row of edge (source, target) in op weights [E, |O|]: nodes in order, then inputs."""
    return target * (target - 1) // 2 + source


def _call(layer: tf.keras.layers.Layer, x: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Calls a layer of the user's, with `training` if it knows that argument."""
    return layer(x, training=training) if _takes_training(layer) else layer(x)


def _takes_training(layer: tf.keras.layers.Layer) -> bool:
    return "training" in layer._call_spec.arg_names
