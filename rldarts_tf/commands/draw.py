"""`draw`: pictures of the cells of a genotype."""

from __future__ import annotations

import argparse

from rldarts_tf.commands import inputs
from rldarts_tf.pictures import drawing

HELP = "draw the cells of a genotype as SVG and PNG files"
EXAMPLES = """
python -m rldarts_tf draw runs/starpilot --output=pictures
python -m rldarts_tf draw genotype.json --output=. --formats=svg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("genotype", help=inputs.GENOTYPE_HELP)
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="where the files <cell type>.<format> go; made if it is missing",
    )
    parser.add_argument(
        "--formats", default="svg,png", help="svg, png or both (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Draws the cells and prints the files."""
    genotype = inputs.load_genotype(arguments.genotype)
    formats = [name.strip() for name in arguments.formats.split(",")]
    for path in drawing.draw_genotype(genotype, arguments.output, formats):
        print(path)
