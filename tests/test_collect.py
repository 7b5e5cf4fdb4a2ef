"""Collection and evaluation, against environments that are stepped one by one."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("procgen")
pytest.importorskip("tf_agents")

import tensorflow as tf
from aiming import Aiming, AimingSettings, AimingSuite
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from rldarts_tf.agents.ppo.collect import Collector, checked_act
from rldarts_tf.envs.episodes import EpisodeStatistics
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.envs.serial import environment_seed
from rldarts_tf.errors import RunError
from rldarts_tf.training.evaluation import evaluate

FIRST, MID, LAST = 0, 1, 2
GAMMA, CLIP = 0.9, 2.0


class RecordingPolicy:
    """Random actions; values and logits that tell which call and which environment they are of."""

    def __init__(self, seed=0):
        self.restart(seed)

    def restart(self, seed):
        self._random = np.random.default_rng(seed)
        self.observations = []
        self.actions = []

    def __call__(self, observation):
        n = len(observation)
        action = self._random.integers(0, 15, n).astype(np.int32)
        call = len(self.actions)
        self.observations.append(np.array(observation))
        self.actions.append(action)
        value = call + np.arange(n, dtype=np.float32) / 100
        logits = value[:, None] + np.arange(15, dtype=np.float32) / 10_000
        return tf.constant(action), {"logits": tf.constant(logits)}, tf.constant(value)


def make_environment(game="fruitbot", num_envs=6, seed=2):
    return ProcgenEnvironment(game, num_envs, seed=seed, num_threads=0)


def make_collector(policy, num_steps, **options):
    environment = make_environment(**options)
    normalizer = RewardNormalizer(environment.batch_size, GAMMA, CLIP)
    return Collector(environment, policy, num_steps, normalizer), environment


# --- the collector ---------------------------------------------------------------------------


@pytest.mark.parametrize("game", ["fruitbot", "leaper"])
def test_two_calls_give_what_a_second_environment_gives_step_by_step(game):
    num_envs, num_steps = 6, 120
    policy = RecordingPolicy()
    collector, environment = make_collector(policy, num_steps, game=game, num_envs=num_envs)
    raw = make_environment(game, num_envs)
    normalizer = RewardNormalizer(num_envs, GAMMA, CLIP)
    frame = raw.reset().observation
    begins = np.full(num_envs, True)
    ends, rewards, returns, running = 0, [], [], np.zeros(num_envs)
    for k in range(2):
        experience = collector.collect()
        calls = range(k * (num_steps + 1), (k + 1) * (num_steps + 1))
        assert len(policy.actions) == calls.stop
        for t, call in enumerate(calls):
            step = tf.nest.map_structure(lambda x, t=t: x[:, t], experience)
            np.testing.assert_array_equal(policy.observations[call], frame)
            np.testing.assert_array_equal(step.observation, frame)
            np.testing.assert_array_equal(step.action, policy.actions[call])
            np.testing.assert_array_equal(step.step_type, np.where(begins, FIRST, MID))
            value = call + np.arange(num_envs, dtype=np.float32) / 100
            np.testing.assert_array_equal(step.policy_info["value_prediction"], value)
            np.testing.assert_array_equal(step.policy_info["dist_params"]["logits"][:, 0], value)
            if t == num_steps:
                break  # Its action is not played; the next call begins here.
            time_step = raw.step(policy.actions[call])
            ended = time_step.step_type == LAST
            np.testing.assert_array_equal(step.next_step_type, np.where(ended, LAST, MID))
            np.testing.assert_array_equal(step.discount, np.where(ended, 0.0, 1.0))
            expected = normalizer(time_step.reward, ended)
            np.testing.assert_array_equal(step.reward, expected)
            rewards.append(time_step.reward)
            running += time_step.reward
            returns.extend(running[ended])
            running[ended] = 0
            frame, begins = time_step.observation, ended
            ends += ended.sum()
    assert ends >= 8 and np.any(rewards), "or nothing was tried"
    # Raw returns, not normalized ones, are what is reported.
    np.testing.assert_allclose(environment.episodes.take().returns, returns, atol=1e-5)


def test_shapes_and_dtypes_are_those_of_the_agent():
    collector, environment = make_collector(RecordingPolicy(), 5, num_envs=3)
    experience = collector.collect()
    found = tf.nest.map_structure(lambda x: (x.shape, x.dtype.name), experience)
    assert found.observation == ((3, 6, 64, 64, 3), "uint8")
    assert found.action == ((3, 6), environment.action_spec().dtype.name) == ((3, 6), "int32")
    assert found.policy_info == {
        "dist_params": {"logits": ((3, 6, 15), "float32")},
        "value_prediction": ((3, 6), "float32"),
    }
    assert found.step_type == found.next_step_type == ((3, 6), "int32")
    assert found.reward == found.discount == ((3, 6), "float32")


def assert_same_nest(actual, expected):
    tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("num_steps", [40, 1])
def test_from_its_state_a_collector_goes_on_exactly(num_steps):
    policy, other_policy = RecordingPolicy(), RecordingPolicy(seed=5)
    collector, environment = make_collector(policy, num_steps)
    for _ in range(80 // num_steps):
        collector.collect()
    data = io.BytesIO()
    np.savez(data, **collector.state())
    data.seek(0)
    other, other_environment = make_collector(other_policy, num_steps, seed=77)
    other.collect()
    with np.load(data, allow_pickle=False) as state:
        other.set_state(state)
    policy.restart(seed=9)
    other_policy.restart(seed=9)
    ends = 0
    for _ in range(80 // num_steps):
        expected = collector.collect()
        expected = expected.replace(observation=expected.observation.copy())
        assert_same_nest(other.collect(), expected)
        ends += (expected.next_step_type == LAST).sum()
    assert ends >= 1
    assert_same_nest(other.state(), collector.state())
    assert_same_nest(other_environment.episodes.take(), environment.episodes.take())


def test_a_state_of_another_game_is_refused():
    state = make_collector(RecordingPolicy(), 2)[0].state()
    with pytest.raises(RunError, match="game was 'fruitbot' and is 'maze' here"):
        make_collector(RecordingPolicy(), 2, game="maze")[0].set_state(state)


@pytest.mark.parametrize("what", ["value", "logits"])
def test_a_policy_that_has_diverged_is_an_error_before_its_action_is_played(what):
    def policy(observation):
        n = len(observation)
        value, logits = np.zeros(n, np.float32), np.zeros((n, 15), np.float32)
        {"value": value, "logits": logits}[what][-1] = np.nan
        # What TensorFlow samples from NaN.
        return tf.fill([n], 15), {"logits": tf.constant(logits)}, tf.constant(value)

    collector, environment = make_collector(policy, 2, num_envs=2)
    with pytest.raises(RunError, match=r"diverged.*PPOSettings\.learning_rate"):
        collector.collect()
    with pytest.raises(RunError, match=r"diverged.*PPOSettings\.learning_rate"):
        checked_act(policy, environment.current_time_step().observation)


# --- episodes that end in both ways -----------------------------------------------------------


def test_a_last_step_with_its_own_observation_is_collected_as_single_environments_give_it():
    """And the normalizer's statistics have no step in them that only begins an episode."""
    num_envs, num_steps = 3, 60
    policy = RecordingPolicy()
    environment = AimingSuite(AimingSettings()).make(num_envs, seed=4)
    normalizer = RewardNormalizer(num_envs, GAMMA, CLIP)
    act = lambda observation: scaled_actions(policy(observation))  # noqa: E731
    experience = Collector(environment, act, num_steps, normalizer).collect()
    kinds = set()
    for i in range(num_envs):
        single = Aiming(AimingSettings(), environment_seed(4, i, 0))
        time_step = single.reset()
        for t in range(num_steps):
            step = tf.nest.map_structure(lambda x, i=i, t=t: x[i, t], experience)
            np.testing.assert_array_equal(step.observation, time_step.observation)
            assert step.step_type == time_step.step_type
            time_step = single.step(step.action)
            assert step.next_step_type == time_step.step_type
            assert step.discount == (1 if time_step.first() else time_step.discount)
            kinds.add((int(time_step.step_type), float(step.discount)))
    assert kinds == {(FIRST, 1.0), (MID, 1.0), (LAST, 0.0), (LAST, 1.0)}
    begun = (experience.next_step_type[:, :-1] == FIRST).sum()
    assert normalizer.state()["count"] == pytest.approx(num_envs * num_steps - begun, rel=1e-4)


