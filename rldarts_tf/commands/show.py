"""`show`: a genotype as text, with its cost if asked for."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rldarts_tf.commands import inputs
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.runs import summary

if TYPE_CHECKING:
    from rldarts_tf.cost import Cost

HELP = "show a genotype in the terminal, and with --cost its parameters and multiply-adds"
EXAMPLES = """
python -m rldarts_tf show runs/starpilot
python -m rldarts_tf show genotype.json --cost
python -m rldarts_tf show genotype.json --depths=64,64,64 --image=64x64x3
python -m rldarts_tf show genotype.json --json
"""

_DEPTHS = [16, 16, 16]
_IMAGE = (64, 64, 3)
_FEATURES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("genotype", help=inputs.GENOTYPE_HELP)
    parser.add_argument(
        "--cost",
        action="store_true",
        help="count parameters, multiply-adds and memory too: TensorFlow loads, which takes "
        "seconds, and the ops must be registered. Each of the following asks for it too",
    )
    parser.add_argument(
        "--depths",
        type=inputs.widths,
        metavar="D,D,...",
        help="channels of each block (default: 16,16,16)",
    )
    parser.add_argument(
        "--image",
        type=inputs.image_shape,
        metavar="HxWxC",
        help="shape of an observation (default: 64x64x3)",
    )
    parser.add_argument(
        "--features",
        type=inputs.width,
        help=f"size of the encoder's output (default: {_FEATURES})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> None:
    """Prints the cells and a table, or JSON."""
    genotype = inputs.load_genotype(arguments.genotype)
    depths = arguments.depths or _DEPTHS
    image = arguments.image or _IMAGE
    features = arguments.features or _FEATURES
    asked = arguments.cost or arguments.depths or arguments.image or arguments.features
    cost = _cost(genotype, depths, image, features) if asked else None
    if arguments.json:
        counted = None if cost is None else dataclasses.asdict(cost)
        print(json.dumps({"genotype": genotype.to_dict(), "cost": counted}))
        return
    print(genotype_text(genotype))
    rows = genotype.space.structure(genotype)
    if cost is None:
        rows.append(("cost", "counted with --cost"))
    else:
        rows += [
            ("depths, image", f"{', '.join(map(str, depths))}; {' x '.join(map(str, image))}"),
            ("parameters", f"{cost.parameters:,}"),
            ("multiply-adds", f"{cost.multiply_adds:,} per image"),
            ("kept for gradients", f"{cost.activation_bytes / 2**20:.1f} MiB per image"),
        ]
    summary.print_table("network", rows)


def _cost(genotype: Genotype, depths: Sequence[int], image: Sequence[int], features: int) -> Cost:
    import tensorflow as tf

    from rldarts_tf.cost import count_cost
    from rldarts_tf.encoders import DiscreteNetwork

    def counted() -> Cost:
        return count_cost(DiscreteNetwork(genotype, depths, features=features), image)

    try:
        # In a graph variables have shapes, but no memory.
        with tf.Graph().as_default():
            return counted()
    except (RuntimeError, ConfigError):  # of an op of the user's that holds eager tensors
        return counted()
