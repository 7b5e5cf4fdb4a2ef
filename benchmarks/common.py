"""Helpers of the benchmarks: timing, memory, the machine, results as JSON and as a table.

Two things are compared by calling them in turn (A B A B ...) in one process, and by the median of
the ratios of neighbours: on a shared machine the speed of everything drifts together.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import rldarts_tf.tensorflow_environment  # for its effect, before TensorFlow loads

# isort: split
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import rldarts_tf
from rldarts_tf.agents.adam import FusedAdam
from rldarts_tf.commands.inputs import integers, positive
from rldarts_tf.errors import RLDartsError, report_error
from rldarts_tf.files import write_text
from rldarts_tf.launch import process
from rldarts_tf.options import PRECISIONS

# TF-Agents compares with `is ()`: a warning when its source is compiled for the first time.
warnings.filterwarnings("ignore", category=SyntaxWarning)

MATMUL_SIDE = 2048
Call = Callable[[], object]
"""Does one unit of work and returns when it is done."""


# --- time -----------------------------------------------------------------------------------------


class Timing:
    """The seconds of repeated calls, in the order of the rounds."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = list(seconds)

    @property
    def median(self) -> float:
        """The usual call."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """The call that was disturbed least."""
        return min(self.seconds)

    def times(self, other: Timing) -> float:
        """Ratio of this time to the other's; both from one `interleaved`."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds))

    def to_dict(self, prefix: str) -> dict[str, float]:
        """Median and minimum under keys that begin with the prefix."""
        return {f"{prefix}_seconds": self.median, f"{prefix}_seconds_min": self.minimum}


def interleaved(calls: Mapping[str, Call], repeats: int) -> dict[str, Timing]:
    """Times the calls in turn, `repeats` rounds, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(values) for name, values in seconds.items()}


def matmul_call() -> Call:
    """A float32 matrix product, the yardstick for all other rates; see `matmul_flop`."""
    matrix = tf.random.normal([MATMUL_SIDE, MATMUL_SIDE])

    @tf.function(autograph=False)
    def product(matrix: tf.Tensor) -> tf.Tensor:
        return matrix @ matrix

    return lambda: product(matrix).numpy()[0, 0]


def matmul_flop() -> int:
    """Floating-point operations of `matmul_call`."""
    return 2 * MATMUL_SIDE**3


# --- networks -------------------------------------------------------------------------------------


def make_images(batch: int, side: int) -> tf.Tensor:
    """Random uint8 images [batch, side, side, 3]."""
    pixels = np.random.default_rng(0).integers(256, size=(batch, side, side, 3), dtype=np.uint8)
    return tf.constant(pixels)


def train_step(
    forward: Callable[[tf.Tensor], tf.Tensor], weights: Sequence[tf.Variable], jit: bool = False
) -> Any:
    """A traced function images -> loss: one Adam step on the mean square of the features.

    Args:
      forward: images -> features.
      weights: what is trained; all of them exist.
      jit: whether XLA compiles the step.
    """
    optimizer = FusedAdam(1e-4)
    optimizer.build(weights)

    @tf.function(autograph=False, jit_compile=jit or None)
    def train(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.cast(forward(images), tf.float32) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    return train


# --- memory ---------------------------------------------------------------------------------------


def reset_peak_memory() -> None:
    """Makes the peak begin at what the process holds now, where the system allows it."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_memory_bytes() -> int:
    """The most memory that was resident at once."""
    return _status_bytes("VmHWM")


def resident_memory_bytes() -> int:
    """The memory that is resident now."""
    return _status_bytes("VmRSS")


def _status_bytes(field: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


# --- processes ------------------------------------------------------------------------------------


def run_fresh(script: str, arguments: Sequence[str]) -> Any:
    """Runs a script in a process of its own and returns the results that it writes to `--output`.

    TensorFlow's allocator keeps what it has had, and a function is traced once: memory and first
    calls can be measured only so.

    Raises:
      subprocess.CalledProcessError: it failed, or was killed for want of memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        command = [sys.executable, script, *arguments, f"--output={output}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(output, encoding="utf-8") as file:
            return json.load(file)["results"]


# --- results --------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Describes the machine and the versions."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "cores_of_machine": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "rldarts_tf": rldarts_tf.__version__,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_results(args: argparse.Namespace, results: Any) -> None:
    """Writes `--output`, where it was given: results, machine and command line arguments."""
    if args.output is None:
        return
    document = {
        "benchmark": os.path.basename(sys.argv[0]),
        "machine": machine(),
        "command_line": sys.argv[1:],
        "arguments": {key: value for key, value in vars(args).items() if key != "output"},
        "results": results,
    }
    write_text(args.output, json.dumps(document, indent=2) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table: the first column is text, the others are numbers; None shows as "-"."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no edge to fold a table at
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(f"[bold]{title}[/bold]", highlight=False)
    console.print(table)


def progress(what: str) -> None:
    """Says on standard error what is being measured."""
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def warn(what: str) -> None:
    """Says on standard error what is not as it should be."""
    print(f"warning: {what}", file=sys.stderr, flush=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- command line ---------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Ends on bad input with one line and exit code 2.

    Args:
      documentation: the docstring of the script.
    """

    def __init__(self, documentation: str) -> None:
        super().__init__(
            description=documentation,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--output", type=output_path(".json"), help="write the results here, as *.json"
        )

    def error(self, message: str) -> NoReturn:
        """One line, without the usage in front of it."""
        sys.exit(report_error(message))

    def add_count(self, flag: str, default: int, text: str = "") -> None:
        """An integer of at least 1; the help shows its default."""
        self.add_argument(
            flag, type=positive, default=default, help=f"{text} (%(default)s)".lstrip()
        )

    def add_depths(self) -> None:
        """Channels of the encoder."""
        self.add_argument(
            "--depths", type=integers, default="16,16,16", help="channels per block (%(default)s)"
        )

    def add_precision(self) -> None:
        """The Keras policy of the encoder."""
        self.add_argument(
            "--precision",
            choices=PRECISIONS,
            default="float32",
            help="Keras policy (%(default)s)",
        )

    def add_network_arguments(self, batch: int) -> None:
        """Channels and images."""
        self.add_depths()
        self.add_count("--batch", batch, "images in a train step")
        self.add_count("--image_side", 64, "height and width")


def run(main: Callable[[], None]) -> None:
    """Calls main; the package's complaints about input end like those of the parser."""
    process.compile_quietly()
    # As Ctrl+C does, so that the processes end that a benchmark has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except RLDartsError as error:
        sys.exit(report_error(error))


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """The argument type of known names, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"unknown name {name!r}; one or more of {', '.join(known)}"
                )
        return list(dict.fromkeys(chosen))

    return names


def output_path(suffix: str) -> Callable[[str], str]:
    """The argument type of a file to write; refused now rather than after the measurements."""

    def path(text: str) -> str:
        folder = os.path.dirname(os.path.abspath(text))
        if not text.endswith(suffix):
            raise argparse.ArgumentTypeError(f"must end in {suffix}, got {text!r}")
        if os.path.isdir(text) or not os.access(folder, os.W_OK):
            raise argparse.ArgumentTypeError(f"cannot be written: {text!r}")
        return text

    return path
