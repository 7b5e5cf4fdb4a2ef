"""`random`: cells drawn uniformly from a search space."""

from __future__ import annotations

import argparse
import random

from rldarts_tf.commands import inputs, size
from rldarts_tf.genotype import random_genotype
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.search_space import OUTPUT_MODES

HELP = "draw random cells of a search space, for a random search or a control"
EXAMPLES = """
python -m rldarts_tf random micro --seed=1
python -m rldarts_tf random classic --count=10 --seed=0 --output=random_cells
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    size.add_arguments(parser)
    parser.add_argument(
        "--count", type=inputs.positive, default=1, help="how many (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same cells")
    parser.add_argument(
        "--output_mode",
        choices=OUTPUT_MODES,
        default="concat",
        help="how a cell's output follows from its nodes (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="write genotype-0.json, genotype-1.json, ... there instead of showing the cells",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints the cells, or writes them and prints the files."""
    space = size.space_of(arguments)
    rng = random.Random(arguments.seed)
    # Each before the next is drawn: there may be many.
    genotypes = (random_genotype(space, rng, arguments.output_mode) for _ in range(arguments.count))
    if arguments.output is None:
        for i, genotype in enumerate(genotypes):
            print(("\n" if i else "") + genotype_text(genotype))
        return
    folder = inputs.writable_directory(arguments.output)
    for i, genotype in enumerate(genotypes):
        path = folder / f"genotype-{i}.json"
        genotype.save(path)
        print(path)
