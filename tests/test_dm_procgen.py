"""The dm_env interface against the batched environment of size one, and in Acme's loop."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("procgen")
pytest.importorskip("acme")

from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.envs.procgen.environment import DmProcgen
from rldarts_tf.errors import ConfigError

# isort: split
import acme
import dm_env
from absl.testing import absltest
from acme import specs
from dm_env import test_utils

FIRST, MID, LAST = dm_env.StepType
MAXIMUM = 13.0  # of bossfight, in easy mode


def random_actions(steps, seed=0):
    return np.random.default_rng(seed).integers(0, 15, steps).astype(np.int32)


def make(game="bossfight", seed=0, **options):
    return DmProcgen(game, seed=seed, **options)


def make_batched(game="bossfight", seed=0, **options):
    return ProcgenEnvironment(game, 1, seed=seed, num_threads=0, **options)


class Conformance(test_utils.EnvironmentTestMixin, absltest.TestCase):
    """What dm_env asks of every environment."""

    def make_object_under_test(self):
        return make()

    def make_action_sequence(self):
        # Long enough for several episodes to end.
        yield from random_actions(300)


# --- time steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["reset", "step"])
def test_no_transition_is_lost_or_repeated(restart):
    env, batched = make(), make_batched()
    np.testing.assert_array_equal(env.reset().observation, batched.reset().observation[0])
    ends = 0
    for action in random_actions(300):
        expected = batched.step(action[np.newaxis])
        actual = env.step(action)
        np.testing.assert_array_equal(actual.observation, expected.observation[0])
        assert actual.reward == np.float32(expected.reward[0] / MAXIMUM)
        assert actual.discount == expected.discount[0] == (0.0 if actual.last() else 1.0)
        assert actual.step_type == expected.step_type[0]
        assert actual.step_type in (MID, LAST)
        if actual.last():
            # The action of this step is ignored: the batched environment is not stepped.
            first = env.reset() if restart == "reset" else env.step(action)
            assert first.first() and first.reward is None and first.discount is None
            np.testing.assert_array_equal(first.observation, actual.observation)
            ends += 1
    assert ends >= 2
    for actual, expected in zip(env.episodes.take(), batched.episodes.take()):
        np.testing.assert_array_equal(actual, expected)


def test_the_first_step_starts_an_episode_whatever_the_action():
    env, batched = make(), make_batched()
    time_step = env.step(3)
    assert time_step.first()
    np.testing.assert_array_equal(time_step.observation, batched.reset().observation[0])
    assert env.step(3).mid()


def test_a_reset_before_the_first_action_gives_the_same_frame_again():
    env = make()
    first = env.reset()
    np.testing.assert_array_equal(env.reset().observation, first.observation)


def test_a_reset_in_mid_episode_starts_the_next_and_does_not_count_the_abandoned():
    env, batched = make("coinrun", seed=3), make_batched("coinrun", seed=3)
    env.reset()
    batched.reset()
    for action in random_actions(5):
        env.step(action)
    level = batched.get_info()["level_seed"][0]
    expected = batched.restart_episodes()
    assert batched.get_info()["level_seed"][0] != level
    assert batched.get_info()["prev_level_seed"][0] == level
    time_step = env.reset()
    assert time_step.first()
    np.testing.assert_array_equal(time_step.observation, expected.observation[0])
    assert env.episodes.take().returns.size == 0
    returns, lengths = 0.0, 0
    for action in random_actions(1000, seed=1):
        time_step = env.step(action)
        returns += time_step.reward * 10.0  # the maximum of coinrun
        lengths += 1
        if time_step.last():
            break
    finished = env.episodes.take()
    assert finished.lengths == [lengths]
    assert finished.returns == pytest.approx([returns])


def test_observations_that_were_kept_do_not_change_later():
    env = make("starpilot")
    env.reset()
    kept = [env.step(action).observation for action in random_actions(10)]
    copies = [frame.copy() for frame in kept]
    for action in random_actions(10):
        env.step(action)
    np.testing.assert_array_equal(kept, copies)


# --- rewards ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "maximum"),
    [
        ({}, 64.0),
        ({"distribution_mode": "hard"}, 35.0),
        ({"reward_maximum": "hard"}, 35.0),
        ({"distribution_mode": "hard", "reward_maximum": "easy"}, 64.0),
        ({"normalize_rewards": False}, 1.0),
    ],
)
def test_rewards_are_divided_by_the_maximum_return_of_the_chosen_mode(options, maximum):
    mode = {k: v for k, v in options.items() if k == "distribution_mode"}
    env, batched = make("starpilot", **options), make_batched("starpilot", **mode)
    env.reset()
    batched.reset()
    paid = 0
    for action in random_actions(150):
        expected = np.float32(batched.step(action[np.newaxis]).reward[0] / maximum)
        time_step = env.step(action)
        if time_step.last():
            env.reset()
        assert time_step.reward == expected and time_step.reward.dtype == np.float32
        paid += expected != 0
    assert paid >= 1


# --- Acme -------------------------------------------------------------------------------------


def test_acme_makes_its_specs():
    spec = specs.make_environment_spec(make())
    assert spec.observations.shape == (64, 64, 3) and spec.observations.dtype == np.uint8
    assert (spec.observations.minimum, spec.observations.maximum) == (0, 255)
    assert isinstance(spec.actions, specs.DiscreteArray)
    assert spec.actions.num_values == 15 and spec.actions.dtype == np.int32
    assert spec.rewards.shape == () and spec.rewards.dtype == np.float32
    assert spec.discounts.shape == () and spec.discounts.dtype == np.float32
    assert [part.name for part in spec] == ["observation", "action", "reward", "discount"]


class RandomActor(acme.core.Actor):
    """Acts at random and writes down what it is shown."""

    def __init__(self):
        self._actions = iter(random_actions(10_000))
        self.transitions = []

    def select_action(self, observation):
        del observation
        return next(self._actions)

    def observe_first(self, timestep):
        assert timestep.first()

    def observe(self, action, next_timestep):
        self.transitions.append((action, next_timestep.reward, next_timestep.discount))

    def update(self, wait=False):
        pass


class ListLogger:
    def __init__(self):
        self.rows = []

    def write(self, row):
        self.rows.append(row)


def test_acmes_loop_plays_whole_episodes():
    env, batched = make(), make_batched()
    actor, logger = RandomActor(), ListLogger()
    acme.EnvironmentLoop(env, actor, logger=logger).run(num_episodes=3)
    batched.reset()
    for action, reward, discount in actor.transitions:
        expected = batched.step(action[np.newaxis])
        assert reward == np.float32(expected.reward[0] / MAXIMUM)
        assert discount == expected.discount[0]
    finished = env.episodes.take()
    assert len(logger.rows) == finished.returns.size == 3
    for actual, expected in zip(finished, batched.episodes.take()):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal([row["episode_length"] for row in logger.rows], finished.lengths)
    np.testing.assert_allclose(
        [row["episode_return"] * MAXIMUM for row in logger.rows], finished.returns, rtol=1e-5
    )


# --- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"game": "bosfight"}, "game: .* did you mean 'bossfight'"),
        ({"seed": None}, "seed: is required"),
        ({"distribution_mode": "extreme"}, "distribution_mode: 'extreme'"),
        ({"reward_maximum": "extreme"}, "reward_maximum: 'extreme' is not supported"),
        (
            {"reward_maximum": "hard", "normalize_rewards": False},
            "reward_maximum: 'hard' has no effect where normalize_rewards is False",
        ),
        ({"start_level": 1}, "start_level: 1 has no effect"),
        ({"num_threads": -1}, "num_threads: "),
        ({"use_backgrounds": 1}, "use_backgrounds: "),
    ],
)
def test_bad_arguments_are_refused_in_one_line(change, message):
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        make(**change)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("action", [15, -1, 1.0, np.array([1]), None])
def test_actions_that_do_not_fit_are_refused(action):
    env = make()
    env.reset()
    with pytest.raises(ValueError, match=r"^action: "):
        env.step(action)


def test_it_is_a_context_and_may_be_closed_twice():
    with make() as env:
        assert env.game == "bossfight"
        env.reset()
    env.close()
