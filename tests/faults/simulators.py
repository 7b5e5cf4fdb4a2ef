"""Simulators that raise, hang and die."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

from processes import complete_rows, finish, workers_of
from programs import PPO, SAC, check, check_ended, check_equal, check_rows

# Python runs a `sitecustomize` that it finds in each process. gym3 is what calls Procgen's library.
PROCGEN_FAULT = """
import gym3.libenv, time
act, calls = gym3.libenv.CEnv.act, []
def faulty(self, actions):
    calls.append(1)
    if len(calls) == {call}:
        {fault}
    return act(self, actions)
gym3.libenv.CEnv.act = faulty
"""
# In the workers only.
DM_CONTROL_FAULT = """
command = open("/proc/self/cmdline").read()
if "rldarts_tf.envs.dm_control.worker" in command:
    import random
    from dm_control.rl import control
    step, rng = control.Environment.step, random.Random(command)
    def faulty(self, action):
        if rng.random() < 0.002:
            raise RuntimeError("physics gave up")
        return step(self, action)
    control.Environment.step = faulty
"""
RAISES, HANGS = "raise RuntimeError('no level')", "time.sleep(3600)"
TIMEOUT = 3


def environment_with(folder: Path, code: str) -> dict[str, str]:
    """What a process needs in its environment to run `code` before all else."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}


def procgen(folder: Path, updates: int, reference: Path, fault: str) -> int:
    """Each start ends after some steps with one line; the last one reaches the same weights.

    Returns:
      How often the simulator failed.
    """
    root = folder / f"procgen-{len(fault)}"
    environment = environment_with(folder, PROCGEN_FAULT.format(call=8 * 15 + 3, fault=fault))
    said = "no level" if fault == RAISES else f"has not answered for {TIMEOUT} s"
    timeout = f"--gin_bindings=ProcgenSettings.step_timeout = {TIMEOUT}"
    for failures in range(updates):
        ended = PPO.launch(root, updates, timeout, env=environment)
        check_rows(root, PPO.update)
        if ended.code == 0:
            check_equal(root, reference)
            check(failures, "the simulator never failed")
            return failures
        check_ended(ended, 2, "the simulator of bossfight", said)
    check(False, "the run never ended")
    raise AssertionError


def dm_control_dies(
    folder: Path, updates: int, times: int, how: signal.Signals, rng: random.Random
) -> None:
    """Workers get a signal, at random moments; others take their places, and the run ends well."""
    root = folder / f"dm-control-{how.name}"
    table = root / "search" / "metrics.csv"
    timeout = f"--gin_bindings=DMControlSettings.step_timeout = {TIMEOUT}"
    process = SAC.launcher.start(SAC.command(root, updates, "search", timeout))
    failed = 0
    try:
        deadline = time.monotonic() + 600
        rows, wait = 0, 1
        while process.poll() is None and failed < times:
            check(time.monotonic() < deadline, "no update in time")
            if len(complete_rows(table)) >= rows + wait:
                rows = len(complete_rows(table))
                wait = rng.randint(1, 2)
                workers = workers_of(process.pid)
                if len(workers) == 2:
                    time.sleep(rng.uniform(0, 0.1))
                    os.kill(rng.choice(workers), how)
                    failed += 1
            time.sleep(0.005)
        ended = finish(process)
    finally:
        process.kill()
    check_ended(ended)
    check(failed == times, f"only {failed} workers got their signal: give more updates")
    _check_replaced(ended.err, times)


def dm_control_raises(folder: Path, updates: int) -> int:
    """Tasks raise, at random steps; returns how many."""
    root = folder / "dm-control-raises"
    ended = SAC.launch(root, updates, env=environment_with(folder, DM_CONTROL_FAULT))
    check_ended(ended)
    times = ended.err.count("physics gave up")
    check(times, "the simulator never failed")
    _check_replaced(ended.err, times)
    return times


def _check_replaced(err: str, times: int) -> None:
    lines = re.findall(r"environment \d+ \(pendulum/swingup\): .*started again", err)
    check(len(lines) == times, f"{times} failures, and {len(lines)} lines: {err[-1000:]}")
