"""What the architectures of a supernet cost, as a table of its ops, and the mean of it under p.

    cost(p) = fixed + Σ_cells Σ_edges Σ_o p_o · cost(o)

of one image, at the depths and the image size of the supernet. `fixed` is of what every
architecture has: stem, adapters, head. For a chain of layers this is the expected cost of the
network that p stands for. For cells the sum is over all edges i < j, also those that Algorithm 4
will drop, and with the output mode "last" those to nodes that the output will not have: the cost
of a cell in which every edge is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rldarts_tf.cells import Cell
from rldarts_tf.devices import splitting
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.kernels.counting import depending_on_images, multiply_adds
from rldarts_tf.ops import make_op
from rldarts_tf.space import NONE, Place, Space


class OpAt(NamedTuple):
    """An op on maps of some size."""

    op: str
    height: int
    width: int
    filters: int
    stride: int


OpCost = Callable[[OpAt], float]


@dataclasses.dataclass(frozen=True)
class CostTable:
    """Costs of the ops of a supernet.

    Attributes:
      ops: per cell type float64 [E, |O|], summed over the cells of the type.
      fixed: of all else.
    """

    ops: Mapping[str, np.ndarray]
    fixed: float

    @functools.cached_property
    def most(self) -> float:
        """The cost of the most expensive architecture, each edge with its most expensive op."""
        return self.fixed + float(sum(costs.max(axis=1).sum() for costs in self.ops.values()))

    @property
    def least(self) -> float:
        """The cost of the cheapest architecture."""
        return self.fixed + float(sum(costs.min(axis=1).sum() for costs in self.ops.values()))

    def share(self, p: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """C = cost(p) / most, a float32 scalar.

        Args:
          p: op weights, per cell type [E, |O|].
        """
        terms = [
            tf.reduce_sum(p[t] * tf.cast(c / self.most, p[t].dtype)) for t, c in self.ops.items()
        ]
        return tf.add_n([tf.constant(self.fixed / self.most, tf.float32), *terms])


def count_layer(make: Callable[[], tf.keras.layers.Layer], shape: Sequence[int]) -> tuple[int, int]:
    """(multiply-adds, parameters) of a layer, or a network, for one image.

    Args:
      make: makes it, without variables.
      shape: (H, W, C) of the image.
    """
    image = tf.TensorSpec((1, *shape), tf.float32)
    with tf.init_scope(), splitting(None):  # Also where a training step is traced.
        layer = make()
        layer(tf.zeros(image.shape))
        graph = tf.function(lambda x: layer(x), autograph=False).get_concrete_function(image).graph
    counted = sum(map(multiply_adds, depending_on_images(graph.get_operations())))
    return counted, sum(math.prod(w.shape) for w in layer.trainable_weights)


def counts(cell: Cell, measure: str) -> OpCost:
    """Costs of ops by count, as a cell makes them.

    Args:
      cell: one of those of a network, which are alike.
      measure: "multiply_adds" or "parameters".
    """

    @functools.cache
    def cost(at: OpAt) -> float:
        def make() -> tf.keras.layers.Layer:
            return make_op(at.op, at.filters, at.stride, cell.normalization, cell.dtype_policy)

        return count_layer(make, (at.height, at.width, at.filters))[measure == "parameters"]

    return cost


def make_table(
    space: Space, cells: Iterable[tuple[Place, Cell]], op_cost: OpCost, fixed: float = 0.0
) -> CostTable:
    """The table of cells that have been built.

    Raises:
      ConfigError: the size of their maps is unknown.
    """
    ops = {t: np.zeros((len(space.edges), len(space.ops(t)))) for t in space.cell_types}
    for place, cell in cells:
        height, width = cell.input_size or (None, None)
        if height is None or width is None:
            raise ConfigError(
                "CostSettings: the size of the images must be known when the supernet is built"
            )
        for row in range(len(space.edges))[place.rows]:
            at_input = place.node is not None or space.edges[row][0] == 0
            stride, inside = (cell.stride, 1) if at_input else (1, cell.stride)
            size = -(-height // inside), -(-width // inside)
            for column, op in enumerate(space.ops(place.cell_type)):
                if op != NONE:
                    at = OpAt(op, *size, cell.filters, stride)
                    ops[place.cell_type][row, column] += op_cost(at)
    return CostTable(ops, fixed)


def of_genotype(table: CostTable, genotype: Genotype, space: Space) -> float:
    """The cost of a genotype's ops, without what is fixed."""
    return float(
        sum(
            table.ops[t][space.edges.index((i, j)), space.ops(t).index(op)]
            for t, cell in genotype.cells.items()
            for j, node in enumerate(cell, start=1)
            for i, op in node
        )
    )


FORMAT_VERSION = 1
"""Of a table of latencies."""


def latencies_as_data(seconds: Mapping[OpAt, float]) -> dict[str, Any]:
    """JSON data, which as the `results` of a benchmark's file `read_latencies` reads."""
    entries = [{**at._asdict(), "seconds": value} for at, value in seconds.items()]
    return {"format_version": FORMAT_VERSION, "ops": entries}


def read_latencies(path: str) -> OpCost:
    """Reads latencies of ops, in seconds, from a file that benchmarks/op_latency.py wrote.

    Raises:
      ConfigError: the file cannot be read or is none; of what it returns: an op is not in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            data: Any = json.load(file)["results"]
        if data["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version must be {FORMAT_VERSION}")
        seconds = {
            OpAt(**{name: entry[name] for name in OpAt._fields}): float(entry["seconds"])
            for entry in data["ops"]
        }
        if not all(0 <= value < math.inf for value in seconds.values()) or not any(
            seconds.values()
        ):
            raise ValueError("seconds must be finite, at least 0, and some above 0")
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(
            f"CostSettings.latency_table: {path!r} is no table of latencies ({error}): "
            "benchmarks/op_latency.py writes one"
        ) from None

    def cost(at: OpAt) -> float:
        if at not in seconds:
            raise ConfigError(
                f"CostSettings.latency_table: {path!r} lacks {at.op} on {at.height} x {at.width} "
                f"maps of {at.filters} channels, stride {at.stride}: write it with "
                "benchmarks/op_latency.py for this search space, these depths and images"
            )
        return seconds[at]

    return cost
