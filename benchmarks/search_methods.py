"""Train steps of supernets by search method, beside IMPALA-CNN of the same depths.

    python benchmarks/search_methods.py --space=micro --output=search_methods.json

One Adam step on uint8 images, as in `networks.py`. Methods that draw ops do so anew before each
step, so the spread over steps is theirs too: the mean counts. Times are of the clock, and of the
processor for all threads together; steps take turns in one process.
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
}
BASELINE = "impala_cnn"


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of a train step by network."""
    encoders: dict[str, rldarts_tf.Encoder] = {BASELINE: rldarts_tf.ImpalaCNN(args.depths)}
    for name in args.methods:
        encoders[name] = rldarts_tf.Supernet(args.space, args.depths, search=METHODS[name])
    images = common.make_images(args.batch, args.image_side)
    steps: dict[str, common.Call] = {}
    first: dict[str, float] = {}
    for name, encoder in encoders.items():
        encoder.build((None, args.image_side, args.image_side, 3))
        steps[name] = _step(encoder, images)
        start = time.perf_counter()
        steps[name]()
        first[name] = time.perf_counter() - start
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            clock, processor = time.perf_counter(), time.process_time()
            step()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: {
            "first_call_seconds": first[name],
            "seconds": statistics.fmean(clock for clock, _ in of_network),
            "processor_seconds": statistics.fmean(processor for _, processor in of_network),
            "processor_seconds_min": min(processor for _, processor in of_network),
        }
        for name, of_network in times.items()
    }


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
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    results = measure(args)
    of_baseline = results[BASELINE]["processor_seconds"]
    common.print_table(
        f"A train step ({args.space}, batch {args.batch}): means",
        ("network", "seconds", "processor s", "least", f"times {BASELINE}", "first call s"),
        [
            (
                name,
                values["seconds"],
                values["processor_seconds"],
                values["processor_seconds_min"],
                values["processor_seconds"] / of_baseline,
                values["first_call_seconds"],
            )
            for name, values in results.items()
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
