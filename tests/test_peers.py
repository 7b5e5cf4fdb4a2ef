"""The parts of benchmarks/peers.py; what it measures takes minutes, and a peer."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("tf_agents")
pytest.importorskip("procgen")

import numpy as np
import tensorflow as tf
from processes import wait_until
from reference import randomize
from spaces import MICRO_2

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, no package

import cleanrl_ppo
import common
import peers
import printed_updates
from plain import PlainEncoder
from printed_updates import Speed, Training

import rldarts_tf
from rldarts_tf.errors import ConfigError

CLEANRL = Training((), {}, cleanrl_ppo.UPDATE, batch=64)


def training(program, update=r"steps: (\d+)"):
    command = (sys.executable, "-S", "-c", program)
    return Training(command, dict(os.environ), re.compile(update), batch=64)


def test_speed_counts_whole_updates_after_the_first():
    printed = iter(["SPS: 9", "global_step=70, episodic_return=1", *["SPS: 9"] * 9])
    seconds = iter([(100.0, 1.0), (110.0, 2.5), (130.0, 4.0)])
    speed = printed_updates.measure_lines(printed, CLEANRL, 2.0, lambda: next(seconds))
    assert speed == Speed(steps=2 * 64, seconds=30.0, cpu_seconds=3.0)
    assert len([*printed]) == 7  # what comes later is not waited for


def test_an_update_has_the_steps_that_it_prints():
    own = dataclasses.replace(CLEANRL, update=peers.OWN_UPDATE)
    printed = [f"environment steps: {steps}" for steps in (60, 61, 62)]
    seconds = iter([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)])
    speed = printed_updates.measure_lines(printed, own, 2.0, lambda: next(seconds))
    assert speed == Speed(steps=61 + 62, seconds=2.0, cpu_seconds=2.0)


def test_sigterm_ends_the_training_that_is_measured_too(tmp_path):
    silent = "import os, time; open('pid', 'w').write(f'{os.getpid()} '); time.sleep(600)"
    program = (
        "import common, os, re, sys\n"
        "from printed_updates import Training, measure\n"
        f"training = Training((sys.executable, '-c', {silent!r}), {{}}, re.compile('x'), 1)\n"
        f"common.run(lambda: measure(training, {str(tmp_path)!r}, 1.0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(common.__file__)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as benchmark:
        pid = tmp_path / "pid"
        wait_until(lambda: pid.exists() and pid.read_text().endswith(" "))
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_training_ends_once_it_is_measured(tmp_path):
    endless = (
        "import os, time\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "while True:\n"
        "    print('steps: 5', flush=True)\n"
        "    end = time.process_time() + 0.05\n"
        "    while time.process_time() < end: pass\n"
    )
    speed = printed_updates.measure(training(endless), str(tmp_path), least=0.1)
    assert speed.cpu_seconds >= 0.1 and speed.steps % 5 == 0
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_training_that_ends_by_itself_says_why(tmp_path):
    broken = training("print('steps: 5'); raise ValueError('no game')")
    with pytest.raises(SystemExit, match="ended by itself: ValueError: no game"):
        printed_updates.measure(broken, str(tmp_path), least=1.0)


def arguments(checkout, python):
    flags = [f"--cleanrl={checkout}", f"--cleanrl_python={python}"]
    return peers.make_parser().parse_args([*flags, "--steps=8", "--minibatch_size=128"])


def test_cleanrl_gets_the_numbers_of_ours(tmp_path):
    script = tmp_path / "cleanrl" / "ppo_procgen.py"
    script.parent.mkdir()
    script.touch()
    made = cleanrl_ppo.make_command(arguments(tmp_path, sys.executable))
    python, _, path, *options = made
    assert (python, path) == (sys.executable, str(script))
    assert {*options} > {"--num-envs=64", "--num-steps=8", "--num-minibatches=4"}


def test_cleanrl_that_is_not_there_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ConfigError, match="must be a folder with cleanrl"):
        cleanrl_ppo.make_command(arguments(tmp_path, sys.executable))
    (tmp_path / "cleanrl").mkdir()
    (tmp_path / "cleanrl" / "ppo_procgen.py").touch()
    with pytest.raises(ConfigError, match="no such program: 'no-python'"):
        cleanrl_ppo.make_command(arguments(tmp_path, "no-python"))


def test_cleanrl_imports_minatar_where_procgen_is_meant(tmp_path):
    assert cleanrl_ppo.make_place(str(tmp_path), "procgen") == {"PYTHONPATH": str(tmp_path)}
    assert not [*tmp_path.iterdir()]
    cleanrl_ppo.make_place(str(tmp_path), "minatar")
    assert (tmp_path / "procgen.py").read_bytes() == cleanrl_ppo.STAND_IN.read_bytes()


def test_a_plain_encoder_trains_the_weights_that_it_computes_with():
    encoder = PlainEncoder((6, 6, 3), "stack", MICRO_2, [3], features=4)
    images = common.make_images(2, 6)
    # Of weights of its own, those of the supernet's cells are copies.
    np.testing.assert_allclose(
        encoder(images), rldarts_tf.Supernet.call(encoder, images), rtol=1e-5, atol=1e-6
    )
    randomize(encoder.trainable_weights, seed=1)
    with tf.GradientTape() as tape:
        features = encoder(images)
    assert all(g is not None for g in tape.gradient(features, encoder.trainable_weights))
    assert {w.ref() for w in encoder.alpha.trainable_weights} < {
        w.ref() for w in encoder.trainable_weights
    }
