"""What a training leaves in its run directory, in a moment: for tests of what runs trainings.

    python study_trials.py train ppo_catch --root_dir=... --stage=... --num_env_steps=...

    python study_trials.py discretize RUN --best=... --output=...

It locks the directory, resumes from its last step, stops with SIGTERM, and needs the standard
library alone. The environment variable TRIAL_FAULTS, {end of a root_dir: how often}, makes trials
fail, and STEP_SECONDS slows them down. The file `starts` has the step from which each start went
on.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

CELL = {
    "format_version": 2,
    "search_space": {
        "name": "smoke",
        "normal_ops": ["conv_3x3", "relu"],
        "reduction_ops": [],
        "num_normal": 1,
        "num_reduction": 0,
        "num_nodes": 2,
        "top_k": 2,
        "stem": "impala",
    },
    "top_k": 2,
    "output_mode": "concat",
    "num_normal": 1,
    "num_reduction": 0,
    "cells": {"normal": [[[0, "conv_3x3"]], [[0, "conv_3x3"], [1, "conv_3x3"]]]},
}


def main(arguments: list[str]) -> int:
    flags = dict(a[2:].split("=", 1) for a in arguments if a.startswith("--"))
    if arguments[0] == "discretize":
        output = Path(flags["output"])
        for place in range(1, int(flags.get("best", 1)) + 1):
            path = output if place == 1 else output.with_name(f"{output.stem}-{place:02d}.json")
            path.write_text(json.dumps(cell(place - 1)))
        return 0
    root, stage = Path(flags["root_dir"]), flags["stage"]
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / ".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("error: in use")
        return 2
    if stage == "discretize":
        (root / "genotype.json").write_text(json.dumps(CELL))
        return 0
    gain = 0.0
    if stage == "evaluate":
        # Cells with a ReLU are better.
        gain = float("relu" in json.dumps(json.loads(Path(flags["genotype"]).read_text())["cells"]))
    return train(root, stage, int(flags["num_env_steps"]), gain)


def train(root: Path, stage: str, end: int, gain: float) -> int:
    folder = root / stage
    folder.mkdir(exist_ok=True)
    checkpoint, metrics = folder / "step", folder / "metrics.csv"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with (root / "starts").open("a") as starts:
        starts.write(f"{step}\n")
    number = len((root / "starts").read_text().splitlines())
    for name, times in json.loads(os.environ.get("TRIAL_FAULTS", "{}")).items():
        if str(root).endswith(name) and number <= times:
            print("error: the simulator has burnt down")
            return 3
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stops.append(number))
    if not metrics.exists():
        metrics.write_text("step,return_mean,steps_per_second\n")
    while step < end and not stops:
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        step += 1
        with metrics.open("a") as table:
            table.write(f"{step},{step / 10},20\n")
        temporary = checkpoint.with_suffix(".new")
        temporary.write_text(str(step))
        temporary.replace(checkpoint)
    entry = {
        "exit_state": "interrupted" if step < end else "finished",
        "env_steps": step,
        "eval_test_return_mean": step / 10 + gain,
    }
    if stage == "search":
        lines = [json.dumps({"step": at, "genotype": cell(at)}) for at in range(3)]
        (folder / "genotypes.jsonl").write_text("".join(f"{line}\n" for line in lines))
    checkpoints = folder / "checkpoints"
    (checkpoints / "replay").mkdir(parents=True, exist_ok=True)
    for name in ("ckpt-1.index", "ckpt-1.json", f"ckpt-{end}.index", "replay/chunk"):
        (checkpoints / name).touch()
    temporary = root / "summary.new"
    temporary.write_text(json.dumps({"stages": {stage: entry}, "versions": {}}))
    temporary.replace(root / "summary.json")
    return 0


def cell(number: int) -> dict:
    """One of several cells."""
    second = [[0, "conv_3x3"], [1, ("conv_3x3", "relu", "skip_connect")[number]]]
    return {**CELL, "cells": {"normal": [[[0, "conv_3x3"]], second]}}


def start_child(arguments, log, task):
    """Starts it as a process that ends with the one that started it, as trainings are."""
    from rldarts_tf.studies.running import start_process

    return start_process(["--import=study_trials", *arguments], log, task)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
# The command `--import=study_trials train ...` imports it, and never comes to train.
if "--import=study_trials" in sys.argv:
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
