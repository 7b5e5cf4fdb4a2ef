"""What is used after it was closed says so in one line, whatever kind of environment it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rldarts_tf.errors import RunError

HERE = Path(__file__).resolve().parent


def catch():
    pytest.importorskip("dm_env")
    from rldarts_tf.envs.catch import CatchSettings, CatchSuite

    return CatchSuite(CatchSettings()).make(2, seed=0)


def planted():
    pytest.importorskip("dm_env")
    from rldarts_tf.envs.planted import PlantedSettings, PlantedSuite

    return PlantedSuite(PlantedSettings()).make(2, seed=0)


def procgen():
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen.joint import make_procgen

    return make_procgen(["bossfight"], 2, seed=0)


def procgen_joint():
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen.joint import make_procgen

    return make_procgen(["bossfight", "coinrun"], 2, seed=0)


def procgen_for_acme():
    pytest.importorskip("procgen")
    from rldarts_tf.envs.procgen.environment import DmProcgen

    return DmProcgen("bossfight", seed=0)


def dm_control():
    pytest.importorskip("dm_control")
    from rldarts_tf.envs.dm_control.environment import DMControl

    return DMControl("pendulum", "swingup", seed=0, observations="state")


def gymnasium(kind):
    pytest.importorskip("gymnasium")
    from counting_envs import Counting
    from gymnasium import vector

    from rldarts_tf.envs.gymnasium.batch import GymnasiumBatch

    return GymnasiumBatch(getattr(vector, kind)([Counting] * 2), "Counting", seed=0)


KINDS = {
    "catch": catch,
    "planted": planted,
    "procgen": procgen,
    "joint": procgen_joint,
    "dm_procgen": procgen_for_acme,
    "dm_control": dm_control,
    "gymnasium": lambda: gymnasium("SyncVectorEnv"),
    "gymnasium_async": lambda: gymnasium("AsyncVectorEnv"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_that_was_closed_says_so(kind, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(HERE)])
    environment = KINDS[kind]()
    spec = environment.action_spec()
    batch = (environment.batch_size,) if hasattr(environment, "batch_size") else ()
    action = np.zeros((*batch, *spec.shape), spec.dtype)
    environment.reset()
    environment.step(action)
    environment.close()
    environment.close()
    for use in (environment.reset, lambda: environment.step(action)):
        with pytest.raises(RunError, match=r"^the environments have been closed[^\n]*$"):
            use()
