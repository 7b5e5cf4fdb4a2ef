"""The processes of a pool, as their parent sees them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rldarts_tf.envs.pool.worker import BAD_INPUT
from rldarts_tf.errors import ConfigError, RunError, one_line

# Python finds modules first in the folder where it starts: there this package is, and no file of
# the user's that has the name of another one.
_ROOT = Path(__file__).resolve().parents[3]


class WorkerError(Exception):
    """A worker has failed; the message says how.

    Args:
      message: one line.
      bad_input: the arguments were at fault.
    """

    def __init__(self, message: str, bad_input: bool = False) -> None:
        super().__init__(message)
        self.bad_input = bad_input

    def error(self, prefix: str) -> ConfigError | RunError:
        """Message for the user."""
        return ConfigError(str(self)) if self.bad_input else RunError(f"{prefix}{self}")


class WorkerProcess:
    """A process that simulates one environment, see `rldarts_tf.envs.pool.worker`.

    Args:
      program: the module that it runs.
      arguments: of the program; see `rldarts_tf.envs.pool.worker.run`.
      memory: the file that it inherits.
      variables: environment variables that are set unless the user has.
    """

    def __init__(
        self, program: str, arguments: Mapping[str, Any], memory: int, variables: Mapping[str, str]
    ) -> None:
        # A file rather than a pipe: nobody has to read it for the worker to go on.
        self._errors = os.memfd_create("errors")
        # Inherited: Ctrl-C must not end the worker in the moment before it ignores SIGINT itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", program, json.dumps(arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(memory,),
                bufsize=0,
                cwd=_ROOT,
                env={**variables, **os.environ},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._answers = select.poll()
        self._answers.register(self._stdout, select.POLLIN)
        self._started = time.monotonic()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, command: bytes) -> None:
        """Sends a command of one byte."""
        self._started = time.monotonic()
        try:
            self._stdin.write(command)
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, deadline: float) -> None:
        """Waits, until a time of `time.monotonic`, for the answer of one byte."""
        self._read(1, deadline)

    def receive_greeting(self, deadline: float) -> dict[str, Any]:
        """Waits for the line that says that the environment is made."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(4096, deadline)
        return json.loads(line)

    def kill(self) -> None:
        """Ends the process, whatever it is doing. May be called twice."""
        if self._stdin.closed:
            return
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        os.close(self._errors)

    def _read(self, size: int, deadline: float) -> bytes:
        left = max(deadline - time.monotonic(), 0.0)
        if not self._answers.poll(1000 * left):
            seconds = time.monotonic() - self._started
            raise WorkerError(f"no answer within {seconds:.3g} s{self._last_words()}")
        answer = self._stdout.read(size)
        if not answer:
            raise self._death()
        return answer

    def _death(self) -> WorkerError:
        """Describes a process that has closed its end of the pipes."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return WorkerError(f"closed its pipes{self._last_words()}")
        if code == BAD_INPUT:
            return WorkerError(self._last_words()[2:], bad_input=True)
        if code < 0:
            return WorkerError(f"ended by {signal.Signals(-code).name}{self._last_words()}")
        return WorkerError(f"ended with exit code {code}{self._last_words()}")

    def _last_words(self) -> str:
        """The last line on its stderr after a colon, or nothing."""
        size = os.fstat(self._errors).st_size
        text = os.pread(self._errors, 8192, max(size - 8192, 0)).decode("utf-8", "replace")
        lines = text.strip().splitlines()
        return f": {one_line(lines[-1], None)}" if lines else ""
