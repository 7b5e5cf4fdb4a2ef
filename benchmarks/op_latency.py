"""Measures the latency of every op of a search space on the maps where a supernet has it.

    python benchmarks/op_latency.py --space=a2d_minatar --depths=16,32 --output=latencies.json

The file is the table that `CostSettings.latency_table` names, of this machine alone: seconds of the
forward pass of one image, the median of the repeats, in a batch.
"""

from __future__ import annotations

import argparse
from typing import Any

import common
import tensorflow as tf

import rldarts_tf
from rldarts_tf.commands.inputs import image_shape
from rldarts_tf.search import costs


def measure(args: argparse.Namespace) -> dict[costs.OpAt, float]:
    """Seconds per image of every op, on every size of maps."""
    supernet = rldarts_tf.Supernet(args.space, args.depths, features=1)
    supernet.build((None, *args.image))
    found: dict[costs.OpAt, float] = {}

    def note(at: costs.OpAt) -> float:
        return found.setdefault(at, 0.0)

    costs.make_table(supernet.space, supernet.placed_cells, note)
    calls = {at: _call(at, args.batch) for at in found}
    timings = common.interleaved(calls, args.repeats)
    return {at: timing.median / args.batch for at, timing in timings.items()}


def _call(at: costs.OpAt, batch: int) -> common.Call:
    layer = rldarts_tf.make_op(at.op, at.filters, at.stride)
    maps = tf.random.normal([batch, at.height, at.width, at.filters])
    layer(maps)  # Makes the variables.
    # A reduction, so that reading the result takes no time.
    forward = tf.function(lambda x: tf.reduce_sum(layer(x)), autograph=False)
    return lambda: forward(maps).numpy()


def main() -> None:
    """Prints a table, and writes it."""
    parser = common.Parser(__doc__ or "")
    parser.add_argument("--space", default="a2d_minatar", help="search space (%(default)s)")
    parser.add_argument("--image", type=image_shape, default="10x10x4", help="HxWxC (%(default)s)")
    parser.add_depths()
    parser.add_count("--batch", 32, "images in a forward pass")
    parser.add_count("--repeats", 20)
    args = parser.parse_args()
    seconds = measure(args)
    rows: list[list[Any]] = [
        [at.op, at.height, at.width, at.filters, at.stride, 1e6 * value]
        for at, value in seconds.items()
    ]
    columns = ("op", "height", "width", "channels", "stride", "microseconds per image")
    common.print_table(f"{args.space}, batches of {args.batch}", columns, rows)
    common.write_results(args, costs.latencies_as_data(seconds))


if __name__ == "__main__":
    common.run(main)
