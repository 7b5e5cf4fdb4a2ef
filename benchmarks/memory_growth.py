"""Resident memory of the launchers over many updates, which should not grow.

    python benchmarks/memory_growth.py --updates=200 --output=growth.json

Each launcher runs a tiny search as a process of its own. Its resident memory (and that of its
workers) is read after every update. Counted are the updates after those of `--warm_up`, in which
graphs are traced, replay is filled, and matplotlib's caches grow with the first twenty pictures;
printed is by how much the mean of their last tenth exceeds that of their first tenth.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import numpy as np

from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    *(f"{stage}/EncoderSettings.depths = [2]" for stage in TRAINED_STAGES),
    "EncoderSettings.features = 16",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 1",
    # Checkpoints and pictures are part of a long run.
    "TrainingSettings.checkpoint_minutes = 0.1",
)
PROCGEN = ("--gin_file=hardware/cpu.gin", "--gin_file=spaces/micro.gin", "--env_name=bossfight")
# Steps of an update, and the flags. Replay is full before the memory counts.
LAUNCHERS: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    "ppo_procgen": (
        4 * 8,
        ("--gin_file=classic.gin", *PROCGEN),
        (
            "PPOSettings.num_envs = 4",
            "PPOSettings.steps_per_update = 8",
            *(f"{scope}PPOSettings.minibatch_size = 16" for scope in ("", "search/", "evaluate/")),
        ),
    ),
    "rainbow_procgen": (
        4 * 16,
        ("--gin_file=micro.gin", *PROCGEN),
        (
            "RainbowSettings.num_envs = 4",
            "RainbowSettings.steps_per_update = 16",
            "RainbowSettings.batch_size = 8",
            "RainbowSettings.samples_per_insert = 0.5",
            "RainbowSettings.min_replay_size = 64",
            "RainbowSettings.replay_capacity = 1000",
        ),
    ),
    "sac_dm_control": (
        20,
        (
            "--gin_file=sac.gin",
            "--gin_file=hardware/cpu_sac.gin",
            "--domain_name=pendulum",
            "--task_name=swingup",
        ),
        (
            "SACSettings.num_envs = 2",
            "SACSettings.steps_per_update = 10",
            "SACSettings.min_replay_size = 20",
            "SACSettings.replay_capacity = 300",
            "SACSettings.hidden_sizes = (8,)",
            *(
                f"{scope}SACSettings.{setting}"
                for scope in ("", "search/", "evaluate/")
                for setting in ("batch_size = 4", "samples_per_insert = 1.0")
            ),
            "DMControlSettings.image_size = 16",
            "DMControlSettings.action_repeat = 50",
        ),
    ),
}


def measure(name: str, warm_up: int, updates: int, seconds: float) -> dict[str, Any]:
    """The resident memory after each update, in bytes."""
    steps, flags, settings = LAUNCHERS[name]
    total = warm_up + updates
    resident: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        command = [
            *(sys.executable, str(ROOT / "launchers" / f"{name}.py"), *flags),
            *(f"--gin_bindings={setting}" for setting in (*TINY, *settings)),
            f"--gin_bindings=TrainingSettings.pictures = {total // 10}",
            *(f"--root_dir={root}", "--stage=search", f"--num_env_steps={total * steps}"),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        table, deadline = RunPaths(root).stage("search").metrics_path, time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            rows = table.read_text().count("\n") - 1 if table.exists() else 0
            if rows > len(resident):
                size = sum(map(_resident, [process.pid, *_children(process.pid)]))
                resident += [size] * (rows - len(resident))
                if len(resident) % 50 == 0:
                    common.progress(f"{name}, {len(resident)} of {total} updates")
            time.sleep(0.02)
        ended = process.poll()
        process.terminate()
        _, errors = process.communicate()
    if ended not in (0, None):
        sys.exit(f"{name} ended with exit code {ended}: {errors.splitlines()[-1:]}")
    values = np.array(resident[warm_up:], np.float64)
    tenth = max(len(values) // 10, 1)
    first, last = values[:tenth].mean(), values[-tenth:].mean()
    return {
        "updates": len(values),
        "first_mb": first / 1e6,
        "last_mb": last / 1e6,
        "growth": last / first - 1,
        "resident_bytes": resident,
    }


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in path.read_text().split()]
    except OSError:
        return []


def _resident(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--launchers",
        type=common.names_of(tuple(LAUNCHERS)),
        default=list(LAUNCHERS),
        help=f"one or more of {', '.join(LAUNCHERS)} (all)",
    )
    parser.add_argument(
        "--warm_up", type=common.positive, default=200, help="updates before (%(default)s)"
    )
    parser.add_argument(
        "--updates", type=common.positive, default=200, help="of each (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=common.positive, default=1800, help="the most for each (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args: argparse.Namespace = make_parser().parse_args(argv)
    results = {
        name: measure(name, args.warm_up, args.updates, args.seconds) for name in args.launchers
    }
    common.print_table(
        "Resident memory, with that of workers",
        ("launcher", "updates", "MB at first", "MB at the end", "growth, %"),
        [
            (name, r["updates"], r["first_mb"], r["last_mb"], 100 * r["growth"])
            for name, r in results.items()
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
