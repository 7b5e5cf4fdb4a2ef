"""Speed and memory of the networks: a train step and acting, beside their plain forms.

    python benchmarks/networks.py --output=networks.json

A train step is one Adam step on the mean square of the features of uint8 images; acting is the
forward pass. Rates are floating-point operations counted from the network (a train step as three
forward passes) over the median time, also as a share of a 2048 x 2048 float32 matrix product in
the same process. Supernets are compared with two plain forms of the same function, computed edge
by edge and op by op: "stack" is that of the authors' release, "sum" the formula's (plain.py).
"bare" is the time of the train step's convolutions alone, run back to back. First call (tracing
and first step) and memory (peak of the train step above what the process held before it) come from
a process of their own per network and form.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bare_convolutions
import common
import tensorflow as tf
from plain import MIXES, PlainSupernet

import rldarts_tf

NETWORKS = ("impala_cnn", "micro", "classic", "classic_64x3", "micro_64x3")
PACKAGE = "package"
GENOTYPE_SEED = 0
Forward = Callable[[tf.Tensor], tf.Tensor]


def make_network(
    name: str,
    depths: Sequence[int],
    image_side: int,
    precision: str = "float32",
    recompute: bool = False,
) -> rldarts_tf.Encoder:
    """A built network: IMPALA-CNN, a supernet by its space, or a random cell at 64 × 3."""
    space, is_discrete, _ = name.partition("_64x3")
    if name == "impala_cnn":
        network = rldarts_tf.ImpalaCNN(depths, dtype=precision)
    elif is_discrete:
        genotype = rldarts_tf.random_genotype(
            rldarts_tf.get_search_space(space), random.Random(GENOTYPE_SEED)
        )
        network = rldarts_tf.DiscreteNetwork(
            genotype, [64, 64, 64], recompute=recompute, dtype=precision
        )
    else:
        network = rldarts_tf.Supernet(space, depths, recompute=recompute, dtype=precision)
    network.build((None, image_side, image_side, 3))
    return network


def forms_of(network: rldarts_tf.Encoder) -> tuple[str, ...]:
    """The package's form, and where there are edges to mix, the plain ones."""
    return (PACKAGE, *MIXES) if isinstance(network, rldarts_tf.Supernet) else (PACKAGE,)


