"""Trains the launchers on a GPU for a short time, and compares their losses with the CPU's.

Each launcher first runs on the CPU in float32, for one row of metrics with losses; then on the GPU
in every mode, with the same seed, for some time. The losses of that row must be those of the CPU
within the tolerances below. They are wide: an action that rounding changes leads into another
episode, and Reverb chooses Rainbow's and SAC's samples with a generator that has no seed. What they
find are wrong kernels, lost gradients and training that diverges, not the last digits. The mode
devices, a gradient step that two GPUs share, is left out where there is one.

    scripts/gpu_check.sh                                  about a quarter of an hour
    scripts/gpu_check.sh --launchers=ppo --seconds=600
    scripts/gpu_check.sh --cpu --launchers=rainbow --modes=float32 --seconds=0
                                                          tries this program itself, without a GPU
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rldarts_tf.errors import RunError  # noqa: E402
from rldarts_tf.runs.metrics import read_metrics  # noqa: E402
from rldarts_tf.runs.paths import RunPaths  # noqa: E402

MODES = {
    "float32": "EncoderSettings.precision = 'float32'",
    "mixed_float16": "EncoderSettings.precision = 'mixed_float16'",
    "jit_compile": "PPOSettings.jit_compile = True",
    "devices": "TrainingSettings.devices = 2",
}
# The first compilation of a gradient step may take minutes.
LONGEST_START = 1200


@dataclasses.dataclass(frozen=True)
class Case:
    """A launcher with small settings.

    Attributes:
      flags: without what is the same for all.
      bindings: of gin.
      tolerances: by metric (relative, absolute): |GPU - CPU| <= relative · |CPU| + absolute.
      modes: those it has.
    """

    flags: Sequence[str]
    bindings: Sequence[str]
    tolerances: Mapping[str, tuple[float, float]]
    modes: Sequence[str] = ("float32", "mixed_float16", "devices")


CASES = {
    "ppo": Case(
        ["launchers/ppo_procgen.py", "--gin_file=classic.gin", "--env_name=bossfight"],
        [
            "PPOSettings.num_envs = 16",
            "PPOSettings.steps_per_update = 16",
            "search/PPOSettings.num_epochs = 1",
            # All stages are checked before one starts.
            *(f"{s}PPOSettings.minibatch_size = 64" for s in ("", "search/", "evaluate/")),
        ],
        {"value_loss": (0.3, 0.0), "entropy": (0.02, 0.0)},
        tuple(MODES),
    ),
    "rainbow": Case(
        ["launchers/rainbow_procgen.py", "--gin_file=micro.gin", "--env_name=bossfight"],
        [
            "RainbowSettings.num_envs = 16",
            "RainbowSettings.steps_per_update = 16",
            "RainbowSettings.batch_size = 32",
            "RainbowSettings.min_replay_size = 128",
            "RainbowSettings.samples_per_insert = 1.0",
        ],
        {"loss": (0.1, 0.0), "q_mean": (0.1, 0.0)},
    ),
    "sac": Case(
        [
            "launchers/sac_dm_control.py",
            "--gin_file=sac.gin",
            "--domain_name=cartpole",
            "--task_name=balance",
        ],
        [
            "DMControlSettings.image_size = 32",
            "SACSettings.num_envs = 2",
            "SACSettings.steps_per_update = 20",
            "SACSettings.batch_size = 32",
            "SACSettings.samples_per_insert = 32.0",
            "SACSettings.min_replay_size = 30",
            "SACSettings.random_shift = 2",
        ],
        {"critic_loss": (0.5, 0.1), "entropy": (0.1, 0.1)},
    ),
}
COMMON = [
    "search/EncoderSettings.depths = [8]",
    "EncoderSettings.depths = [8]",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.checkpoint_minutes = 60",
    "TrainingSettings.pictures = 0",
]


@dataclasses.dataclass(frozen=True)
class Trained:
    """Results of a run: its table, exit code, peaks of memory in MB (None: unknown)."""

    metrics: Mapping[str, Sequence[float]]
    code: int
    errors: str
    host_mb: float | None
    gpu_mb: float | None

    @property
    def steps_per_second(self) -> float:
        """Without the first row, where a graph is traced and compiled, if there are others."""
        steps, seconds = self.metrics.get("step", ()), self.metrics.get("wall_time", ())
        if len(steps) < 2:
            return float(self.metrics["steps_per_second"][0]) if len(steps) else math.nan
        return float((steps[-1] - steps[0]) / (seconds[-1] - seconds[0]))


def count_gpus() -> int:
    """How many GPUs TensorFlow sees; asked in another process, which does not keep them."""
    program = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return 0 if result.returncode else int(result.stdout.split()[-1])


def gpu_memory_mb() -> float | None:
    """Memory in use on all GPUs, by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    result = subprocess.run(query, capture_output=True, text=True)
    try:
        return float(sum(map(float, result.stdout.split())))
    except ValueError:
        return None


