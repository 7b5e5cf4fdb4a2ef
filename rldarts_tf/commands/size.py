"""`size`: how many cells a search space has."""

from __future__ import annotations

import argparse
import math

from rldarts_tf.commands import inputs
from rldarts_tf.runs import summary
from rldarts_tf.search_space import get_search_space, names
from rldarts_tf.space import Space

HELP = "count the discrete cells of a search space (appendix G.1 of RL-DARTS)"
EXAMPLES = """
python -m rldarts_tf size classic
python -m rldarts_tf size micro --num_nodes=6 --top_k=1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments, which `space_of` reads."""
    parser.add_argument("space", help=", ".join(names()))
    parser.add_argument("--num_nodes", type=inputs.nodes, help="I, nodes of a cell, or layers")
    parser.add_argument("--top_k", type=inputs.nodes, help="K, inputs of a node")


def space_of(arguments: argparse.Namespace) -> Space:
    """Returns the space that the arguments name, with their numbers in place of its own.

    Raises:
      ConfigError: there is no such space, or it cannot have these numbers.
    """
    return get_search_space(arguments.space).resized(arguments.num_nodes, arguments.top_k)


def run(arguments: argparse.Namespace) -> None:
    """Prints a table of sizes."""
    space = space_of(arguments)
    rows = [(f"{cell_type} ops", ", ".join(space.ops(cell_type))) for cell_type in space.cell_types]
    rows += space.structure(space)
    rows += [(f"{t} cells", _number(space.size(t))) for t in space.cell_types]
    if len(space.cell_types) > 1:
        rows.append(("all combinations", _number(space.size())))
    summary.print_table(f"search space {space.name}", rows)


def _number(size: int) -> str:
    digits = math.log10(size)
    if digits > 100:
        return f"10^{digits:.1f}"
    exact = f"{size:,}"
    return exact if digits < 6 else f"{exact} (10^{digits:.1f})"
