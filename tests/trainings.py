"""Small trainings for the tests of the programs, and what must hold of those of all algorithms."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from rldarts_tf import search_space
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.runs.metrics import read_metrics

TINY = {
    "ppo": PPOSettings(num_envs=4, steps_per_update=8, minibatch_size=16, num_epochs=1),
    "rainbow": RainbowSettings(
        num_envs=4, steps_per_update=8, batch_size=4, min_replay_size=8, hidden_size=8,
        num_atoms=5, n_step=2, replay_capacity=100, samples_per_insert=1.0,
    ),
    "sac": SACSettings(
        num_envs=2, steps_per_update=4, batch_size=4, samples_per_insert=1.0, min_replay_size=8,
        replay_capacity=50, hidden_sizes=(8,),
    ),
}  # fmt: skip
"""By algorithm, settings with which it learns within 32 steps."""


def registers(space):
    """A fixture: while the tests of a module run, a search space has its name."""

    @pytest.fixture(scope="module", autouse=True)
    def registered():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(search_space._REGISTRY, space.name, space)
            yield

    return registered


class StopAfter:
    """Asked whether to stop: from the k-th time on it says True, or raises an error.

    A training asks after each update, an off-policy program also after each step of its
    environments.
    """

    def __init__(self, times=None, error=None):
        self.times, self.error, self.asked = times, error, 0

    def __call__(self):
        self.asked += 1
        if self.times is None or self.asked < self.times:
            return False
        if self.error is not None:
            raise self.error
        return True


def digest(image):
    return hashlib.md5(np.ascontiguousarray(image).tobytes()).hexdigest()


def arrays_of(**parts):
    """The variables of modules, each under the name of its module and its place there."""
    return {
        f"{name}/{i}": variable.numpy()
        for name, part in parts.items()
        for i, variable in enumerate(part.variables)
    }


def state_of(training):
    """What a training keeps as arrays, but for the seconds it took."""
    state = training._state()
    del state["seconds"]
    return state


def assert_filled(metrics, evaluations, evaluated):
    """All columns are filled but for returns before the first episode ends, and evaluations.

    Args:
      metrics: the table.
      evaluations: the columns of evaluations.
      evaluated: the rows in which they are filled, bool [rows].
    """
    begun = metrics["episodes"] > 0
    assert begun.sum() >= 2
    for name, column in metrics.items():
        if name in evaluations:
            filled = evaluated
        elif name.startswith("return_") or name == "length_mean":
            filled = begun
        else:
            filled = np.full(len(column), True)
        np.testing.assert_array_equal(np.isfinite(column), filled, err_msg=name)


def assert_returns(metrics, rewards, ended, period):
    """Returns are those of the episodes that have ended, in raw rewards.

    Args:
      metrics: the table.
      rewards: of each step, [B].
      ended: whether an episode ended with it, bool [B].
      period: steps between two rows.
    """
    assert len(rewards) == len(metrics["step"]) * period
    running, length, returns, lengths = np.zeros_like(rewards[0]), np.zeros(len(ended[0])), [], []
    for t, (reward, last) in enumerate(zip(rewards, ended), start=1):
        running += reward
        length += 1
        for i in np.flatnonzero(last):
            returns.append(running[i])
            lengths.append(length[i])
            running[i] = length[i] = 0
        if t % period == 0:
            row = {name: column[t // period - 1] for name, column in metrics.items()}
            assert row["episodes"] == len(returns)
            if returns:
                assert row["return_mean"] == pytest.approx(np.mean(returns), abs=1e-6)
                assert row["return_std"] == pytest.approx(np.std(returns), abs=1e-6)
                assert row["length_mean"] == pytest.approx(np.mean(lengths))
    assert len(set(returns)) >= 2


def assert_scale_is_resumed(
    make,
    stopping,
    stage_dir,
    scale_afterwards,
    losses,
    skipped_by=lambda program: program.learner.num_steps,
):
    """In float16 overflows of the first row are counted; a resumed training has the loss scale.

    Args:
      make: given when to stop, or nothing, makes the training; returns it and its loss scale.
      stopping: stops it after its first row.
      stage_dir: where its metrics are.
      scale_afterwards: a loss scale with which nothing overflows.
      losses: columns that are finite in the last row, not in the first.
      skipped_by: the gradient steps of the first row, given the resumed program.

    Returns:
      Its metrics.
    """
    training, scale = make(stopping)
    scale.value.assign(2.0**120)
    training.run()
    training.close()
    resumed, scale = make()
    skipped = skipped_by(resumed.program)
    assert skipped > 0 and float(scale.value) == 2.0 ** (120 - skipped)
    scale.value.assign(scale_afterwards)
    resumed.run()
    resumed.close()
    metrics = read_metrics(stage_dir.metrics_path)
    others = len(metrics["step"]) - 1
    assert metrics["skipped_updates"].tolist() == [skipped] * (1 + others)
    if "learner_steps" in metrics:
        assert metrics["learner_steps"][-1] > skipped
    assert metrics["loss_scale"].tolist() == [2.0 ** (120 - skipped), *[scale_afterwards] * others]
    for name in losses:
        assert np.isfinite(metrics[name][[0, -1]]).tolist() == [False, True]
    return metrics