def scaled_actions(acted):
    """Of the fifteen actions of Procgen, three."""
    action, *others = acted
    return action % 3, *others


# --- evaluation ------------------------------------------------------------------------------


class ScriptedEnvironment:
    """Environment i plays episodes of length lengths[i][k], k = 0, 1, ..., cyclically.

    Its observation is (i, k, steps made in the episode); a step pays 100 i + k + action.
    """

    def __init__(self, lengths):
        self._lengths = lengths
        self.batch_size = len(lengths)
        self._episode = [0] * self.batch_size
        self._played = [0] * self.batch_size
        self.steps = 0
        self.episodes = EpisodeStatistics(self.batch_size)

    def observation_spec(self):
        return array_spec.ArraySpec((3,), np.uint8)

    def _observation(self):
        return np.array(
            [[i, self._episode[i], self._played[i]] for i in range(self.batch_size)], np.uint8
        )

    def reset(self):
        n = self.batch_size
        return ts.TimeStep(
            np.full(n, FIRST, np.int32),
            np.zeros(n, np.float32),
            np.ones(n, np.float32),
            self._observation(),
        )

    def step(self, action):
        self.steps += 1
        reward = np.zeros(self.batch_size, np.float32)
        ended = np.zeros(self.batch_size, bool)
        for i in range(self.batch_size):
            k = self._episode[i]
            reward[i] = 100 * i + k + action[i]
            self._played[i] += 1
            if self._played[i] == self._lengths[i][k % len(self._lengths[i])]:
                ended[i] = True
                self._episode[i], self._played[i] = k + 1, 0
        self.episodes.add(reward, ended)
        return ts.TimeStep(
            np.where(ended, LAST, MID).astype(np.int32),
            reward,
            np.where(ended, 0, 1).astype(np.float32),
            self._observation(),
        )


