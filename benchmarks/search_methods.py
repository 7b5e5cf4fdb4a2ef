"""Train steps of supernets by search method, beside IMPALA-CNN of the same depths.

    python benchmarks/search_methods.py --space=micro --output=search_methods.json

One Adam step on uint8 images, as in `networks.py`. Methods that draw ops do so anew before each
step, so the spread over steps is theirs too: the mean counts. Times are of the clock, and of the
processor for all threads together; steps take turns in one process. Peak memory, and the first
call, are those of a process of the network's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import common

import rldarts_tf
from rldarts_tf.search import SearchSettings

METHODS = {
    "softmax": SearchSettings(),
    "unit_ops": SearchSettings(unit_ops="search"),
    "gumbel": SearchSettings(relaxation="gumbel"),
    "partial": SearchSettings(partial_channels=4),
    "gumbel_2": SearchSettings(relaxation="gumbel_2"),
    "gumbel_partial": SearchSettings(relaxation="gumbel", partial_channels=4),
}
BASELINE = "impala_cnn"
FRESH_STEPS = 4
"""After the first one, in the process whose memory is measured."""


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of a train step by network."""
    images = common.make_images(args.batch, args.image_side)
    steps: dict[str, common.Call] = {}
    for name in (BASELINE, *args.methods):
        steps[name] = _step(_make(name, args), images)
        steps[name]()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            clock, processor = time.perf_counter(), time.process_time()
            step()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: {
            **_fresh(name, args),
            "seconds": statistics.fmean(clock for clock, _ in of_network),
            "processor_seconds": statistics.fmean(processor for _, processor in of_network),
            "processor_seconds_min": min(processor for _, processor in of_network),
        }
        for name, of_network in times.items()
    }


def _make(name: str, args: argparse.Namespace) -> rldarts_tf.Encoder:
    """IMPALA-CNN, or a supernet with a method, with weights."""
    encoder: rldarts_tf.Encoder
    if name == BASELINE:
        encoder = rldarts_tf.ImpalaCNN(args.depths)
    else:
        encoder = rldarts_tf.Supernet(args.space, args.depths, search=METHODS[name])
    encoder.build((None, args.image_side, args.image_side, 3))
    return encoder


def _fresh(name: str, args: argparse.Namespace) -> dict[str, float]:
    """First call and memory of a network, in a process of its own."""
    common.progress(f"{name}, in a process of its own")
    return common.run_fresh(
        __file__,
        [
            f"--fresh={name}",
            f"--space={args.space}",
            f"--depths={','.join(map(str, args.depths))}",
            f"--batch={args.batch}",
            f"--image_side={args.image_side}",
        ],
    )


def first_call_and_memory(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Measurements for `_fresh`; of several steps, because a draw decides what a step needs."""
    step = _step(_make(name, args), common.make_images(args.batch, args.image_side))
    common.reset_peak_memory()
    before = common.resident_memory_bytes()
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    for _ in range(FRESH_STEPS):
        step()
    peak = common.peak_memory_bytes() - before
    return {"first_call_seconds": first, "peak_memory_bytes": peak}


def _step(encoder: rldarts_tf.Encoder, images: Any) -> common.Call:
    train = common.train_step(lambda x: encoder(x, training=True), encoder.trainable_weights)

    def step() -> Any:
        if isinstance(encoder, rldarts_tf.Supernet):
            encoder.alpha.draw()
        return train(images).numpy()

    return step


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument("--space", default="micro", help="search space (%(default)s)")
    parser.add_argument(
        "--methods",
        type=common.names_of(tuple(METHODS)),
        default=",".join(METHODS),
        help="of %(default)s",
    )
    parser.add_network_arguments(batch=256)
    parser.add_count("--repeats", 9, "steps of each")
    parser.add_argument("--fresh", choices=(BASELINE, *METHODS), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    if args.fresh is not None:
        common.write_results(args, first_call_and_memory(args.fresh, args))
        return
    results = measure(args)
    baseline = results[BASELINE]
    common.print_table(
        f"A train step ({args.space}, batch {args.batch}): means",
        (
            "network",
            "seconds",
            "processor s",
            "least",
            f"times {BASELINE}",
            "first call s",
            "peak MiB",
            f"times {BASELINE}",
        ),
        [
            (
                name,
                values["seconds"],
                values["processor_seconds"],
                values["processor_seconds_min"],
                values["processor_seconds"] / baseline["processor_seconds"],
                values["first_call_seconds"],
                values["peak_memory_bytes"] / 2**20,
                values["peak_memory_bytes"] / baseline["peak_memory_bytes"],
            )
            for name, values in results.items()
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
