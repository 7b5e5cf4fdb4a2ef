"""Integers and numbers: what passes, in what form, and what a message says."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from rldarts_tf import checks
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.baselines import ImpalaCNN
from rldarts_tf.discretization import discretize
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.search_space import MICRO, SearchSpace, num_edges
from rldarts_tf.training.settings import TrainingSettings


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_an_integer_of_any_kind_becomes_an_int(value):
    checked = checks.check_integer("field", value, least=3, most=3)
    assert type(checked) is int and checked == 3


@pytest.mark.parametrize(
    "value",
    [True, np.True_, np.array(True), 3.0, np.float32(3), "3", None, [3], np.array([3, 3])],
    ids=repr,
)
def test_what_is_no_integer_is_shown(value):
    with pytest.raises(ConfigError) as raised:
        checks.check_integer("field", value, least=0)
    assert str(raised.value) == f"field must be an integer of at least 0, got {value!r}"


@pytest.mark.parametrize("value", [-1, 5, np.int64(-1)])
def test_limits_are_inclusive_and_stand_in_the_message(value):
    assert [checks.check_integer("field", n, 0, 4) for n in (0, 4)] == [0, 4]
    with pytest.raises(GenotypeError) as raised:
        checks.check_integer("field:", value, 0, 4, GenotypeError)
    assert str(raised.value) == f"field: must be an integer from 0 to 4, got {value}"


def test_numbers_are_real_and_no_truth_values():
    for value in (1, 0.5, np.float32(0.5), np.int64(1), math.nan, math.inf):
        assert checks.is_number(value)
    for value in (True, np.True_, 1j, np.complex64(1), "1", None, np.ones(2)):
        assert not checks.is_number(value)


@pytest.mark.parametrize("value", [0.0, math.nan, "1", True])
def test_a_number_that_is_not_wanted_is_shown(value):
    checks.check_number("field", np.float32(0.5), "a number above 0", lambda x: x > 0)
    with pytest.raises(ConfigError) as raised:
        checks.check_number("field", value, "a number above 0", lambda x: x > 0)
    assert str(raised.value) == f"field must be a number above 0, got {value!r}"


N = np.int64
NUMPY_INTEGERS = {
    "ppo": (PPOSettings, {"num_envs": N(64)}),
    "rainbow": (RainbowSettings, {"num_atoms": N(51), "n_step": N(3)}),
    "sac": (SACSettings, {"random_shift": N(4)}),
    "procgen": (ProcgenSettings, {"num_levels": N(200)}),
    "dm_control": (DMControlSettings, {"action_repeat": N(4), "image_size": N(64)}),
    "training": (TrainingSettings, {"seed": N(1), "pictures": N(0)}),
    "space": (SearchSpace, {"name": "own", "normal_ops": ("relu",), "num_nodes": N(3)}),
    "encoder": (ImpalaCNN, {"features": N(64), "kernel_size": N(5)}),
}


@pytest.mark.parametrize("case", NUMPY_INTEGERS)
def test_numpy_integers_are_taken_everywhere_and_kept_as_ints(case):
    kind, arguments = NUMPY_INTEGERS[case]
    made = kind(**arguments)
    for name, value in arguments.items():
        kept = getattr(made, name)
        assert kept == value and not isinstance(kept, np.integer)


def test_lists_of_numpy_integers_are_kept_as_ints():
    sizes = SACSettings(hidden_sizes=[np.int64(8), np.int32(4)]).hidden_sizes
    capacity = RainbowSettings(replay_capacity_by_game={"default": np.int64(9)})
    depths = ImpalaCNN([np.int64(4), 4]).depths
    for value in (*sizes, capacity.replay_capacity_by_game["default"], *depths):
        assert type(value) is int


def test_a_genotype_of_numpy_integers_is_written_as_one_of_ints(tmp_path):
    plain = random_genotype(MICRO, random.Random(0))
    fields = {**plain.to_dict(), "search_space": MICRO.name, "space": MICRO}
    del fields["format_version"]
    for name in ("top_k", "num_normal", "num_reduction"):
        fields[name] = np.int64(fields[name])
    fields["cells"] = {
        cell_type: [[[np.int64(i), op] for i, op in node] for node in nodes]
        for cell_type, nodes in fields["cells"].items()
    }
    genotype = Genotype(**fields)
    assert genotype == plain
    assert genotype.to_json() == plain.to_json() == json.dumps(plain.to_dict())


def test_top_k_of_a_discretization_may_be_a_numpy_integer():
    shape = (num_edges(MICRO.num_nodes), len(MICRO.ops("normal")))
    logits = {"normal": np.zeros(shape)}
    assert discretize(logits, MICRO, np.int64(1)) == discretize(logits, MICRO, 1)
    assert type(discretize(logits, MICRO, np.int64(1)).top_k) is int
