"""A cell: a small directed acyclic graph of ops, of a supernet or of a discrete network.

Both are the same class. A cell has a topology, per node j its incoming edges (i, op); in a supernet
that is every op on every edge i < j and the caller gives the op weights, in a discrete network it
is the genotype's and all weights are one:

    x_j = Σ_{(i, o) -> j} p_o^(i,j) · o(x_i)                     (RL-DARTS section 3.1)

How that is computed, and why so, stands in `rldarts_tf.kernels`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import CellTopology
from rldarts_tf.kernels import evaluate
from rldarts_tf.kernels.banks import Bank, ConvolutionBank, LayerBank, ParameterFreeBank
from rldarts_tf.kernels.plan import FanOut, Kind, find_edge, make_plan, targets_by_op
from rldarts_tf.kernels.precision import Conv2D
from rldarts_tf.ops import Convolution, ParameterFree, make_op
from rldarts_tf.search_space import OUTPUT_MODES


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
      unit_ops: bring the output of every op on every edge to root mean square 1 per image, without
        a gain: op weights are then comparable.
      partial: ops see the first 1 / partial of a node's channels, the rest passes them by.
      recompute: hold only the nodes' values for the backward pass and compute the rest again there:
        least memory, at the cost of one more forward pass of the ops that are not linear.

    Attributes:
      input_size: (H, W) of the images that it was built for, None where unknown; None before.

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
        unit_ops: bool = False,
        partial: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if output_mode not in OUTPUT_MODES:
            raise ConfigError(f"output_mode must be one of {OUTPUT_MODES}, got {output_mode!r}")
        if filters < 1:
            raise ConfigError(f"filters must be at least 1, got {filters}")
        if partial < 1 or filters % partial:
            raise ConfigError(f"filters = {filters} must be a multiple of partial = {partial}")
        if stride not in (1, 2):
            raise ConfigError(f"stride must be 1 or 2, got {stride}")
        self.topology = tuple(tuple((int(i), str(op)) for i, op in node) for node in topology)
        self.filters = filters
        self.stride = stride
        self.output_mode = output_mode
        self.normalization = normalization
        self.op_columns = None if op_columns is None else tuple(op_columns)
        self.num_nodes = len(self.topology)
        self.recompute = recompute
        self.unit_ops = unit_ops
        self.partial = partial
        self._plan, self.banks = _plan_and_banks(
            self.topology, filters // partial, stride, normalization, unit_ops, self.dtype_policy
        )
        if recompute and self.uses_training:
            raise ConfigError(
                "recompute: not with batch normalization or other ops that depend on `training`, "
                "which would run twice"
            )
        self._adapter: tf.keras.layers.Layer | None = None
        self._output_conv = (
            Conv2D(filters, 1, name="output_conv", dtype=self.dtype_policy)
            if output_mode == "concat"
            else None
        )
        self.output_weights: tf.Variable | None = None
        self.input_size: tuple[int | None, int | None] | None = None

    def build(self, input_shape: Any) -> None:
        """Makes the variables, and the Conv1x1 that adapts the input where one is needed."""
        self.input_size = (input_shape[1], input_shape[2])
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
                bank.build((*input_shape[:-1], self.filters // self.partial))
        super().build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        op_weights: tf.Tensor | None = None,
        training: bool | None = None,
        active: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the cell's output.

        Args:
          x: images [B, H, W, C].
          op_weights: p, float [E, |O|]: a row per edge in the order of `Space.edges`, a
            column per op of `op_columns`. None: every weight is one.
          training: passed to normalizations.
          active: the ops to compute, bool [k, E, |O|]: k layers of at most one op per edge; None:
            all. XLA computes all the same. Then `recompute` has no effect.
        """
        if op_weights is not None and self.op_columns is None:
            raise ConfigError("this cell has no op_columns: it takes no op_weights")
        x, parts = self._adapted(x), self._parts()
        if active is not None and op_weights is not None and not evaluate.in_xla():
            nodes = evaluate.by_selection(x, parts, op_weights, active, training)
            return evaluate.output(nodes, parts)
        cheap = all(bank.cheap_to_recompute for bank in self.banks)
        if self.partial == 1 and (self.recompute or (op_weights is not None and cheap)):
            return evaluate.recomputed(x, parts, op_weights)
        nodes = evaluate.by_source(x, parts, op_weights, training)
        return evaluate.output(nodes, parts)

    def contributions(self, x: tf.Tensor, op_weights: tf.Tensor) -> tf.Tensor:
        """RMS(p_o · o(x_i)) / RMS(x_j) of every op on every edge (i, j): float32 [E, |O|].

        Arguments: see `call`.
        """
        return evaluate.contributions(self._adapted(x), self._parts(), op_weights)

    def _adapted(self, x: tf.Tensor) -> tf.Tensor:
        return x if self._adapter is None else self._adapter(x)

    def _parts(self) -> evaluate.Parts:
        return evaluate.Parts(
            self.num_nodes,
            self._plan,
            self.banks,
            self.op_columns or (),
            self.output_mode,
            self.stride,
            self._output_conv,
            self.output_weights,
            self.partial,
        )

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
        if self.output_weights is not None:
            self.output_weights.assign(other.output_weights)

    def _find(self, source: int, target: int, op: str) -> tuple[Bank, int, int]:
        """The bank of an edge, and the places of the op and of the target in it."""
        address = find_edge(self._plan, source, target, op)
        return self.banks[address.fan_out], address.op, address.target

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`."""
        return {
            **super().get_config(),
            "topology": [[[i, op] for i, op in node] for node in self.topology],
            "filters": self.filters,
            "stride": self.stride,
            "output_mode": self.output_mode,
            "normalization": self.normalization,
            "op_columns": None if self.op_columns is None else list(self.op_columns),
            "recompute": self.recompute,
            "unit_ops": self.unit_ops,
            "partial": self.partial,
        }


def _plan_and_banks(
    topology: CellTopology,
    filters: int,
    stride: int,
    normalization: str | None,
    unit_ops: bool,
    policy: tf.keras.mixed_precision.Policy,
) -> tuple[tuple[FanOut, ...], list[Bank]]:
    """The fan-outs of a cell, and the bank of each. Arguments: see `Cell`."""
    strides = [stride, *(1 for _ in topology[1:])]  # by source
    # Per op that leaves a node a layer for each target; just one where a bank takes their place.
    layers: dict[tuple[int, str], list[tf.keras.layers.Layer]] = {}
    for (source, op), targets in targets_by_op(topology).items():
        arguments = (op, filters, strides[source], normalization, policy)
        layers[source, op] = [make_op(*arguments)]
        if _kind(layers[source, op][0]) is Kind.LAYER:
            layers[source, op] += [make_op(*arguments) for _ in targets[1:]]
            for place, layer in enumerate(layers[source, op]):
                # Keras' own number tells how many such layers the process had made before, and
                # PPO's optimizer knows variables by the order of their names.
                layer._name = f"layer_{place:02}"
    plan = make_plan(topology, {key: _kind(of_op[0]) for key, of_op in layers.items()})
    banks = []
    for source, fan_outs in itertools.groupby(plan, key=lambda fan_out: fan_out.source):
        for place, fan_out in enumerate(fan_outs):
            of_ops = [layers[source, op] for op in fan_out.ops]
            keywords = {"name": f"bank_{source}_{place}", "unit_ops": unit_ops, "dtype": policy}
            banks.append(_make_bank(fan_out, of_ops, filters, strides[source], **keywords))
    return plan, banks


def _make_bank(
    fan_out: FanOut,
    layers: Sequence[Sequence[tf.keras.layers.Layer]],
    filters: int,
    stride: int,
    **kwargs: Any,
) -> Bank:
    """The bank of a fan-out.

    Args:
      fan_out: what it computes.
      layers: per op its layers.
      filters: channels of each target.
      stride: 1 or 2.
      **kwargs: of the Keras layer that a bank is.
    """
    if fan_out.kind is Kind.CONVOLUTION:
        settings = [layer.settings for layer, *_ in layers]
        return ConvolutionBank(settings, filters, stride, len(fan_out.targets), **kwargs)
    if fan_out.kind is Kind.PARAMETER_FREE:
        functions = [layer.function for layer, *_ in layers]
        return ParameterFreeBank(functions, stride, len(fan_out.targets), **kwargs)
    [of_targets], [op] = layers, fan_out.ops
    return LayerBank(op, of_targets, filters, stride, **kwargs)


def _kind(layer: tf.keras.layers.Layer) -> Kind:
    if isinstance(layer, Convolution):
        return Kind.CONVOLUTION
    return Kind.PARAMETER_FREE if isinstance(layer, ParameterFree) else Kind.LAYER
