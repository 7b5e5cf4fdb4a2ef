"""Replay by itself: memory per transition, and insertions and samples per second.

    python benchmarks/replay.py --transitions=100000 --output=replay.json

Fills a table with the frames of a random policy through the n-step adders of the Rainbow program,
and then samples from it. Memory is what the process holds more than before, over the transitions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from acme import specs

from rldarts_tf.agents.off_policy.replay import BatchAdder, Replay, environment_spec
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Fills, samples, saves and loads."""
    settings = RainbowSettings(num_envs=args.num_envs, batch_size=args.batch_size)
    n_step = settings.for_games([args.game]).n_step
    environment = ProcgenEnvironment(args.game, args.num_envs, seed=0)
    actions = specs.DiscreteArray(games.NUM_ACTIONS, dtype=np.int32)
    spec = environment_spec(environment.observation_spec(), actions)
    frame_bytes = int(np.prod(spec.observations.shape))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        replay = Replay(
            spec,
            args.capacity,
            settings.priority_exponent,
            folder,
            initial_priority=settings.initial_priority,
        )
        adder = BatchAdder(replay, args.num_envs, n_step, settings.discount, last_is_first=True)
        adder.add_first(environment.reset().observation)
        before = common.resident_memory_bytes()
        seconds, steps, shown = 0.0, 0, 0
        while steps < args.transitions:
            actions = rng.integers(games.NUM_ACTIONS, size=args.num_envs, dtype=np.int32)
            time_step = environment.step(actions)
            start = time.perf_counter()
            adder.add(
                actions,
                time_step.reward,
                time_step.discount,
                time_step.step_type,
                time_step.observation,
            )
            seconds += time.perf_counter() - start
            steps += args.num_envs
            if steps // 50_000 > shown:
                shown = steps // 50_000
                common.progress(f"{steps:,} of {args.transitions:,} insertions")
        adder.flush()
        size = replay.size
        held = common.resident_memory_bytes() - before
        samples = replay.sample(args.batch_size)
        next(samples)
        start = time.perf_counter()
        for _ in range(args.batches):
            next(samples)
        sampling = time.perf_counter() - start
        samples.close()
        start = time.perf_counter()
        name = replay.save()
        saving = time.perf_counter() - start
        saved = sum(file.stat().st_size for file in (Path(folder) / name).iterdir())
        adder.close()
        replay.close()
        start = time.perf_counter()
        loaded = Replay(spec, args.capacity, settings.priority_exponent, folder, name)
        loading = time.perf_counter() - start
        assert loaded.size == size, "what was saved came back incomplete"
        loaded.close()
    environment.close()
    return {
        "transitions": size,
        "n_step": n_step,
        "memory_bytes": held,
        "bytes_per_transition": held / size,
        "frame_bytes": frame_bytes,
        "memory_times_raw_frames": held / size / frame_bytes,
        "memory_bytes_of_500k": 500_000 * held / size,
        "insertions_per_second": steps / seconds,
        "samples_per_second": args.batches * args.batch_size / sampling,
        "save_seconds": saving,
        "load_seconds": loading,
        "disk_bytes": saved,
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--game", choices=games.GAMES, metavar="GAME", default="coinrun", help="(%(default)s)"
    )
    parser.add_count("--transitions", 50_000, "to insert")
    parser.add_count("--capacity", 500_000, "of the table")
    parser.add_count("--num_envs", 64, "stepped together")
    parser.add_count("--batch_size", 256, "of the samples")
    parser.add_count("--batches", 50, "to sample")
    parser.add_argument("--folder", help="where the checkpoint goes for a moment (the system's)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    result = measure(args)
    common.print_table(
        f"Replay of {args.game}, {result['transitions']:,} transitions, n = {result['n_step']}",
        ("quantity", "value"),
        [
            ("bytes per transition", result["bytes_per_transition"]),
            ("  over those of one raw frame", result["memory_times_raw_frames"]),
            ("GB of 500,000 transitions", result["memory_bytes_of_500k"] / 1e9),
            ("insertions per second", result["insertions_per_second"]),
            ("samples per second", result["samples_per_second"]),
            ("seconds to save", result["save_seconds"]),
            ("seconds to load", result["load_seconds"]),
            ("MB on disk", result["disk_bytes"] / 1e6),
        ],
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
