"""Tiny runs of the three launchers, and what must hold of whatever they leave."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import tiny
from processes import Ended, complete_rows, finish


class FaultError(AssertionError):
    """A run did not survive."""


def check(condition: Any, message: str) -> None:
    """Raises a FaultError unless the condition holds."""
    if not condition:
        raise FaultError(message)


@dataclasses.dataclass(frozen=True)
class Program(tiny.Program):
    """A tiny run on one thread, counted in updates."""

    def command(self, root: Path, updates: int, stage: str = "search", *more: str) -> list[str]:
        """The command line of a run of so many updates."""
        threads = ("--intra_op_threads=1", "--inter_op_threads=1")
        return self.flags(root, updates * self.update, f"--stage={stage}", *threads, *more)

    def launch(self, root: Path, updates: int, *more: str, **kwargs: Any) -> Ended:
        """A search, to its end."""
        return self.launcher.launch(self.command(root, updates, "search", *more), **kwargs)

    def start_and_wait(self, root: Path, updates: int, rows: int, **kwargs: Any) -> Any:
        """A search that runs on in the background, when its table has so many rows more."""
        metrics = root / "search" / "metrics.csv"
        try:
            return self.launcher.start_and_wait(
                metrics, rows, self.command(root, updates), **kwargs
            )
        except AssertionError as error:
            raise FaultError(str(error)) from None


def one_threaded(program: tiny.Program) -> Program:
    """The program of faults for a tiny run."""
    fields = dataclasses.fields(program)
    return Program(**{field.name: getattr(program, field.name) for field in fields})


PPO = one_threaded(tiny.PPO.having(*tiny.SMALL_SPACE))
RAINBOW = one_threaded(tiny.RAINBOW.having(*tiny.SMALL_SPACE))
SAC = one_threaded(tiny.SAC)


def weights(root: Path, stage: str = "search") -> dict[str, bytes]:
    """The content of the newest checkpoint but for times, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(root / stage / "checkpoints")))
    # Not what counts the saves, and not the arrays of the program, which hold the seconds it took.
    other = ("_CHECKPOINTABLE", "program", "save_counter")
    return {
        name: bytes(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(other)
    }


def check_equal(root: Path, reference: Path) -> None:
    """α, θ and the optimizer are those of a search that nobody disturbed."""
    check(weights(root) == weights(reference), "the weights are not those of an undisturbed search")


def check_rows(root: Path, update: int) -> None:
    """No row is missing or there twice."""
    steps = [int(row[0]) for row in complete_rows(root / "search" / "metrics.csv")]
    expected = list(range(update, update * (len(steps) + 1), update))
    check(steps == expected, f"rows of metrics.csv: {steps}")


def check_ended(ended: Ended, code: int = 0, *parts: str) -> None:
    """The exit code, and that the last line on stderr has these parts."""
    check(ended.code == code, f"exit code {ended.code}: {ended.err}")
    if parts:
        last = ended.err.splitlines()[-1]
        check(all(part in last for part in parts), ended.err)


def check_refused(ended: Ended, *parts: str) -> None:
    """One line, which has these parts, and exit code 2."""
    check_ended(ended, 2, *parts)
    check(ended.err.count("\n") == 1, ended.err)


def terminate(process: Any) -> Ended:
    """SIGTERM, and what comes of it."""
    process.send_signal(signal.SIGTERM)
    return finish(process)
