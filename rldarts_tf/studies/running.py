"""One trial: its processes, one after the other, on the machine where this runs."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.studies.pruning import prune
from rldarts_tf.studies.trials import ROOT, StudyPaths, Trial

FINISHED = ""
"""Result of a trial that is finished; any other text says why it is not."""
STOPPED = "stopped"
"""Result of a trial that was asked to stop; it resumes from its checkpoint."""

_POLL_S = 0.2
_LOCK_S = 300.0
"""Longer than a training takes to save a checkpoint and end."""


class Process(Protocol):
    """The methods of `subprocess.Popen` that are used here."""

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""

    def terminate(self) -> None:
        """Sends SIGTERM."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A trial, and what a machine needs to know to run it.

    Attributes:
      root: of the study; the same directory on every machine.
      trial: the trial.
      threads: of each process.
      folder: working directory, which paths of gin files and modules may be relative to.
    """

    root: str
    trial: Trial
    threads: int
    folder: str


Start = Callable[[Sequence[str], BinaryIO, Task], Process]
"""(arguments of `python -m rldarts_tf`, what its output is appended to, whose) -> the process."""


def start_process(arguments: Sequence[str], log: BinaryIO, task: Task) -> subprocess.Popen[bytes]:
    """Starts a command that ends with this process."""
    threads = str(task.threads)
    return subprocess.Popen(
        [sys.executable, "-m", "rldarts_tf.studies.child", str(os.getpid()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=task.folder,
        # For the commands that have no flags for them.
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads},
        # Ctrl-C in the terminal is for the study alone, which tells its trials.
        start_new_session=True,
    )


def run_trial(
    task: Task,
    stopping: Callable[[], bool] = lambda: False,
    start: Start = start_process,
) -> str:
    """Runs or resumes a trial to its end.

    Args:
      task: the trial.
      stopping: asked all the time; True stops it with a checkpoint.
      start: starts a process.

    Returns:
      `FINISHED`, `STOPPED`, or one line that says why it has failed.
    """
    paths = StudyPaths(Path(task.root))
    log_path = paths.log_path(task.trial)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    if task.trial.makes is not None:
        (paths.root / task.trial.makes).parent.mkdir(parents=True, exist_ok=True)
    if not _wait_until_free(paths.run(task.trial), stopping):
        return STOPPED if stopping() else "its run directory is in use by another process"
    with log_path.open("ab") as log:
        for command in task.trial.commands:
            code = _run_to_end(start(_arguments(command, task), log, task), stopping)
            if stopping() and paths.state(task.trial) != "finished":
                return STOPPED
            if code:
                return f"exit code {code}: {_last_line(log_path)}"
    if paths.state(task.trial) != "finished":
        return "was interrupted by somebody else"
    prune(paths.run(task.trial).stage(task.trial.stage))
    return FINISHED


def _arguments(command: Sequence[str], task: Task) -> list[str]:
    arguments = [argument.replace(ROOT, task.root) for argument in command]
    if command[0] == "train":
        arguments += [f"--intra_op_threads={task.threads}", f"--inter_op_threads={task.threads}"]
    return arguments


def _run_to_end(process: Process, stopping: Callable[[], bool]) -> int:
    """Waits for a process; returns its exit code."""
    told = False
    with _terminated_on_error(process):
        while True:
            code = process.poll()
            if code is not None:
                return code
            if stopping() and not told:
                process.terminate()
                told = True
            time.sleep(_POLL_S)


@contextlib.contextmanager
def _terminated_on_error(process: Process) -> Iterator[None]:
    """Where the wait is broken off, as Ray does to cancel a task, the process stops too."""
    try:
        yield
    except BaseException:
        process.terminate()
        while process.poll() is None:
            time.sleep(_POLL_S)
        raise


def _wait_until_free(run: RunPaths, stopping: Callable[[], bool]) -> bool:
    """Waits for the lock of a run directory; False if it is still taken.

    The study, or the machine, that ran the trial before may have died a moment ago: the trial is
    then about to save a checkpoint.
    """
    deadline = time.monotonic() + _LOCK_S
    while not stopping() and time.monotonic() < deadline:
        if not _is_locked(run.lock_path):
            return True
        time.sleep(_POLL_S)
    return False


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


def _last_line(path: Path, most: int = 200) -> str:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 4096))
        lines = stream.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:most] for line in reversed(lines) if line.strip()), "no output")
