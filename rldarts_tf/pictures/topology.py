"""The cells of a genotype as text, and which of their nodes count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Nodes = Sequence[Sequence[tuple[int, str]]]
"""A cell: per node j = 1..I, its edges (input i < j, op)."""


class DrawableGenotype(Protocol):
    """The part of `rldarts_tf.genotype.Genotype` that pictures read; ops need not be registered.

    Where there is `space` too, the colours are those of all ops that it has.
    """

    @property
    def search_space(self) -> str:
        """Name of the search space."""

    @property
    def cells(self) -> Mapping[str, tuple[tuple[tuple[int, str], ...], ...]]:
        """Per cell type, per node j = 1..I, its edges (input i < j, op)."""

    @property
    def output_mode(self) -> str:
        """Output mode of the cells; `last`: the last node alone is the output."""


def output_inputs(nodes: Nodes, output_mode: str) -> list[int]:
    """Returns the nodes that the cell's output is made of."""
    return [len(nodes)] if output_mode == "last" else list(range(1, len(nodes) + 1))


def live_nodes(nodes: Nodes, output_mode: str) -> set[int]:
    """Returns the nodes (0 is the input) from which a path leads to the output."""
    live = set(output_inputs(nodes, output_mode))
    for j in range(len(nodes), 0, -1):
        if j in live:
            live.update(i for i, _ in nodes[j - 1])
    return live


def mode_name(output_mode: str) -> str:
    """Returns an output mode in words."""
    return output_mode.replace("_", " ")


def genotype_text(genotype: DrawableGenotype) -> str:
    """Returns the cells as text, one line per node, without a line break at the end."""
    lines = []
    for cell_type, nodes in genotype.cells.items():
        live = live_nodes(nodes, genotype.output_mode)
        lines.append(f"{cell_type} cell ({genotype.search_space})")
        for j, edges in enumerate(nodes, start=1):
            inputs = " + ".join(f"{op}({_node_name(i)})" for i, op in edges)
            unused = "" if j in live else "   [not used by the output]"
            lines.append(f"  node {j} = {inputs}{unused}")
        names = ", ".join(_node_name(j) for j in output_inputs(nodes, genotype.output_mode))
        lines.append(f"  output = {mode_name(genotype.output_mode)}({names})")
    return "\n".join(lines)


def _node_name(j: int) -> str:
    return "input" if j == 0 else f"node {j}"
