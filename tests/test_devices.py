"""Gradient steps that devices share: the same as on one; and what is combined with what."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import tensorflow as tf
from trainings import TINY

from rldarts_tf import ConfigError, Supernet
from rldarts_tf.agents.algorithm_settings import AlgorithmSettings
from rldarts_tf.devices import in_shares, make_strategy, splitting
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.results import read_results
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.settings_fields import setting
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings

# The program behind most of them is one process, whose time counts as the first test's.
pytestmark = pytest.mark.timeout(600)

# How far a gradient may be from that of float32 in one pass, as a share of its length.
TOLERANCES = {"mixed_bfloat16": 0.06, "mixed_float16": 0.005}
PAIRS = [
    "recompute + mixed_bfloat16",
    "recompute + mixed_float16",
    "recompute + jit_compile",
    "recompute + devices",
    "mixed_bfloat16 + jit_compile",
    "mixed_bfloat16 + devices",
    "mixed_float16 + jit_compile",
    "mixed_float16 + devices",
]


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    """What `on_two_cpus.py` has found and left."""
    folder = tmp_path_factory.mktemp("devices")
    program = Path(__file__).with_name("on_two_cpus.py")
    ended = server.run([str(program), str(folder)])
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", TINY)
def test_steps_and_checkpoints_of_two_devices_are_those_of_one(name, found):
    assert found[name]["losses"] < 1e-5 and found[name]["variables"] < 1e-5
    # s and s' online and s' by the target, of which s is differentiated; PPO's s and f(s) both are.
    assert found[name]["passes"] == 4


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_of_options_gives_the_gradient_of_the_plain_step(pair, found):
    assert found["pairs"].keys() == {*PAIRS}
    tolerance = max(TOLERANCES.get(option, 1e-5) for option in pair.split(" + "))
    assert found["pairs"][pair] < tolerance


def test_a_run_on_two_devices_is_resumed_on_one(folder):
    run = RunPaths(folder / "run")
    assert read_results(run.summary_path)["baseline"].env_steps == 32
    changed = [json.loads(line) for line in run.changes_path.open()]
    (change,) = (c for c in changed if c["setting"] == "baseline/TrainingSettings.devices")
    assert (change["old"], change["new"], change["from_step"]) == ("2", "1", 16)


# --- what is refused ----------------------------------------------------------------------------


class Plain:
    uses_training = False


@dataclasses.dataclass(frozen=True)
class OneDevice(AlgorithmSettings):
    num_envs: int = setting(1, "environments", least=1)


def check(settings, devices, encoder=Plain):
    StageSettings(settings, None, TrainingSettings(devices=devices)).check("search", encoder)


@pytest.mark.parametrize(
    ("settings", "devices", "message"),
    [
        (TINY["ppo"], 3, "PPOSettings.minibatch_size = 16 must be a multiple of .*devices = 3"),
        (TINY["rainbow"], 3, "RainbowSettings.batch_size = 4 must be a multiple of "),
        (TINY["sac"], 3, "SACSettings.batch_size = 4 must be a multiple of "),
        (
            dataclasses.replace(TINY["ppo"], jit_compile=True),
            2,
            "PPOSettings.jit_compile must be False with TrainingSettings.devices = 2",
        ),
        (OneDevice(), 2, "TrainingSettings.devices = 2 must be 1: OneDevice knows"),
    ],
)
def test_steps_that_devices_cannot_share_are_refused(settings, devices, message):
    check(settings, 1)
    with pytest.raises(ConfigError, match=f"^{message}"):
        check(settings, devices)


def test_normalization_by_the_batch_is_refused():
    encoder = Supernet("micro", [4], normalization="batch")
    check(TINY["ppo"], 1, encoder)
    with pytest.raises(
        ConfigError, match=r"must be 1 with EncoderSettings.normalization = 'batch'"
    ):
        check(TINY["ppo"], 2, encoder)


@pytest.mark.parametrize(
    "changes", [{"relaxation": "gumbel"}, {"relaxation": "random"}, {"smoothing": 0.1}]
)
def test_compiled_steps_with_op_weights_that_are_drawn_are_refused(changes):
    compiled = dataclasses.replace(TINY["ppo"], jit_compile=True)
    drawing = Supernet("micro", [4], search=SearchSettings(**changes))
    check(compiled, 1, Supernet("micro", [4]))
    check(TINY["ppo"], 1, drawing)
    with pytest.raises(ConfigError, match=r"^PPOSettings.jit_compile must be False with op"):
        check(compiled, 1, drawing)


def test_more_devices_than_there_are_are_refused():
    there = len(tf.config.list_logical_devices("CPU"))
    message = rf"^TrainingSettings.devices = {there + 1} must be at most {there}: so many CPUs"
    with pytest.raises(ConfigError, match=message):
        make_strategy(there + 1)


def test_outside_of_a_step_nothing_is_shared():
    assert make_strategy(1) is None
    with splitting(None):
        assert in_shares(lambda images: images + 1, tf.constant([1]), tf.Module()) == [2]
