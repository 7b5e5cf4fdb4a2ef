"""`show`: a genotype as text, with its cost."""

from __future__ import annotations

import argparse
import dataclasses
import json

from rldarts_tf import drawing
from rldarts_tf.commands import inputs
from rldarts_tf.runs import summary

HELP = "show a genotype in the terminal, with its parameters and multiply-adds"
EXAMPLES = """
python -m rldarts_tf show runs/starpilot
python -m rldarts_tf show genotype.json --depths=64,64,64 --image=64x64x3
python -m rldarts_tf show genotype.json --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    parser.add_argument("genotype", help=inputs.GENOTYPE_HELP)
    parser.add_argument(
        "--depths",
        type=inputs.integers,
        default=[16, 16, 16],
        metavar="D,D,...",
        help="channels of each block (default: 16,16,16)",
    )
    parser.add_argument(
        "--image",
        type=inputs.image_shape,
        default=(64, 64, 3),
        metavar="HxWxC",
        help="shape of an observation (default: 64x64x3)",
    )
    parser.add_argument(
        "--features",
        type=inputs.positive,
        default=256,
        help="size of the encoder's output (default: %(default)s)",
    )
    parser.add_argument("--no_cost", action="store_true", help="do not count it: TensorFlow loads")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> None:
    """See the package."""
    genotype = inputs.load_genotype(arguments.genotype)
    cost = None if arguments.no_cost else _cost(genotype, arguments)
    if arguments.json:
        counted = None if cost is None else dataclasses.asdict(cost)
        print(json.dumps({"genotype": genotype.to_dict(), "cost": counted}))
        return
    print(drawing.genotype_text(genotype))
    rows = [
        ("cells in a block", f"{genotype.num_reduction} reduction, {genotype.num_normal} normal"),
        ("inputs of a node", f"{genotype.top_k}"),
    ]
    if cost is not None:
        shape = " x ".join(map(str, arguments.image))
        rows += [
            ("depths, image", f"{', '.join(map(str, arguments.depths))}; {shape}"),
            ("parameters", f"{cost.parameters:,}"),
            ("multiply-adds", f"{cost.multiply_adds:,} per image"),
            ("kept for gradients", f"{cost.activation_bytes / 2**20:.1f} MiB per image"),
        ]
    summary.print_table("network", rows)


def _cost(genotype, arguments):
    from rldarts_tf import DiscreteNetwork, count_cost

    network = DiscreteNetwork(genotype, arguments.depths, features=arguments.features)
    return count_cost(network, arguments.image)