def host_memory_mb(pid: int) -> float | None:
    """The peak of a process' resident memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return sizes[0] if sizes else None


def table_of(folder: Path) -> Mapping[str, Sequence[float]]:
    """The metrics of a run so far."""
    try:
        return read_metrics(RunPaths(folder).stage("search").metrics_path)
    except RunError:
        return {}


def first_row(metrics: Mapping[str, Sequence[float]], names: Sequence[str]) -> int | None:
    """The first row that has all these metrics."""
    columns = [metrics.get(name, ()) for name in names]
    for i, row in enumerate(zip(*columns)):
        if all(map(math.isfinite, row)):
            return i
    return None


def train(case: Case, mode: str, folder: Path, seconds: float, on_gpu: bool, seed: int) -> Trained:
    """Runs a launcher for so many seconds, and until it has a row with losses."""
    bindings = [*COMMON, *case.bindings, MODES[mode]]
    command = [sys.executable, *case.flags, "--stage=search", f"--root_dir={folder}"]
    command += [f"--seed={seed}", "--num_env_steps=1000000000"]
    command += [f"--gin_bindings={binding}" for binding in bindings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    # TensorFlow would take all of the GPU's memory at once, and nothing could be read from that.
    environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    if not on_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    before = gpu_memory_mb() if on_gpu else None
    host, gpu, started = None, None, time.monotonic()
    folder.mkdir(parents=True)
    with open(folder / "output.txt", "w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                host = host_memory_mb(process.pid) or host
                used = gpu_memory_mb() if on_gpu else None
                if used is not None and before is not None:
                    gpu = max(gpu or 0.0, used - before)
                elapsed = time.monotonic() - started
                learned = first_row(table_of(folder), [*case.tolerances]) is not None
                if (elapsed >= seconds and learned) or elapsed > max(seconds, LONGEST_START):
                    process.send_signal(signal.SIGTERM)
                    process.wait(timeout=LONGEST_START)
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    text = (folder / "output.txt").read_text().strip().splitlines()
    return Trained(table_of(folder), process.returncode, text[-1] if text else "", host, gpu)


def problems(case: Case, reference: Trained, trained: Trained) -> list[str]:
    """Lists the problems of a run in a few words each; empty if there are none."""
    if trained.code:
        return [f"exit code {trained.code}: {trained.errors}"]
    row = first_row(reference.metrics, [*case.tolerances])
    if row is None:
        return [f"the CPU's run has no losses (exit code {reference.code}: {reference.errors})"]
    found = []
    for name, (relative, absolute) in case.tolerances.items():
        column = trained.metrics.get(name, ())
        actual = float(column[row]) if row < len(column) else math.nan
        expected = float(reference.metrics[name][row])
        if not abs(actual - expected) <= relative * abs(expected) + absolute:
            found.append(f"{name} is {actual:.4g}, on the CPU {expected:.4g}")
    return found


def formatted(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """For the table."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.1f}"


def chosen(
    text: str, known: Sequence[str], flag: str, parser: argparse.ArgumentParser
) -> list[str]:
    """Names separated by commas."""
    names = text.split(",")
    for name in names:
        if name not in known:
            parser.error(f"{flag}: {name!r} is none of {', '.join(known)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launchers", default=",".join(CASES), help="separated by commas")
    parser.add_argument("--modes", default=",".join(MODES), help="separated by commas")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="keep the runs in this new folder")
    parser.add_argument("--cpu", action="store_true", help="run everything on the CPU")
    options = parser.parse_args(argv)
    launchers = chosen(options.launchers, [*CASES], "--launchers", parser)
    modes = chosen(options.modes, [*MODES], "--modes", parser)
    if not options.cpu:
        gpus = count_gpus()
        if not gpus:
            text = "TensorFlow sees no GPU here (--cpu tries this program without one)"
            print(text, file=sys.stderr)
            return 2
        if gpus == 1 and "devices" in modes:
            print("devices: left out, TensorFlow sees one GPU only", file=sys.stderr)
            modes.remove("devices")
    rows = [("launcher", "mode", "on", "steps/s", "host MB", "GPU MB", "losses")]
    wrong = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.output or Path(temporary)
        for name in launchers:
            case = CASES[name]
            reference = train(case, "float32", folder / name / "cpu", 0, False, options.seed)
            for mode in modes:
                if mode not in case.modes:
                    continue
                place = folder / name / mode
                trained = train(case, mode, place, options.seconds, not options.cpu, options.seed)
                found = problems(case, reference, trained)
                wrong = wrong or bool(found)
                sizes = map(number, (trained.steps_per_second, trained.host_mb, trained.gpu_mb))
                on = "CPU" if options.cpu else "GPU"
                rows.append((name, mode, on, *sizes, "; ".join(found) or "as on the CPU"))
                print(f"{name} {mode}: {rows[-1][-1]}", file=sys.stderr, flush=True)
    print(formatted(rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