def in_form(network: rldarts_tf.Encoder, form: str) -> tuple[Forward, list[tf.Variable]]:
    """The forward pass for training and its weights."""
    if form == PACKAGE:
        return (lambda images: network(images, training=True)), network.trainable_weights
    plain = PlainSupernet(network, form)
    return plain, plain.trainable_weights


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one network."""
    network = make_network(name, args.depths, args.image_side, args.precision, args.recompute)
    cost = rldarts_tf.count_cost(network, (args.image_side, args.image_side, 3))
    forms = [form for form in forms_of(network) if form in args.forms]
    convolutions = step_convolutions(network, args)
    warn_of_difference(name, network, convolutions, cost, args.batch)
    calls = {"matmul": common.matmul_call(), "bare": bare_convolutions.runner(convolutions)}
    for form in forms:
        calls |= steps(network, form, args)
    timings = common.interleaved(calls, args.repeats)
    return {
        "network": name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activation_bytes": cost.activation_bytes,
        "matmul_gflops": common.matmul_flop() / timings["matmul"].median / 1e9,
        "bare_convolutions": len(convolutions),
        **timings["bare"].to_dict("bare"),
        "bare_share": timings["bare"].times(timings[f"{PACKAGE} train"]),
        "forms": {
            form: {**rates(form, timings, cost, args), **measure_fresh(name, form, args)}
            for form in forms
        },
    }


def steps(
    network: rldarts_tf.Encoder, form: str, args: argparse.Namespace
) -> dict[str, common.Call]:
    """The two steps of a form as calls."""
    forward, weights = in_form(network, form)
    train = common.train_step(forward, weights, args.jit_compile)
    act = tf.function(
        (lambda images: network(images)) if form == PACKAGE else forward,
        autograph=False,
        jit_compile=args.jit_compile or None,
    )
    images = common.make_images(args.batch, args.image_side)
    act_images = common.make_images(args.act_batch, args.image_side)
    return {
        f"{form} train": lambda: train(images).numpy(),
        f"{form} act": lambda: act(act_images).numpy(),
    }


def rates(
    form: str, timings: Mapping[str, common.Timing], cost: rldarts_tf.Cost, args: argparse.Namespace
) -> dict[str, float]:
    """Rates of the steps of a form, as entries of the results."""
    entries: dict[str, float] = {}
    for step, batch, passes in (("train", args.batch, 3), ("act", args.act_batch, 1)):
        timing = timings[f"{form} {step}"]
        flop = passes * 2 * cost.multiply_adds * batch
        entries |= {
            **timing.to_dict(step),
            f"{step}_samples_per_second": batch / timing.median,
            f"{step}_gflops": flop / timing.median / 1e9,
            f"{step}_share_of_matmul": flop
            / common.matmul_flop()
            * timings["matmul"].times(timing),
        }
        if form != PACKAGE:
            entries[f"{step}_times_package"] = timing.times(timings[f"{PACKAGE} {step}"])
    return entries


def step_convolutions(network: rldarts_tf.Encoder, args: argparse.Namespace) -> list[tf.Operation]:
    """The convolutions of a train step; those that cannot be run alone are named and left out."""
    train = common.train_step(*in_form(network, PACKAGE))
    images = tf.TensorSpec((args.batch, args.image_side, args.image_side, 3), tf.uint8)
    convolutions = bare_convolutions.collect(train.get_concrete_function(images))
    dynamic = [op for op in convolutions if not bare_convolutions.has_static_shapes(op)]
    for op in dynamic:
        common.warn(f"{op.name} has no static shapes: not among the bare convolutions")
    return [op for op in convolutions if op not in dynamic]


def warn_of_difference(
    name: str,
    network: rldarts_tf.Encoder,
    convolutions: Sequence[tf.Operation],
    cost: rldarts_tf.Cost,
    batch: int,
) -> None:
    """Prints a line if the collected forward convolutions are not those that `Cost` counts."""
    forward = [op for op in convolutions if bare_convolutions.is_forward(op)]
    collected = sum(bare_convolutions.multiply_adds(op) for op in forward) // batch
    expected = cost.multiply_adds - int(tf.size(network._dense.kernel))
    if collected != expected and not network_recomputes(network):
        common.warn(
            f"{name}: the bare forward convolutions make {collected:,} multiply-adds per "
            f"image, count_cost says {expected:,}"
        )


def network_recomputes(network: rldarts_tf.Encoder) -> bool:
    """Whether its train step computes convolutions twice."""
    return getattr(network, "recompute", False)


def measure_fresh(name: str, form: str, args: argparse.Namespace) -> dict[str, float | None]:
    """First call and memory of one form, in a process of its own; None where that was killed."""
    try:
        return common.run_fresh(
            __file__,
            [
                f"--networks={name}",
                f"--fresh_form={form}",
                f"--depths={','.join(map(str, args.depths))}",
                f"--batch={args.batch}",
                f"--image_side={args.image_side}",
                f"--precision={args.precision}",
                *(["--jit_compile"] if args.jit_compile else []),
                *(["--recompute"] if args.recompute else []),
            ],
        )
    except subprocess.CalledProcessError as error:
        common.warn(f"{name} ({form}): its own process ended with code {error.returncode}")
        return {"first_call_seconds": None, "peak_memory_bytes": None}


def first_call_and_memory(form: str, args: argparse.Namespace) -> dict[str, float]:
    """Measurements for `measure_fresh`; to be called in a process that has done nothing else."""
    network = make_network(
        args.networks[0], args.depths, args.image_side, args.precision, args.recompute
    )
    forward, weights = in_form(network, form)
    train = common.train_step(forward, weights, args.jit_compile)
    images = common.make_images(args.batch, args.image_side)
    common.reset_peak_memory()
    before = common.resident_memory_bytes()
    start = time.perf_counter()
    train(images).numpy()
    first_call = time.perf_counter() - start
    train(images).numpy()
    return {
        "first_call_seconds": first_call,
        "peak_memory_bytes": common.peak_memory_bytes() - before,
    }


def print_results(results: Sequence[dict[str, Any]], args: argparse.Namespace) -> None:
    """Three tables: rates, comparison with the plain forms, first calls and memory."""
    common.print_table(
        f"Rates (batch {args.batch}, act {args.act_batch}; matmul is the yardstick)",
        (
            "network",
            "train samples/s",
            "GFLOP/s",
            "of matmul",
            "bare of train",
            "act samples/s",
            "GFLOP/s",
            "of matmul",
            "matmul GFLOP/s",
        ),
        [
            (
                result["network"],
                package["train_samples_per_second"],
                package["train_gflops"],
                package["train_share_of_matmul"],
                result["bare_share"],
                package["act_samples_per_second"],
                package["act_gflops"],
                package["act_share_of_matmul"],
                result["matmul_gflops"],
            )
            for result in results
            for package in [result["forms"][PACKAGE]]
        ],
    )
    common.print_table(
        "Forms (seconds: median and minimum; times the package's form, first call, memory)",
        (
            "network, form",
            "train s",
            "min",
            "times",
            "act s",
            "min",
            "times",
            "first call s",
            "peak MiB",
        ),
        [
            (
                f"{result['network']}, {form}",
                values["train_seconds"],
                values["train_seconds_min"],
                values.get("train_times_package"),
                values["act_seconds"],
                values["act_seconds_min"],
                values.get("act_times_package"),
                values["first_call_seconds"],
                values["peak_memory_bytes"] and values["peak_memory_bytes"] / 2**20,
            )
            for result in results
            for form, values in result["forms"].items()
        ],
    )


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--networks",
        type=common.names_of(NETWORKS),
        default=",".join(NETWORKS),
        help="of %(default)s; *_64x3: a random cell at depths 64,64,64",
    )
    parser.add_argument(
        "--forms",
        type=common.names_of((PACKAGE, *MIXES)),
        default=",".join((PACKAGE, *MIXES)),
        help="of %(default)s; the package's own form is always measured",
    )
    parser.add_network_arguments(batch=256)
    parser.add_count("--act_batch", 64, "images in acting")
    parser.add_count("--repeats", 7, "rounds of measurements")
    parser.add_precision()
    parser.add_argument("--jit_compile", action="store_true", help="compile both steps with XLA")
    parser.add_argument(
        "--recompute", action="store_true", help="hold the nodes of cells alone, compute the rest"
    )
    parser.add_argument("--fresh_form", choices=(PACKAGE, *MIXES), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    if args.fresh_form is not None:
        common.write_results(args, first_call_and_memory(args.fresh_form, args))
        return
    args.forms = [PACKAGE, *(form for form in args.forms if form != PACKAGE)]
    results = []
    for name in args.networks:
        common.progress(name)
        results.append(measure(name, args))
    print_results(results, args)
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
