"""Frames per second of the DM Control Suite: batches of processes against one plain loop.

    python benchmarks/dm_control_frames.py --domain_name=cheetah --task_name=run --num_envs=1,2,4

One frame is one step of an environment: the task's action repeat, then a frame of 64 x 64 pixels.
The plain loop does the same in this process, with dm_control and nothing else: `step`, and
`physics.render` after the last repeated step. All take turns.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

import common
import numpy as np

from rldarts_tf.envs.dm_control import rendering
from rldarts_tf.envs.dm_control.batch import DMControlBatch
from rldarts_tf.envs.dm_control.environment import (
    CAMERAS,
    OBSERVATIONS,
    action_repeat_of,
    check_task,
)

SIZE = 64


def plain_loop(args: argparse.Namespace, repeat: int) -> common.Call:
    """Some frames, made with dm_control alone."""
    from dm_control import suite

    environment = suite.load(args.domain_name, args.task_name, task_kwargs={"random": 0})
    camera = CAMERAS.get(args.domain_name, 0)
    spec = environment.action_spec()
    rng = np.random.default_rng(0)
    environment.reset()

    def run() -> None:
        for _ in range(args.steps):
            action = rng.uniform(spec.minimum, spec.maximum)
            for _ in range(repeat):
                environment.step(action)
            if args.observations == "pixels":
                environment.physics.render(SIZE, SIZE, camera_id=camera)

    return run


def batch_loop(batch: DMControlBatch, steps: int) -> common.Call:
    """Some steps of a batch: that many frames of each environment."""
    rng = np.random.default_rng(0)
    shape = (batch.batch_size, *batch.action_spec().shape)
    batch.reset()

    def run() -> None:
        for _ in range(steps):
            batch.step(rng.uniform(-1, 1, shape))

    return run


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Rates of the plain loop and of a batch of each size."""
    check_task(args.domain_name, args.task_name, args.observations)
    repeat = args.action_repeat or action_repeat_of(args.domain_name, args.task_name)
    calls: dict[str, common.Call] = {"plain": plain_loop(args, repeat)}
    with contextlib.ExitStack() as stack:
        for num_envs in args.num_envs:
            common.progress(f"the start of {num_envs} workers")
            batch = DMControlBatch(
                args.domain_name,
                args.task_name,
                num_envs,
                seed=0,
                action_repeat=repeat,
                image_size=SIZE,
                observations=args.observations,
            )
            stack.callback(batch.close)
            calls[str(num_envs)] = batch_loop(batch, args.steps)
        common.progress("all of them in turn")
        timings = common.interleaved(calls, args.repeats)
    plain = timings.pop("plain")
    return {
        "action_repeat": repeat,
        "renderer": rendering.choose_renderer_if_any(),
        "plain_frames_per_second": args.steps / plain.median,
        **plain.to_dict("plain"),
        "batches": [
            {
                "num_envs": int(name),
                "frames_per_second": int(name) * args.steps / timing.median,
                "times_plain": int(name) * plain.times(timing),
                **timing.to_dict("batch"),
            }
            for name, timing in timings.items()
        ],
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument("--domain_name", default="cartpole", help="(%(default)s)")
    parser.add_argument("--task_name", default="swingup", help="(%(default)s)")
    parser.add_argument(
        "--observations",
        choices=OBSERVATIONS,
        default="pixels",
        help="of %(choices)s (%(default)s)",
    )
    parser.add_argument(
        "--action_repeat", type=common.positive, default=None, help="(that of the task)"
    )
    parser.add_argument(
        "--num_envs", type=common.integers, default="1,2,4", help="sizes of batches (%(default)s)"
    )
    parser.add_count("--steps", 50, "measured at once")
    parser.add_count("--repeats", 5)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    result = measure(args)
    common.print_table(
        f"{args.domain_name}/{args.task_name} from {args.observations}, action repeat "
        f"{result['action_repeat']}, {result['renderer']}",
        ("", "frames per second", "times plain"),
        [
            ("plain loop", result["plain_frames_per_second"], 1.0),
            *(
                (f"{row['num_envs']} workers", row["frames_per_second"], row["times_plain"])
                for row in result["batches"]
            ),
        ],
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
