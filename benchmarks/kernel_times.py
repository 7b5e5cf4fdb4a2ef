"""Profiles one train step: time of TensorFlow's kernels by op type.

    python benchmarks/kernel_times.py --network=classic --output=kernel_times.json

Kernels run side by side on several cores, so that their times may add up to more than the wall
time. The wall time is that of the profiled step; `unprofiled_seconds` is the median without the
profiler.
"""

from __future__ import annotations

import argparse
import collections
import glob
import os
import re
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import common
import networks
import tensorflow as tf

from rldarts_tf.errors import ConfigError, RunError

GROUPS = {
    # The first pattern that occurs in the op type decides: BiasAddGrad is a reduction.
    "convolution": r"Conv",
    "matmul": r"MatMul",
    "copies": r"Concat|Split|Slice|Transpose|Pad|Gather|Scatter|Tile|SpaceToBatch|BatchToSpace"
    r"|Pack|Unpack|Copy|Identity|Reshape|Broadcast|_MklToTf|Zeros|Fill|Snapshot",
    "reductions": r"Sum|Mean|Max$|Min$|Prod|BiasAddGrad|Pool|Norm",
    "elementwise": r"Add|Mul|Sub|Div|Relu|Tanh|Elu|Selu|Sigmoid|Exp|Erf|Sqrt|Rsqrt|Square|Pow|Neg"
    r"|Cast|Select|Maximum|Minimum|Greater|Less|Equal|Softmax|ResourceApply|Assign",
}
OTHER = "other"


def group_of(op_type: str) -> str:
    """The kind of work of an op type."""
    for group, pattern in GROUPS.items():
        if re.search(pattern, op_type):
            return group
    return OTHER


def profile(step: common.Call) -> tuple[float, dict[str, tuple[int, float]]]:
    """Wall seconds of a call, and per op type how often its kernels ran and their seconds."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            start = time.perf_counter()
            step()
            wall = time.perf_counter() - start
        finally:
            tf.profiler.experimental.stop()
        return wall, _kernels(folder)


def _kernels(folder: str) -> dict[str, tuple[int, float]]:
    # Internal to TensorFlow, and in another place before 2.11.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    paths = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
    if not paths:
        raise RunError("TensorFlow's profiler has written no trace")
    space = xplane_pb2.XSpace()
    with open(paths[0], "rb") as file:
        space.ParseFromString(file.read())
    counts: collections.Counter[str] = collections.Counter()
    seconds: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        for line in plane.lines:
            for event in line.events:
                # Kernels are named "name of the op:type"; the type is shown. What surrounds them
                # (the executor, the call from Python) has no such name.
                metadata = plane.event_metadata[event.metadata_id]
                op_type = metadata.display_name
                if op_type and metadata.name.endswith(f":{op_type}"):
                    counts[op_type] += 1
                    seconds[op_type] += event.duration_ps / 1e12
    return {op_type: (counts[op_type], seconds[op_type]) for op_type, _ in seconds.most_common()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The kernels of one train step."""
    network = networks.make_network(args.network, args.depths, args.image_side, args.precision)
    if args.form not in networks.forms_of(network):
        raise ConfigError(f"form: {args.network} has only {networks.PACKAGE!r}")
    forward, weights = networks.in_form(network, args.form)
    train = common.train_step(forward, weights)
    images = common.make_images(args.batch, args.image_side)

    def step() -> None:
        train(images).numpy()

    step()
    unprofiled = common.interleaved({"step": step}, args.repeats)["step"]
    profile(step)  # the first use of the profiler loads it
    wall, kernels = profile(step)
    if not kernels:
        raise RunError("TensorFlow's profiler has recorded no kernels")
    total = sum(seconds for _, seconds in kernels.values())
    ops = [
        {
            "op": op_type,
            "group": group_of(op_type),
            "count": count,
            "seconds": seconds,
            "share": seconds / total,
        }
        for op_type, (count, seconds) in kernels.items()
    ]
    groups = {
        group: sum(op["share"] for op in ops if op["group"] == group) for group in (*GROUPS, OTHER)
    }
    return {
        "wall_seconds": wall,
        **unprofiled.to_dict("unprofiled"),
        "kernel_seconds": total,
        "groups": groups,
        "ops": ops,
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--network", choices=networks.NETWORKS, default="classic", help="(%(default)s)"
    )
    parser.add_argument(
        "--form",
        choices=(networks.PACKAGE, *networks.MIXES),
        default=networks.PACKAGE,
        help="the package's, or a plain form of a supernet (%(default)s)",
    )
    parser.add_network_arguments(batch=256)
    parser.add_precision()
    parser.add_count("--repeats", 3, "of the step without profiler")
    parser.add_count("--top", 25, "op types to print")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    result = measure(args)
    common.print_table(
        f"{args.network}, {args.form}, batch {args.batch}: kernels {result['kernel_seconds']:.3g} "
        f"s, wall {result['wall_seconds']:.3g} s (without profiler "
        f"{result['unprofiled_seconds']:.3g} s)",
        ("op", "group", "count", "ms", "% of kernel time"),
        [
            (op["op"], op["group"], op["count"], 1e3 * op["seconds"], 100 * op["share"])
            for op in result["ops"][: args.top]
        ],
    )
    common.print_table(
        "Groups",
        ("group", "% of kernel time"),
        [(group, 100 * share) for group, share in result["groups"].items()],
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
