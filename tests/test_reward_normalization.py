"""Reward scales against a plain per-environment reference and hand-made cases."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.envs.reward import MaximumReturnScale, RewardNormalizer
from rldarts_tf.errors import ConfigError, RunError


def reference(rewards, ended, gamma, clip, epsilon):
    """Normalizes rewards [T][N] one by one, with the variance taken anew over the whole history.

    The initial statistics are a sample of weight 1e-4 with mean 0 and variance 1.
    """
    num_envs = len(rewards[0])
    returns = [0.0] * num_envs
    history = []
    normalized = []
    for step_rewards, step_ended in zip(rewards, ended):
        for i in range(num_envs):
            returns[i] = returns[i] * gamma + step_rewards[i]
            history.append(returns[i])
        weight = 1e-4 + len(history)
        mean = math.fsum(history) / weight
        squares = [(value - mean) ** 2 for value in history]
        variance = (1e-4 * (1.0 + mean**2) + math.fsum(squares)) / weight
        scale = math.sqrt(variance + epsilon)
        normalized.append([min(max(r / scale, -clip), clip) for r in step_rewards])
        for i in range(num_envs):
            if step_ended[i]:
                returns[i] = 0.0
    return np.array(normalized), variance


@st.composite
def trajectories(draw):
    steps = draw(st.integers(1, 12))
    num_envs = draw(st.integers(1, 5))
    reward = st.floats(-50.0, 50.0, width=32)

    def table(cell):
        row = st.lists(cell, min_size=num_envs, max_size=num_envs)
        return draw(st.lists(row, min_size=steps, max_size=steps))

    return table(reward), table(st.booleans())


@settings(deadline=None, max_examples=150)
@given(
    trajectory=trajectories(),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 0.999, 1.0]),
    clip=st.sampled_from([0.5, 2.0, 10.0, 1e6]),
    epsilon=st.sampled_from([1e-8, 1e-2]),
)
def test_equals_the_reference_over_whole_trajectories(trajectory, gamma, clip, epsilon):
    rewards, ended = trajectory
    expected, expected_variance = reference(rewards, ended, gamma, clip, epsilon)
    normalizer = RewardNormalizer(len(rewards[0]), gamma, clip=clip, epsilon=epsilon)
    actual = [normalizer(np.array(r, np.float32), np.array(e)) for r, e in zip(rewards, ended)]
    assert all(step.dtype == np.float32 for step in actual)
    np.testing.assert_allclose(np.array(actual), expected, rtol=2e-6, atol=1e-7)
    assert normalizer.variance == pytest.approx(expected_variance, rel=1e-9, abs=1e-12)


@settings(max_examples=100)
@given(trajectory=trajectories(), data=st.data())
def test_groups_equal_separate_normalizers_of_their_environments(trajectory, data):
    rewards, ended = (np.array(table) for table in trajectory)
    num_envs = rewards.shape[1]
    groups = data.draw(
        st.lists(st.sampled_from("abc"), min_size=num_envs, max_size=num_envs), label="groups"
    )
    # A game of large rewards beside others.
    rewards = rewards * np.where(np.array(groups) == "a", 1000.0, 1.0)
    joint = RewardNormalizer(num_envs, 0.9, clip=5.0, groups=groups)
    names = list(dict.fromkeys(groups))
    members = {name: np.flatnonzero(np.array(groups) == name) for name in names}
    alone = {name: RewardNormalizer(members[name].size, 0.9, clip=5.0) for name in names}
    for r, e in zip(rewards, ended):
        actual = joint(r, e)
        for name in names:
            np.testing.assert_array_equal(
                actual[members[name]], alone[name](r[members[name]], e[members[name]])
            )
    for g, name in enumerate(names):
        expected, actual = alone[name].state(), joint.state()
        np.testing.assert_array_equal(actual["returns"][members[name]], expected["returns"])
        for statistic in ("mean", "variance", "count"):
            assert actual[statistic].reshape(-1)[g] == expected[statistic]
        assert np.reshape(joint.variance, -1)[g] == alone[name].variance


class MeansOfRows(RewardNormalizer):
    """The plain form of `_merge`: numpy's mean and variance of each group's own returns."""

    def _merge(self, returns, group, size):
        members = [returns[group == g] for g in range(size.size)]
        mean = np.array([returns.mean() for returns in members])
        variance = np.array([returns.var() for returns in members])
        total = self._count + size
        delta = mean - self._mean
        squares = (
            self._variance * self._count + variance * size + delta**2 * self._count * size / total
        )
        self._mean += delta * size / total
        self._variance = squares / total
        self._count = total


@pytest.mark.parametrize(
    "sizes", [(64,), (13, 13, 13, 13, 12), (4,) * 16, (1,) * 7, (1, 5), (100, 1, 27)]
)
def test_sums_by_group_equal_the_mean_and_variance_of_each_groups_returns(sizes):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).tolist()
    normalizer = RewardNormalizer(len(groups), 0.99, groups=groups)
    plain = MeansOfRows(len(groups), 0.99, groups=groups)
    for _ in range(300):
        rewards = rng.normal(size=len(groups)) * (1 + 100 * np.array(groups))
        ended = rng.random(len(groups)) < 0.02
        np.testing.assert_array_equal(normalizer(rewards, ended), plain(rewards, ended))
    for name, expected in plain.state().items():
        actual = normalizer.state()[name]
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        if max(sizes) < 8 or name in ("returns", "count"):
            np.testing.assert_array_equal(actual, expected)
        else:  # numpy adds up eight or more by pairs
            np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("groups", [None, ["x"] * 3])
def test_one_group_is_as_none(groups):
    rng = np.random.default_rng(0)
    normalizer, plain = RewardNormalizer(3, 0.9, groups=groups), RewardNormalizer(3, 0.9)
    for _ in range(20):
        rewards, ended = rng.normal(size=3), rng.random(3) < 0.2
        np.testing.assert_array_equal(normalizer(rewards, ended), plain(rewards, ended))
    for name, value in plain.state().items():
        assert normalizer.state()[name].shape == value.shape == ((3,) if name == "returns" else ())
        np.testing.assert_array_equal(normalizer.state()[name], value)


def test_first_step_by_hand():
    # R = [3, 1]: mean 4/2.0001; variance (1e-4 (1 + mean^2) + (3-mean)^2 + (1-mean)^2) / 2.0001.
    normalizer = RewardNormalizer(2, gamma=0.9)
    actual = normalizer(np.array([3.0, 1.0]), np.array([False, False]))
    mean = 4 / 2.0001
    variance = (1e-4 * (1 + mean**2) + (3 - mean) ** 2 + (1 - mean) ** 2) / 2.0001
    assert variance == pytest.approx(2.0005 / 2.0001, rel=1e-7)
    np.testing.assert_allclose(actual, np.array([3.0, 1.0]) / math.sqrt(variance), rtol=1e-6)


def test_the_last_reward_of_an_episode_counts_in_its_return_and_the_next_episode_starts_at_zero():
    normalizer = RewardNormalizer(2, gamma=0.5)
    normalizer(np.array([4.0, 4.0]), np.array([False, False]))
    normalizer(np.array([1.0, 1.0]), np.array([True, False]))
    np.testing.assert_array_equal(normalizer.state()["returns"], [0.0, 3.0])
    normalizer(np.array([1.0, 1.0]), np.array([False, False]))
    np.testing.assert_array_equal(normalizer.state()["returns"], [1.0, 2.5])
    # Returns seen: 4 4, 3 3, 1 2.5. The 3 of the ended episode is among them.
    mean = 17.5 / 6.0001
    total = 1e-4 * (1 + mean**2) + sum((r - mean) ** 2 for r in (4, 4, 3, 3, 1, 2.5))
    assert normalizer.variance == pytest.approx(total / 6.0001, rel=1e-12)


def test_rewards_after_a_long_silence_are_clipped_on_both_sides():
    normalizer = RewardNormalizer(4, gamma=0.999)
    silence = np.zeros(4)
    for _ in range(1000):
        np.testing.assert_array_equal(normalizer(silence, silence > 0), silence)
    actual = normalizer(np.array([1.0, 0.0, 0.0, -1.0]), np.zeros(4, bool))
    np.testing.assert_array_equal(actual, [10.0, 0.0, 0.0, -10.0])


@pytest.mark.parametrize("groups", [None, ["maze", "leaper", "maze"]])
def test_restored_statistics_go_on_exactly_and_survive_npz_without_pickle(groups):
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(60, 3))
    ended = rng.random((60, 3)) < 0.1
    original = RewardNormalizer(3, gamma=0.99, groups=groups)
    for r, e in zip(rewards[:30], ended[:30]):
        original(r, e)
    buffer = io.BytesIO()
    np.savez(buffer, **original.state())
    buffer.seek(0)
    copy = RewardNormalizer(3, gamma=0.99, groups=groups)
    with np.load(buffer, allow_pickle=False) as saved:
        copy.set_state(saved)
    for r, e in zip(rewards[30:], ended[30:]):
        np.testing.assert_array_equal(original(r, e), copy(r, e))
    np.testing.assert_array_equal(original.variance, copy.variance)


def test_the_state_is_a_snapshot_and_inputs_are_not_changed():
    normalizer = RewardNormalizer(1, gamma=1.0)
    rewards, ended = np.array([2.0]), np.array([False])
    normalizer(rewards, ended)
    before = normalizer.state()
    normalizer(rewards, np.array([True]))
    np.testing.assert_array_equal(before["returns"], [2.0])
    np.testing.assert_array_equal(rewards, [2.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_refused_and_leaves_the_statistics_alone(bad):
    normalizer = RewardNormalizer(2, gamma=0.9)
    before = normalizer.state()
    with pytest.raises(ValueError, match="finite"):
        normalizer(np.array([1.0, bad]), np.zeros(2, bool))
    for name, value in normalizer.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_wrong_shapes_are_refused():
    normalizer = RewardNormalizer(2, gamma=0.9)
    with pytest.raises(ValueError, match="shape"):
        normalizer(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match="shape"):
        normalizer(np.zeros(2), np.zeros((2, 1), bool))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("num_envs", {"num_envs": 0}),
        ("gamma", {"gamma": 1.5}),
        ("gamma", {"gamma": -0.1}),
        ("gamma", {"gamma": math.nan}),
        ("clip", {"clip": 0.0}),
        ("epsilon", {"epsilon": 0.0}),
        ("groups", {"groups": ["maze"]}),
        ("groups", {"groups": []}),
    ],
)
def test_bad_arguments_name_the_field(field, change):
    with pytest.raises(ConfigError, match=f"^{field}: "):
        RewardNormalizer(**{"num_envs": 2, "gamma": 0.9, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "'mean' is missing"),
        ({"returns": np.zeros(3)}, "'returns' has shape"),
        ({"variance": np.asarray(np.nan)}, "'variance' is not finite"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    normalizer = RewardNormalizer(2, gamma=0.9)
    state = {k: v for k, v in {**normalizer.state(), **change}.items() if v is not None}
    with pytest.raises(RunError, match=message):
        normalizer.set_state(state)


def test_a_state_of_another_number_of_groups_is_refused():
    normalizer = RewardNormalizer(2, gamma=0.9, groups=["maze", "leaper"])
    with pytest.raises(RunError, match=r"'mean' has shape \(\), not \(2,\)"):
        normalizer.set_state(RewardNormalizer(2, gamma=0.9).state())


# --- the maximum return -----------------------------------------------------------------------


def test_rewards_are_divided_by_the_maximum_return_of_each_environments_game():
    rewards = np.array([32.0, 8.0, -5.0], np.float32)
    scale = MaximumReturnScale([64, 64, 40])
    for _ in range(2):  # nothing changes from step to step
        actual = scale(rewards)
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, np.array([0.5, 0.125, -0.125], np.float32))
    with pytest.raises(ValueError, match="shape"):
        scale(np.zeros(2))


# --- steps that only begin an episode ---------------------------------------------------------


@pytest.mark.parametrize("groups", [None, ["x", "y", "x"]])
def test_a_step_that_only_begins_an_episode_counts_in_nothing(groups):
    """Environments whose episodes begin at different times are as ones that never begin."""
    rng = np.random.default_rng(0)
    normalizer = RewardNormalizer(3, 0.9, groups=groups)
    names = groups or [None] * 3
    returns, samples = np.zeros(3), {name: [] for name in names}
    for t in range(40):
        begun = rng.random(3) < (1.0 if t == 20 else 0.3)
        ended = ~begun & (rng.random(3) < 0.2)
        rewards = np.where(begun, 0.0, rng.normal(size=3))
        returns = np.where(begun, 0.0, 0.9 * returns + rewards)
        for i in np.flatnonzero(~begun):
            samples[names[i]].append(returns[i])
        returns[ended] = 0
        assert (normalizer(rewards, ended, begun)[begun] == 0).all()
        np.testing.assert_allclose(normalizer.state()["returns"], returns)
    # A mean of 0 and a variance of 1 begin as a ten-thousandth of a sample.
    np.testing.assert_allclose(
        np.reshape(normalizer.variance, -1), [np.var(s) for s in samples.values()], rtol=1e-4
    )
    np.testing.assert_allclose(
        np.reshape(normalizer.state()["count"], -1), [len(s) + 1e-4 for s in samples.values()]
    )
