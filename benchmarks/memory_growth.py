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

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # no package

import common
import numpy as np
import tiny
from processes import ROOT

from rldarts_tf.runs.paths import RunPaths

# Checkpoints are part of a long run. Replay is full before the memory counts.
OFTEN = "TrainingSettings.checkpoint_minutes = 0.1"
LAUNCHERS = {
    program.launcher.path.partition("/")[2].removesuffix(".py"): program
    for program in (
        tiny.PPO.having(OFTEN, "search/EncoderSettings.search_space = 'micro'"),
        tiny.RAINBOW.having(
            OFTEN,
            "RainbowSettings.samples_per_insert = 0.5",
            "RainbowSettings.replay_capacity = 1000",
            "RainbowSettings.hidden_size = 512",
        ),
        tiny.SAC.having(OFTEN, "SACSettings.replay_capacity = 300"),
    )
}


def measure(name: str, warm_up: int, updates: int, seconds: float) -> dict[str, Any]:
    """The resident memory after each update, in bytes."""
    program, total = LAUNCHERS[name], warm_up + updates
    resident: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        pictures = f"--gin_bindings=TrainingSettings.pictures = {total // 10}"
        flags = program.flags(root, total * program.update, "--stage=search", pictures)
        command = [sys.executable, str(ROOT / program.launcher.path), *flags]
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
    parser.add_count("--warm_up", 200, "updates before")
    parser.add_count("--updates", 200, "of each")
    parser.add_count("--seconds", 1800, "the most for each")
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
