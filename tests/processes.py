"""Launchers as processes, for the tests that meet them as their users do."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import python_server

ROOT = Path(__file__).resolve().parents[1]


def wait_until(condition, seconds=60.0):
    """Asks until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


@dataclasses.dataclass(frozen=True)
class Stopped:
    """What stood on disk when a process had been stopped."""

    ended: Ended
    metrics: list[list[str]]
    checkpoint: int
    summary: dict | None


def finish(process: subprocess.Popen | Forked) -> Ended:
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


class Server:
    """Starts Python programs as processes of their own, without the time that their imports take.

    Args:
      imports: names of the modules that are imported once; see `python_server`.
      folder: for what the programs write to their terminals.

    Attributes:
      python: a file that stands for the interpreter where a script wants one, as `Server.start`
        does for what follows it. It has no standard input, and signals end it alone.
    """

    def __init__(self, imports: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._number = itertools.count()
        self.address = str(folder / "socket")
        self._process = subprocess.Popen(
            [sys.executable, python_server.__file__, self.address, *imports],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.python = folder / "python"
        self.python.write_text(
            f"#!{sys.executable} -IS\nimport sys\n"
            f"sys.path.append({str(Path(python_server.__file__).parent)!r})\n"
            f"import python_server\npython_server.forward({self.address!r}, {str(self.python)!r})\n"
        )
        self.python.chmod(0o755)
        assert self._process.stdout.readline() == "ready\n", "the server has not started"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def start(self, arguments: Sequence[str], cwd: Path = ROOT, **options) -> Forked:
        """Starts a program; see `python_server.start`."""
        number = next(self._number)
        files = [self._folder / f"{number}.{name}" for name in ("out", "err")]
        for file in files:
            file.write_bytes(b"")
        names = [os.devnull, *map(str, files)]
        pid = python_server.start(self.address, arguments, names, str(cwd), **options)
        return Forked(self, pid, files)

    def run(self, arguments: Sequence[str], cwd: Path = ROOT, **options) -> Ended:
        """`start`, to its end."""
        return finish(self.start(arguments, cwd, **options))


class Forked:
    """A process of a `Server`, with those methods of `subprocess.Popen` that are used here."""

    def __init__(self, server: Server, pid: int, files: list[Path]) -> None:
        self.pid, self.returncode = pid, None
        self._server, self._files = server, files

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = python_server.ask(self._server.address, {"pid": self.pid})
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Waits for its end; returns what it wrote to stdout and stderr."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        out, err = (file.read_text("utf-8") for file in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to stop, if it still runs."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it, if it still runs."""
        self.send_signal(signal.SIGKILL)


class Launcher:
    """A launcher, started as its user would.

    Args:
      path: of its file, inside the checkout.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def start(
        self, flags: list[str], file_size: int | None = None, **kwargs
    ) -> subprocess.Popen | Forked:
        """Starts it.

        Args:
          flags: its command line.
          file_size: no file can grow beyond these bytes, as on a full disk.
          kwargs: options of `Popen`.
        """
        if file_size is not None:
            kwargs["preexec_fn"] = functools.partial(python_server.limit_files, file_size)
        environment = {**os.environ, "TERM": "dumb", **kwargs.pop("env", {})}
        return subprocess.Popen(
            [sys.executable, self.path, *flags],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )

    def launch(self, flags: list[str], **kwargs) -> Ended:
        return finish(self.start(flags, **kwargs))

    def start_and_wait(
        self, metrics: Path, rows: int, flags: list[str], **kwargs
    ) -> subprocess.Popen:
        """Starts it; returns when its table has so many rows more, while it goes on."""
        target = len(complete_rows(metrics)) + rows
        process = self.start(flags, **kwargs)
        try:
            deadline = time.monotonic() + 400
            while len(complete_rows(metrics)) < target and process.poll() is None:
                assert time.monotonic() < deadline, "no update in time"
                time.sleep(0.005)
            assert process.poll() is None, process.communicate()
        except BaseException:
            process.kill()
            raise
        return process

    def stop(
        self, root: Path, flags: list[str], how: signal.Signals, stage: str = "search", **kwargs
    ) -> Stopped:
        """Starts a stage, and stops it some updates later."""
        metrics = root / stage / "metrics.csv"
        process = self.start_and_wait(metrics, 3, flags, **kwargs)
        process.send_signal(how)
        ended = finish(process)
        summary = root / "summary.json"
        return Stopped(
            ended,
            complete_rows(metrics),
            checkpoint_step(root / stage),
            json.loads(summary.read_text("utf-8")) if summary.exists() else None,
        )

    def preloaded(self, server: Server) -> Preloaded:
        """The same launcher without the time that its imports take."""
        return Preloaded(self, server)

    def commands(self, text: str) -> list[list[str]]:
        """The flags of each call of the launcher in a text, continued lines included."""
        joined = text.replace("\\\n", " ")
        pattern = rf"{re.escape(self.path)}((?: +--\S+)*) *$"
        return [shlex.split(flags) for flags in re.findall(pattern, joined, flags=re.MULTILINE)]


class Preloaded(Launcher):
    """A launcher whose processes a `Server` starts; those with options of `Popen` it starts itself.

    Called with flags it launches with them, and without much patience: a start that should have
    been refused must not train.
    """

    def __init__(self, launcher: Launcher, server: Server) -> None:
        super().__init__(launcher.path)
        self._server = server

    def __call__(self, flags: list[str], cwd: Path = ROOT) -> Ended:
        return finish(self._server.start([str(ROOT / self.path), *flags], cwd, seconds=120))

    def start(
        self, flags: list[str], file_size: int | None = None, **kwargs
    ) -> subprocess.Popen | Forked:
        if kwargs:
            return super().start(flags, file_size, **kwargs)
        return self._server.start([self.path, *flags], file_size=file_size)


def assert_refused(ended: Ended, parts: list[str]) -> None:
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("error: ") and ended.err.endswith("\n")
    assert ended.err.count("\n") == 1, ended.err
    assert len(ended.err) < 500
    for part in parts:
        assert part in ended.err


def complete_rows(path: Path) -> list[list[str]]:
    """The rows of a table whose last line may be incomplete."""
    text = path.read_text("utf-8") if path.exists() else ""
    return [row for row in csv.reader(text.rpartition("\n")[0].splitlines())][1:]


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every file and folder, with content and time of change; `.lock` only names the process."""
    return {
        str(path.relative_to(folder)): (
            (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            if path.is_file()
            else ("folder",)
        )
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def contents(folder: Path) -> dict[str, str]:
    return {name: entry[0] for name, entry in snapshot(folder).items()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def numbers(rows: list[dict[str, str]], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def checkpoint_step(stage: Path) -> int:
    """The step of the newest checkpoint, as TensorFlow finds it."""
    import tensorflow as tf

    return int(tf.train.latest_checkpoint(str(stage / "checkpoints")).rpartition("-")[2])


def workers_of(parent: int) -> list[int]:
    """Processes that simulate for a launcher."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit():
                continue
            # Fields after the name, which is in brackets: state, parent.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if (
                int(fields[1]) == parent
                and b"dm_control.worker" in (entry / "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found
