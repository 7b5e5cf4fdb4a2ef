"""The speed of a training in a process of its own, by the line that it prints after each update."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from study_throughput import cpu_seconds


@dataclasses.dataclass(frozen=True)
class Training:
    """A program that trains until it is ended.

    Attributes:
      command: the program and its arguments.
      variables: all of its environment variables.
      update: how the line begins that ends an update; a group, if it has one, is the update's
        environment steps.
      batch: environment steps of an update, where the line does not say.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    update: re.Pattern[str]
    batch: int


@dataclasses.dataclass(frozen=True)
class Speed:
    """Environment steps, and the seconds that they took."""

    steps: int
    seconds: float
    cpu_seconds: float


def measure(training: Training, folder: str, least: float) -> Speed:
    """Runs a training in a folder until `least` seconds of CPU time are measured.

    Raises:
      SystemExit: it ended by itself.
    """
    with tempfile.TemporaryFile("w+") as errors:
        program = subprocess.Popen(
            training.command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=training.variables,
        )

        def clock() -> tuple[float, float]:
            return time.perf_counter(), cpu_seconds(program.pid)

        try:
            speed = measure_lines(program.stdout or (), training, least, clock)
        finally:
            program.kill()
            program.communicate()
        if speed is None:
            errors.seek(0)
            *_, reason = ["it does not say why", *errors.read().split("\n")[:-1]]
            raise SystemExit(f"{training.command[0]} ended by itself: {reason}")
    return speed


def measure_lines(
    lines: Iterable[str],
    training: Training,
    least: float,
    clock: Callable[[], tuple[float, float]],
) -> Speed | None:
    """The speed of the updates after the first one, which traces and compiles.

    Args:
      lines: what the training prints, as it comes.
      training: it.
      least: seconds of CPU time after which no more is read.
      clock: (seconds, seconds of CPU time of the training) now.

    Returns:
      The speed; None where the lines end before.
    """
    begun, steps = None, 0
    for match in filter(None, map(training.update.match, lines)):
        now = clock()
        if begun is None:
            begun = now
            continue
        steps += int(match[1]) if match.re.groups else training.batch
        if now[1] - begun[1] >= least:
            return Speed(steps, now[0] - begun[0], now[1] - begun[1])
    return None
