"""The memory of a train step, beside the formula of `count_cost`, and the minibatch that fits.

    python benchmarks/memory.py --output=memory.json

Each batch is measured in a process of its own: the peak of the resident memory in two train steps,
less what was resident before. A line is fitted over the batch: its slope is what one image costs,
of which `activation_bytes` is held from the forward to the backward pass; the rest are the maps and
gradients that are alive together at the peak. The minibatch that fits a memory follows from the
line. The memory is that of the CPU: cuDNN's workspaces are not in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import common
import networks
import scaling

import rldarts_tf

RECOMPUTE = "recompute"


def measure(variant: str, args: argparse.Namespace) -> dict[str, Any]:
    """One network, such as "classic", or "classic recompute"."""
    name, _, recompute = variant.partition(" ")
    network = networks.make_network(
        name, args.depths, args.image_side, args.precision, bool(recompute)
    )
    cost = rldarts_tf.count_cost(network, (args.image_side, args.image_side, 3))
    points = [
        {"batch": batch, "peak_memory_bytes": peak(name, bool(recompute), batch, args)}
        for batch in args.batches
    ]
    measured = [point for point in points if point["peak_memory_bytes"] is not None]
    result = {"network": variant, "activation_bytes": cost.activation_bytes, "points": points}
    if len(measured) < 2:
        return result
    line = scaling.fit(
        [point["batch"] for point in measured], [point["peak_memory_bytes"] for point in measured]
    )
    fits = (args.gigabytes * 1e9 - line["intercept"]) / line["slope"]
    return {**result, "fit": line, "largest_batch": int(fits)}


def peak(name: str, recompute: bool, batch: int, args: argparse.Namespace) -> float | None:
    """Bytes; None where the process was killed."""
    common.progress(f"{name}, batch {batch}{', recompute' if recompute else ''}")
    settings = {**vars(args), "batch": batch, "recompute": recompute, "jit_compile": False}
    results = networks.measure_fresh(name, networks.PACKAGE, argparse.Namespace(**settings))
    return results["peak_memory_bytes"]


def print_results(results: Sequence[dict[str, Any]], gigabytes: float) -> None:
    """A row per network."""
    common.print_table(
        "Memory of a train step",
        (
            "network",
            "activations MB/image",
            "measured MB/image",
            "ratio",
            "fixed MB",
            "R²",
            f"images in {gigabytes:g} GB",
        ),
        [
            (
                result["network"],
                result["activation_bytes"] / 1e6,
                *(
                    (
                        result["fit"]["slope"] / 1e6,
                        result["fit"]["slope"] / result["activation_bytes"],
                        result["fit"]["intercept"] / 1e6,
                        result["fit"]["r_squared"],
                        result["largest_batch"],
                    )
                    if "fit" in result
                    else (None,) * 5
                ),
            )
            for result in results
        ],
    )


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    variants = [
        f"{name}{suffix}"
        for name in networks.NETWORKS
        for suffix in ("", f" {RECOMPUTE}")
        if name != "impala_cnn" or not suffix
    ]
    parser.add_argument(
        "--networks",
        type=common.names_of(variants),
        default=",".join(variants),
        help="of %(default)s",
    )
    parser.add_depths()
    parser.add_argument(
        "--batches", type=common.integers, default="32,64,128,256", help="(%(default)s)"
    )
    parser.add_count("--image_side", 64, "height and width")
    parser.add_precision()
    parser.add_count("--gigabytes", 16, "of the device")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    results = [measure(variant, args) for variant in args.networks]
    print_results(results, args.gigabytes)
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
