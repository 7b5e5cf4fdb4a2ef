"""Launchers as processes, for the tests that meet them as their users do."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SERVER = """
import json, os, runpy, signal, sys, traceback
import importlib
import rldarts_tf.launch

importlib.import_module(sys.argv[1])

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(os.open(order["files"][number - 1], os.O_WRONLY | os.O_CREAT), number)
        os.chdir(order["cwd"])
        os.environ["TERM"] = "dumb"
        sys.argv = order["argv"]
        code = 0
        signal.alarm(120)  # a start that should have been refused must not train
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as error:
            code = 0 if error.code is None else error.code
        except BaseException:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


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


def finish(process: subprocess.Popen) -> Ended:
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


class Launcher:
    """A launcher, started as its user would.

    Args:
      path: of its file, inside the checkout.
      imports: the module whose import takes most of its start.
    """

    def __init__(self, path: str, imports: str) -> None:
        self.path = path
        self._imports = imports

    def start(self, flags: list[str], **kwargs) -> subprocess.Popen:
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

    @contextlib.contextmanager
    def quick(self, folder: Path) -> Iterator[Callable[..., Ended]]:
        """`launch`, without the time that the imports take.

        A server makes them once; each start is then a process of its own that has only to run the
        launcher's file.
        """
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER, self._imports],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

        def run(flags: list[str], cwd: Path = ROOT) -> Ended:
            files = [folder / "out", folder / "err"]
            for file in files:
                file.write_bytes(b"")
            argv = [str(ROOT / self.path) if cwd != ROOT else self.path, *flags]
            order = {"argv": argv, "files": [str(file) for file in files], "cwd": str(cwd)}
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
            return Ended(code, *(file.read_text("utf-8") for file in files))

        yield run
        server.stdin.close()
        server.wait(timeout=60)
        server.stdout.close()

    def commands(self, text: str) -> list[list[str]]:
        """The flags of each call of the launcher in a text, continued lines included."""
        joined = text.replace("\\\n", " ")
        pattern = rf"{re.escape(self.path)}((?: +--\S+)*) *$"
        return [shlex.split(flags) for flags in re.findall(pattern, joined, flags=re.MULTILINE)]


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
