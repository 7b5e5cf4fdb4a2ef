"""Several trials of one thread side by side, against one trial of several threads.

    python benchmarks/study_throughput.py --output=study_throughput.json

Each arrangement trains PPO on MinAtar as a study does, its trials in processes of their own, and
all arrangements take turns. Given are environment steps per second of all its trials together,
while all of them run: without the start of a process and the first updates, which trace and
compile. Beside it stand the steps per second of CPU time, which other programs on the machine
change less. On a machine with as many cores as all threads together, an arrangement makes at most
that rate times the cores: one that needs more CPU time for a step cannot make it up.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
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
import numpy as np

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


@dataclasses.dataclass(frozen=True)
class Sample:
    """The rows of each trial's table at a moment, and the CPU time of all trials, in seconds."""

    rows: list[int]
    cpu_seconds: float


def measure(
    stage: str, processes: int, threads: int, arguments: Sequence[str]
) -> tuple[float, float]:
    """Environment steps of all trials of an arrangement, per second and per second of CPU time.

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
        metrics = [read_metrics(table) for table in tables]
    rows = list(zip(metrics, begun.rows, ended.rows))
    speed = sum(np.median(table["steps_per_second"][a:b]) for table, a, b in rows)
    steps = sum(table["step"][b - 1] - table["step"][a - 1] for table, a, b in rows)
    return float(speed), float(steps / (ended.cpu_seconds - begun.cpu_seconds))


def wait_for_overlap(
    trials: Sequence[subprocess.Popen], tables: Sequence[Path]
) -> tuple[Sample, Sample]:
    """Waits until a trial has made its last step; samples of when all were warm, and of then."""
    begun = last = None
    while all(trial.poll() is None for trial in trials):
        sample = Sample(
            [count_rows(table) for table in tables],
            sum(cpu_seconds(trial.pid) for trial in trials),
        )
        if begun is None and min(sample.rows) >= COLD_ROWS:
            begun = sample
        # The last evaluation comes after the last row, and is no step.
        if begun is not None and (last is None or sample.rows != last.rows):
            last = sample
        time.sleep(0.05)
    if begun is None or last is None or min(b - a for a, b in zip(begun.rows, last.rows)) < 1:
        raise SystemExit("a trial ended before all were warm: give more --steps")
    return begun, last


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its threads so far."""
    # Fields after the name, which is in brackets, from the third on: utime and stime are 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        rounds: dict[tuple[int, int], list[tuple[float, float]]]
        rounds = {pair: [] for pair in args.arrangements}
        for _ in range(args.repeats):
            for pair, measured in rounds.items():
                common.progress(f"{stage}, {pair[0]} trials of {pair[1]} threads")
                measured.append(measure(stage, *pair, arguments))
        for (processes, threads), measured in rounds.items():
            speed, cpu_speed = (statistics.median(column) for column in zip(*measured))
            results.append(
                {
                    "stage": stage,
                    "processes": processes,
                    "threads": threads,
                    "steps_per_second": speed,
                    "steps_per_cpu_second": cpu_speed,
                    "rounds": measured,
                }
            )
    common.print_table(
        f"PPO, {args.env_name}",
        ("stage", "trials", "threads", "steps/s of all", "steps/s of CPU time"),
        [
            (
                *(r["stage"], r["processes"], r["threads"]),
                *(r["steps_per_second"], r["steps_per_cpu_second"]),
            )
            for r in results
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
