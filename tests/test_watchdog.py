"""The watchdog: a process that hangs ends with one line, and no other process does."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.watchdog import EXIT_CODE, Watchdog
from rldarts_tf.errors import ConfigError, RunError

PROGRAM = """
import signal, sys, time
from rldarts_tf.envs.watchdog import Watchdog

signal.signal(signal.SIGTERM, lambda *_: None)  # as a run that is to save first
watchdog = Watchdog(float(sys.argv[1]), "the simulator of maze")
print("ready", flush=True)
for seconds in sys.argv[2:]:
    with watchdog:
        time.sleep(float(seconds))
print("done", flush=True)
"""


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_process_that_hangs_ends_with_one_line_even_after_sigterm():
    process = start(1, 0.1, 600)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and out == ""
    expected = "error: the simulator of maze has not answered for 1 s; the last checkpoint stays"
    assert err.strip() == expected


def test_many_short_contexts_may_take_longer_together():
    process = start(2, *[0.3] * 10)
    assert process.communicate(timeout=60) == ("done\n", "")
    assert process.returncode == 0


def test_time_in_which_the_process_is_stopped_does_not_count():
    process = start(2, 0.5)
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60) == ("done\n", "")


def test_its_thread_ends_with_it():
    before = threading.active_count()
    watchdog = Watchdog(1, "")
    assert threading.active_count() == before + 1
    del watchdog
    gc.collect()
    deadline = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_error_of_a_simulator_names_the_game(monkeypatch):
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen.batch import ProcgenEnvironment

    environment = ProcgenEnvironment("maze", 2, seed=0, num_threads=0)
    before = environment.reset()

    def act(action):
        raise RuntimeError("no\nlevel")

    monkeypatch.setattr(environment._env, "act", act)
    with pytest.raises(RunError, match=r"^the simulator of maze failed: no level$"):
        environment.step(np.zeros(2, np.int32))
    assert environment.episodes.take().returns.size == 0
    np.testing.assert_array_equal(environment.current_time_step().observation, before.observation)
    environment.close()


def test_a_suite_guards_every_step(monkeypatch):
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen.suite import ProcgenSuite

    made = []
    monkeypatch.setattr(Watchdog, "__init__", lambda *args: made.append(args[1:]))
    monkeypatch.setattr(Watchdog, "__enter__", lambda self: made.append("in"))
    monkeypatch.setattr(Watchdog, "__exit__", lambda self, *error: made.append("out"))
    suite = ProcgenSuite(ProcgenSettings(("maze", "leaper"), step_timeout=7))
    environment = suite.make(2, 0)
    environment.reset()
    assert made == [(7, "the simulator of maze, leaper")]
    environment.step(np.zeros(2, np.int32))
    assert made[1:] == ["in", "out"]
    environment.close()


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "5", True, None])
@pytest.mark.parametrize("make", [ProcgenSettings, DMControlSettings])
def test_a_time_that_is_none_is_refused(make, value):
    with pytest.raises(ConfigError, match=rf"^{make.__name__}\.step_timeout must be"):
        make(step_timeout=value)