def look(observation):
    """The action is the number of steps made, so that returns depend on observations too."""
    return observation[:, 2].astype(np.int32)


def episode(i, k, length):
    return sum(100 * i + k + t for t in range(length)), length


EVALUATIONS = {
    "one episode of each": ([[3], [1], [7]], 3, 1),
    "short episodes do not dominate": ([[1], [50]], 4, 2),
    "not divisible: rounded up": ([[2], [3], [5], [4]], 6, 2),
    "fewer than environments": ([[2], [3], [5], [4]], 1, 1),
    "one environment": ([[2, 5, 1]], 7, 7),
    "lengths that change": ([[1, 9, 2], [4, 1, 6], [2, 2, 2]], 9, 3),
}


@pytest.mark.parametrize("case", EVALUATIONS)
def test_each_environment_contributes_its_quota_of_whole_episodes(case):
    lengths, num_episodes, quota = EVALUATIONS[case]
    environment = ScriptedEnvironment(lengths)
    evaluation = evaluate(environment, look, num_episodes)
    expected = [
        episode(i, k, of_one[k % len(of_one)])
        for i, of_one in enumerate(lengths)
        for k in range(quota)
    ]
    assert sorted(zip(evaluation.returns.tolist(), evaluation.lengths.tolist())) == sorted(expected)
    assert np.bincount(evaluation.environments).tolist() == [quota] * len(lengths)
    # It stops when the slowest is done.
    assert environment.steps == max(
        sum(of_one[k % len(of_one)] for k in range(quota)) for of_one in lengths
    )


def test_evaluation_on_a_game_gives_the_first_episodes_of_each_environment():
    num_envs, quota = 4, 2
    environment = make_environment("leaper", num_envs)
    recorded = RecordingPolicy(seed=3)
    evaluation = evaluate(environment, lambda frames: recorded(frames)[0].numpy(), 7)
    environment, policy = make_environment("leaper", num_envs), RecordingPolicy(seed=3)
    episodes = [[] for _ in range(num_envs)]
    total, length = np.zeros(num_envs), np.zeros(num_envs, int)
    time_step = environment.reset()
    while min(map(len, episodes)) < quota:
        time_step = environment.step(policy(time_step.observation)[0].numpy())
        total += time_step.reward
        length += 1
        for i in np.flatnonzero(time_step.step_type == LAST):
            episodes[i].append((float(total[i]), int(length[i])))
            total[i] = length[i] = 0
    assert max(map(len, episodes)) > quota, "or every environment ended equally often"
    expected = [e for of_one in episodes for e in of_one[:quota]]
    assert sorted(zip(evaluation.returns.tolist(), evaluation.lengths.tolist())) == sorted(expected)
    assert evaluation.returns.dtype == np.float64 and evaluation.lengths.dtype == np.int64
