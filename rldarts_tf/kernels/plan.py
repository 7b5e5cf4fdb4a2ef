"""The plan of a cell: which edges are computed together, and where each of them is found again.

An edge is (i, j, op): an op from node i to node j > i. Edges that leave the same node by ops of the
same kind, to the same targets, form a *fan-out*, which one bank computes (`kernels.banks`).
Nothing here needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rldarts_tf.genotype import CellTopology
from rldarts_tf.search_space import edge_row


class Kind(enum.IntEnum):
    """The ways to compute an op for several targets, in the order of a node's fan-outs.

    LAYER: one layer per target, and one fan-out per op. PARAMETER_FREE: once for all targets.
    CONVOLUTION: the kernels of all targets side by side in a wide one.
    """

    LAYER = 0
    PARAMETER_FREE = 1
    CONVOLUTION = 2


@dataclasses.dataclass(frozen=True)
class FanOut:
    """All edges from one node by each of `ops` to each of `targets`.

    Attributes:
      source: i.
      kind: of its ops.
      ops: in the order in which the bank has them.
      targets: the nodes j, likewise.
    """

    source: int
    kind: Kind
    ops: tuple[str, ...]
    targets: tuple[int, ...]

    def places(self, op_columns: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Per op and target the (row, column) of the edge's weight in p [E, |O|].

        Args:
          op_columns: the ops in the order of the columns of p.
        """
        return [
            [(edge_row(self.source, j), op_columns.index(op)) for j in self.targets]
            for op in self.ops
        ]


class Address(NamedTuple):
    """The place of an edge: index of the fan-out in the plan, of the op and the target in that."""

    fan_out: int
    op: int
    target: int


def targets_by_op(topology: CellTopology) -> dict[tuple[int, str], tuple[int, ...]]:
    """(i, op) -> the targets of the op's edges from node i.

    In the order of i; the ops of a node as the topology first names them.
    """
    targets: dict[tuple[int, str], tuple[int, ...]] = {}
    for source in range(len(topology)):
        for j, node in enumerate(topology, start=1):
            for i, op in node:
                if i == source:
                    targets[i, op] = (*targets.get((i, op), ()), j)
    return targets


def make_plan(topology: CellTopology, kinds: Mapping[tuple[int, str], Kind]) -> tuple[FanOut, ...]:
    """The fan-outs of a cell, by source and then by kind; each edge is in exactly one.

    Args:
      topology: per node j = 1..I its edges (i, op).
      kinds: of the ops (i, op) of `targets_by_op`.
    """
    members: dict[tuple[int, Kind, tuple[int, ...], str], list[str]] = {}
    for (source, op), targets in targets_by_op(topology).items():
        kind = kinds[source, op]
        alone = op if kind is Kind.LAYER else ""
        members.setdefault((source, kind, targets, alone), []).append(op)
    fan_outs = [
        FanOut(source, kind, tuple(ops), targets)
        for (source, kind, targets, _), ops in members.items()
    ]
    return tuple(sorted(fan_outs, key=lambda fan_out: (fan_out.source, fan_out.kind)))


def find_edge(plan: Sequence[FanOut], source: int, target: int, op: str) -> Address:
    """The address of an edge.

    Raises:
      KeyError: the plan has no such edge.
    """
    for index, fan_out in enumerate(plan):
        if fan_out.source == source and op in fan_out.ops and target in fan_out.targets:
            return Address(index, fan_out.ops.index(op), fan_out.targets.index(target))
    raise KeyError(f"no edge ({source}, {target}) with op {op!r}")
