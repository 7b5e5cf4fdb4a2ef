"""A launcher as a process: flags, exit codes, threads, signals.

Exit codes: 0 done (or stopped by SIGTERM or Ctrl-C after a checkpoint), 2 bad input, 1 a bug; both
with one line that says what is wrong.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import tensorflow as tf
from absl import app, flags, logging

from rldarts_tf.errors import report_error, report_exception, show_anything
from rldarts_tf.runs.quiet import quiet_stderr

# TF-Agents 0.19 compares with `is ()`: a warning when its source is compiled for the first time,
# which is why this stands before a launcher's import of it, and in what AutoGraph compiles.
warnings.filterwarnings("ignore", category=SyntaxWarning)


def run(main: Callable[[], None]) -> NoReturn:
    """Parses absl's flags and calls `main`; bad input ends with one line and exit code 2."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = flags.FLAGS(list(argv))
        except flags.Error as error:
            sys.exit(report_error(error))
        if len(rest) > 1:
            unknown = f"unknown argument {rest[1]!r}: settings are given as --flag=value"
            sys.exit(report_error(unknown))
        return rest

    def guarded(argv: Any) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)
        try:
            main()
        except Exception as error:
            sys.exit(report_exception(error))

    show_anything()
    app.run(guarded, flags_parser=parse)
    raise AssertionError("app.run does not return")


def use_threads(intra_op: int, inter_op: int) -> None:
    """Sets how many threads one TensorFlow op may use, and how many ops run at once; 0: all."""
    tf.config.threading.set_intra_op_parallelism_threads(intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(inter_op)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C ask for a stop at the next checkpoint; a second Ctrl-C is immediate.

    Yields:
      A function that tells whether a stop was asked for.
    """
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        del frame
        if not asked:
            print("stopping after this update, with a checkpoint ...", file=sys.stderr, flush=True)
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def compile_quietly() -> None:
    """Compiles something with XLA, which writes a notice to stderr when it does so first."""
    with quiet_stderr(), tf.device("CPU:0"):
        tf.function(tf.negative, jit_compile=True)(0.0)
