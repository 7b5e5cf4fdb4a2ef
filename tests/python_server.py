"""A Python that has imported what takes long, and is forked for each program that it runs.

`python_server.py ADDRESS MODULE ...` imports the modules before anything of TensorFlow runs, and
answers on a socket until its standard input is closed. An order is one line of JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any


def ask(address: str, order: dict[str, Any]) -> int | None:
    """Sends an order; returns the answer: a process, or how it ended, None while it runs."""
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rw") as stream:
        client.connect(address)
        print(json.dumps(order), file=stream, flush=True)
        return json.loads(stream.readline())


def start(
    address: str, arguments: Sequence[str], files: Sequence[str], cwd: str, **options: Any
) -> int:
    """Starts a program; returns its process.

    Args:
      address: file of the server's socket.
      arguments: a file, `-m MODULE` or `-c PROGRAM`, and what follows.
      files: its standard input, output and error.
      cwd: its working directory.
      options: `seconds`: it is killed then; `file_size`: no file of it can grow beyond these bytes;
        `executable`: its `sys.executable`.
    """
    order = {"arguments": [*arguments], "files": [*files], "cwd": cwd, "env": {**os.environ}}
    pid = ask(address, {**order, **options})
    assert pid is not None
    return pid


def limit_files(size: int) -> None:
    """No file of this process can grow beyond so many bytes from now on, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def forward(address: str, executable: str) -> None:
    """Does what this Python was started for in a process of the server."""
    files = [os.devnull, *(f"/proc/{os.getpid()}/fd/{number}" for number in (1, 2))]
    pid = start(address, sys.argv[1:], files, os.getcwd(), executable=executable)
    while (code := ask(address, {"pid": pid})) is None:
        time.sleep(0.02)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def _run_program(arguments: Sequence[str]) -> None:
    if arguments[0] == "-m":
        sys.argv = [*arguments[1:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [*arguments]
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")


def _run(
    arguments: Sequence[str],
    files: Sequence[str],
    cwd: str,
    env: dict[str, str],
    seconds: int = 600,
    file_size: int | None = None,
    executable: str = sys.executable,
) -> None:
    """Runs a program in this process, and ends it."""
    for number, name in enumerate(files):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env, TERM="dumb")
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.executable = executable
    if file_size is not None:
        limit_files(file_size)
    signal.alarm(seconds)
    code = 0
    try:
        _run_program(arguments)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(address: str, *modules: str) -> None:
    """See the module."""
    for name in modules:
        importlib.import_module(name)
    # The folder of this file, which programs do not know.
    del sys.path[0]
    # What is there is no garbage, and stays in the pages that all processes share.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as stream:
                order = json.loads(stream.readline())
                if "pid" in order:
                    pid, status = os.waitpid(order["pid"], os.WNOHANG)
                    answer = os.waitstatus_to_exitcode(status) if pid else None
                elif (answer := os.fork()) == 0:
                    break
                print(json.dumps(answer), file=stream)
        else:
            return
    _run(**order)


if __name__ == "__main__":
    main(*sys.argv[1:])
