"""A supernet computed edge by edge and op by op: what the fast cells are compared with.

It is the same function of the same weights, evaluated by the oracle of the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from typing_extensions import override

import rldarts_tf
from rldarts_tf.search_space import NONE

# The oracle belongs to the tests, which are no package. Appended: their other modules must not
# stand in front of anything.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import reference

MIXES = ("stack", "sum")

Edges = Mapping[tuple[int, int, str], Sequence[Any]]
"""(i, j, op) -> the variables of the op on that edge."""


class PlainSupernet:
    """The function of a supernet, with variables of its own for each op on each edge.

    α and the layers outside the cells are those of the supernet.

    Args:
      supernet: built, without normalization; its weights are copied.
      mix: "sum", Σ_o p_o o(x) term by term, or "stack", the form of the authors' release: see
        `stacked_cell`.
    """

    def __init__(self, supernet: rldarts_tf.Supernet, mix: str = "sum") -> None:
        if mix not in MIXES:
            raise ValueError(f"mix must be one of {MIXES}, got {mix!r}")
        if supernet.normalization is not None:
            raise ValueError("a supernet with normalization has no plain form here")
        self._supernet = supernet
        self._cell = stacked_cell if mix == "stack" else reference.reference_cell
        self._own: list[tf.Variable] = []
        self._edges = {cell.name: self._copy_edges(cell) for cell in supernet.cells}
        self._adapters = {cell.name: self._copy_layer(cell._adapter) for cell in supernet.cells}
        self._outputs = {cell.name: self._copy_output(cell) for cell in supernet.cells}

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The copies, α, and the weights outside the cells."""
        supernet = self._supernet
        shared = [layer for layer in supernet._stack if not isinstance(layer, rldarts_tf.Cell)]
        return [
            *supernet.alpha.trainable_weights,
            *(w for layer in (*shared, supernet._dense) for w in layer.trainable_weights),
            *self._own,
        ]

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Images [B, H, W, C] -> features [B, D]."""
        supernet = self._supernet
        op_weights = self._cast(supernet.alpha.op_weights())
        x = supernet._as_float(images)
        for place, layer in zip(supernet._plan.places, supernet._stack):
            if isinstance(layer, rldarts_tf.Cell):
                x = self._cell(
                    x,
                    self._cast(self._edges[layer.name]),
                    op_weights[place.cell_type][place.rows],
                    layer.op_columns,
                    layer.num_nodes,
                    layer.stride,
                    layer.output_mode,
                    self._cast(self._adapters[layer.name]),
                    self._cast(self._outputs[layer.name]),
                )
            else:
                x = layer(x)
        return supernet._dense(tf.nn.relu(supernet._flat(x)))

    def _copy_edges(self, cell: rldarts_tf.Cell) -> Edges:
        return {
            (i, j, op): self._copies(cell.edge_variables(i, j, op))
            for j, node in enumerate(cell.topology, start=1)
            for i, op in node
        }

    def _copy_layer(self, layer: tf.keras.layers.Layer | None) -> list[tf.Variable] | None:
        return None if layer is None else self._copies(layer.get_weights())

    def _copy_output(self, cell: rldarts_tf.Cell) -> list[tf.Variable]:
        if cell.output_mode == "weighted_sum":
            return self._copies([cell.output_weights.numpy()])
        return self._copy_layer(cell._output_conv) or []

    def _copies(self, values: Sequence[Any]) -> list[tf.Variable]:
        copies = [tf.Variable(value) for value in values]
        self._own += copies
        return copies

    def _cast(self, variables: Any) -> Any:
        dtype = self._supernet.compute_dtype
        return tf.nest.map_structure(lambda v: None if v is None else tf.cast(v, dtype), variables)


class PlainEncoder(rldarts_tf.Supernet):
    """A supernet that an agent trains in its plain form: it is built, and its weights are copied.

    Args:
      image_shape: (height, width, channels).
      mix: see `PlainSupernet`.
      *args: arguments of `Supernet`.
      **kwargs: arguments of `Supernet`.
    """

    def __init__(self, image_shape: Sequence[int], mix: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plain: PlainSupernet | None = None
        self.build((None, *image_shape))
        self._plain = PlainSupernet(self, mix)

    @override
    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return super().call(images, training) if self._plain is None else self._plain(images)

    @property
    @override
    def trainable_weights(self) -> list[tf.Variable]:
        return super().trainable_weights if self._plain is None else self._plain.trainable_weights


def stacked_cell(
    x: tf.Tensor,
    edge_variables: Edges,
    op_weights: tf.Tensor,
    ops: Sequence[str],
    num_nodes: int,
    stride: int,
    output_mode: str,
    adapter: Sequence[tf.Tensor] | None,
    output_variables: Sequence[tf.Tensor],
) -> tf.Tensor:
    """A supernet cell in the form of the authors' release; arguments as of `reference_cell`.

    On every edge the outputs of all ops, zeros for `none` among them, are stacked on a new last
    axis, multiplied by the op weights and reduced. A node adds its edges.
    """
    if output_mode != "concat":
        raise ValueError(f"the stacked form is written for output mode 'concat', not {output_mode}")
    if adapter is not None:
        x = tf.nn.bias_add(tf.nn.convolution(x, adapter[0]), adapter[1])
    nodes = [x]
    rows = iter(tf.unstack(op_weights))
    for j in range(1, num_nodes + 1):
        edges = []
        for i in range(j):
            outputs = {
                op: reference.reference_op(
                    op, nodes[i], edge_variables[i, j, op], stride if i == 0 else 1
                )
                for op in ops
                if op != NONE
            }
            if NONE in ops:
                outputs[NONE] = tf.zeros_like(next(iter(outputs.values())))
            stacked = tf.stack([outputs[op] for op in ops], axis=-1)
            edges.append(tf.reduce_sum(stacked * next(rows), axis=-1))
        nodes.append(tf.add_n(edges))
    kernel, bias = output_variables
    return tf.nn.bias_add(tf.nn.convolution(tf.concat(nodes[1:], axis=-1), kernel), bias)
