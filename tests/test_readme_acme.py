"""Runs the code for Acme in README.md and docs/agents.md exactly as it stands there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("acme")

import acme
import dm_env
import reverb
import sonnet as snt
from acme import specs, wrappers
from acme.agents.tf import dqn
from acme.tf.networks import AtariTorso
from acme.utils import loggers
from readme import AGENTS, marked_block

import rldarts_tf
from rldarts_tf import acme_compat
from rldarts_tf.envs.catch import Catch
from rldarts_tf.torso import Torso


class Floats(wrappers.EnvironmentWrapper):
    """Images of 0..1, as Acme's Atari wrapper gives them: its torso takes no others."""

    def _converted(self, step: dm_env.TimeStep) -> dm_env.TimeStep:
        return step._replace(observation=step.observation.astype(np.float32) / 255)

    def reset(self):
        return self._converted(self._environment.reset())

    def step(self, action):
        return self._converted(self._environment.step(action))

    def observation_spec(self):
        spec = self._environment.observation_spec()
        return specs.BoundedArray(spec.shape, np.float32, 0.0, 1.0, name=spec.name)


def train(name, environment):
    """The block's network after some episodes of Acme's DQN, and whether each weight changed."""
    namespace = {"snt": snt, "num_actions": environment.action_spec().num_values}
    exec(compile(marked_block(name), f"README.md ({name})", "exec"), namespace)
    network = namespace["network"]
    agent = dqn.DQN(
        specs.make_environment_spec(environment),
        network,
        batch_size=4,
        samples_per_insert=4,
        min_replay_size=8,
        n_step=2,
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    before = [v.numpy() for v in network.trainable_variables]
    acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger()).run(num_episodes=4)
    changed = [np.any(v.numpy() != b) for v, b in zip(network.trainable_variables, before)]
    return network, changed


UNPATCHED = reverb.Client


@pytest.fixture(autouse=True)
def patched_reverb(monkeypatch):
    monkeypatch.setattr(reverb, "Client", reverb.Client)  # Put back afterwards.
    acme_compat.patch_reverb()


@pytest.mark.slow
def test_acmes_dqn_trains_before_the_swap():
    network, changed = train("acme-swap-before", Floats(Catch(8, 8, seed=0)))
    assert any(isinstance(module, AtariTorso) for module in network.submodules)
    assert all(changed)


@pytest.mark.slow
def test_acmes_dqn_trains_the_supernet_after_the_swap_on_bytes_too():
    network, changed = train("acme-swap-after", Catch(8, 8, seed=0))
    (torso,) = (module for module in network.submodules if isinstance(module, Torso))
    supernet = torso.encoder
    assert isinstance(supernet, rldarts_tf.Supernet)
    assert (supernet.space, supernet.depths) == (rldarts_tf.CLASSIC, (16, 16, 16))
    assert all(changed)
    assert all(v.numpy().any() for nodes in supernet.alpha.logits.values() for v in nodes)
    floats, pixels = Floats(Catch(8, 8, seed=0)).reset(), Catch(8, 8, seed=0).reset()
    q_values = [network(step.observation[np.newaxis]) for step in (floats, pixels)]
    np.testing.assert_allclose(*q_values, rtol=1e-4, atol=1e-5)


def test_the_swap_changes_the_torso_and_nothing_else():
    before, after = (
        marked_block(name).splitlines() for name in ("acme-swap-before", "acme-swap-after")
    )
    assert len(before) == len(after) == 2
    head = "snt.nets.MLP([512, num_actions])])"
    assert before[1].endswith(head)
    assert after[1].endswith(head)


@pytest.mark.slow
def test_rainbow_plays_a_game_with_a_supernet(monkeypatch):
    monkeypatch.setattr(reverb, "Client", UNPATCHED)  # It has a client of its own.
    namespace = {"rldarts_tf": rldarts_tf}
    exec(compile(marked_block("acme-rainbow", AGENTS), "acme-rainbow", "exec"), namespace)
    namespace["loop"].run(num_steps=20)
    agent = namespace["agent"]
    assert agent._num_observations >= 20
    assert agent._replay.size >= 10
    assert namespace["supernet"].alpha.logits["normal"][0].shape == (1, 5)


@pytest.mark.slow
def test_sac_plays_a_task_with_a_supernet(monkeypatch):
    pytest.importorskip("dm_control")
    monkeypatch.setattr(reverb, "Client", UNPATCHED)  # It has a client of its own.
    namespace = {"rldarts_tf": rldarts_tf}
    exec(compile(marked_block("acme-sac", AGENTS), "acme-sac", "exec"), namespace)
    agent, environment = namespace["agent"], namespace["environment"]
    assert isinstance(namespace["loop"], acme.EnvironmentLoop)
    step = environment.reset()
    agent.observe_first(step)
    for _ in range(3):  # What the loop does, but for whole episodes.
        action = agent.select_action(step.observation)
        assert action.shape == (1,) and np.abs(action) <= 1
        step = environment.step(action)
        agent.observe(action, step)
        agent.update()
    assert agent._num_observations == 3
    assert namespace["supernet"].alpha.logits["normal"][0].shape == (1, 5)
    agent.close()
