"""Several trials of one thread side by side, against one trial of several threads.

    python benchmarks/study_throughput.py --output=study_throughput.json

Each arrangement trains PPO on MinAtar as a study does, its trials in processes of their own, and
all arrangements take turns. Given are environment steps per second of all its trials together,
while all of them run: without the start of a process and the first updates, which trace and
compile.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths

STAGES = ("baseline", "search")
COLD_ROWS = 2


def arrangement(text: str) -> tuple[int, int]:
    """Parses PROCESSESxTHREADS, such as "2x1"."""
    match = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be PROCESSESxTHREADS, such as 2x1, got {text!r}")
    return int(match[1]), int(match[2])


def arrangements(text: str) -> list[tuple[int, int]]:
    """Parses arrangements separated by commas."""
    return [arrangement(part) for part in text.split(",")]


def measure(stage: str, processes: int, threads: int, arguments: Sequence[str]) -> float:
    """Environment steps per second of all trials of an arrangement.

    Each row of a trial's table has the time of its own update; only those count that were made
    while all trials ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / str(number) for number in range(processes)]
        command = [
            *(sys.executable, "-m", "rldarts_tf", "train", "ppo_gymnasium"),
            *(f"--stage={stage}", *arguments),
            *(f"--intra_op_threads={threads}", f"--inter_op_threads={threads}"),
        ]
        trials = [
            subprocess.Popen(
                [*command, f"--seed={number}", f"--root_dir={root}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number, root in enumerate(roots)
        ]
        tables = [RunPaths(root).stage(stage).metrics_path for root in roots]
        begun, ended = wait_for_overlap(trials, tables)
        for trial in trials:
            if trial.wait():
                raise SystemExit(f"a trial failed: {' '.join(map(str, trial.args))}")
        speeds = [read_metrics(table)["steps_per_second"] for table in tables]
    return sum(
        statistics.median(speed[first:last]) for speed, first, last in zip(speeds, begun, ended)
    )


def wait_for_overlap(
    trials: Sequence[subprocess.Popen], tables: Sequence[Path]
) -> tuple[list[int], list[int]]:
    """The rows of each table when the last trial was warm, and when the first one ended."""
    begun: list[int] = []
    rows = [0] * len(tables)
    while all(trial.poll() is None for trial in trials) or not begun:
        rows = [count_rows(table) for table in tables]
        if not begun and min(rows) >= COLD_ROWS:
            begun = rows
        if not begun and any(trial.poll() is not None for trial in trials):
            raise SystemExit("a trial ended before all were warm: give more --steps")
        time.sleep(0.05)
    rows = [max(row, first + 1) for row, first in zip(rows, begun)]
    return begun, rows


def count_rows(table: Path) -> int:
    """The complete rows of a table."""
    return max(table.read_bytes().count(b"\n") - 1, 0) if table.exists() else 0


def main() -> None:
    """Measures and prints."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--stages", type=common.names_of(STAGES), default="baseline", help="(%(default)s)"
    )
    parser.add_argument(
        "--arrangements",
        type=arrangements,
        default="2x1,1x2",
        help="PROCESSESxTHREADS, separated by commas (%(default)s)",
    )
    parser.add_argument("--gin_bindings", action="append", default=[], metavar="SETTING")
    parser.add_argument("--env_name", default="MinAtar/Breakout-v1", help="(%(default)s)")
    parser.add_count("--steps", 150_000, "environment steps of each trial")
    parser.add_count("--repeats", 3, "rounds")
    args = parser.parse_args()
    arguments = [
        *("--gin_file=minatar.gin", "--gin_file=studies/trial.gin", f"--env_name={args.env_name}"),
        f"--num_env_steps={args.steps}",
        *(f"--gin_bindings={setting}" for setting in args.gin_bindings),
        "--gin_bindings=TrainingSettings.final_evaluation_episodes = 1",
    ]
    results = []
    for stage in args.stages:
        speeds: dict[tuple[int, int], list[float]] = {pair: [] for pair in args.arrangements}
        for _ in range(args.repeats):
            for pair, measured in speeds.items():
                common.progress(f"{stage}, {pair[0]} trials of {pair[1]} threads")
                measured.append(measure(stage, *pair, arguments))
        first = next(iter(speeds.values()))
        for (processes, threads), measured in speeds.items():
            results.append(
                {
                    "stage": stage,
                    "processes": processes,
                    "threads": threads,
                    "steps_per_second": statistics.median(measured),
                    "rounds": measured,
                    "of_first": statistics.median(b / a for a, b in zip(first, measured)),
                }
            )
    common.print_table(
        f"PPO, {args.env_name}",
        ("stage", "trials", "threads", "steps/s of all", "of the first"),
        [
            (r["stage"], r["processes"], r["threads"], r["steps_per_second"], r["of_first"])
            for r in results
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
