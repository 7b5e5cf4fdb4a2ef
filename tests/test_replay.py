"""Replay on a real Reverb server: which transitions it holds, how they are drawn, and checkpoints.

Frames carry a number in each pixel, so that a transition can be written as (frame, action, return,
discount, next frame).
"""

from __future__ import annotations

import collections

import numpy as np
import pytest

pytest.importorskip("acme")
pytest.importorskip("reverb")

from acme import specs, types
from dm_env import StepType
from replay_reader import read_items

from rldarts_tf.agents.off_policy.replay import TABLE, BatchAdder, Replay, environment_spec
from rldarts_tf.errors import RunError

SHAPE = (4, 4, 3)
SPEC = environment_spec(specs.Array(SHAPE, np.uint8), specs.DiscreteArray(7, dtype=np.int32))


def frame(number):
    return np.full(SHAPE, number, np.uint8)


def number_of(image):
    assert image.dtype == np.uint8 and image.shape == SHAPE
    assert image.min() == image.max()
    return int(image.max())


@pytest.fixture
def make_replay():
    replays = []

    def make(capacity=100, exponent=1.0, **options):
        replays.append(Replay(SPEC, capacity, exponent, **options))
        return replays[-1]

    yield make
    for replay in replays:
        replay.close()


def add_steps(replay, steps, n_step, first=(0,), discount=0.5):
    """Plays environments side by side.

    Args:
      replay: what is filled.
      steps: for each time the tuples (action, reward, discount, ended, frame) of all environments.
      n_step: rewards in a return.
      first: the first frames.
      discount: of returns.
    """
    adder = BatchAdder(replay, len(first), n_step, discount, last_is_first=True)
    adder.add_first(np.stack([frame(number) for number in first]))
    for step in steps:
        actions, rewards, discounts, ended, frames = zip(*step)
        adder.add(
            np.array(actions, np.int32),
            np.array(rewards, np.float32),
            np.array(discounts, np.float32),
            np.where(ended, StepType.LAST, StepType.MID),
            np.stack([frame(number) for number in frames]),
        )
    adder.flush()
    adder.close()


def add_numbered(replay, count, start=0):
    """One-step transitions from frame i to i + 1 with reward i, in this order."""
    steps = [[(i % 7, float(i), 1.0, False, i + 1)] for i in range(start, start + count)]
    add_steps(replay, steps, n_step=1, first=(start,))


def read_numbered(replay):
    """key -> (priority, (frame, action, return, discount, next frame)) of all that is there."""
    items = {}
    for key, (priority, data) in read_items(replay).items():
        observation, action, reward, discount, following = data
        assert (action.dtype, reward.dtype, discount.dtype) == (np.int32, *[np.float32] * 2)
        numbers = (int(action), float(reward), float(discount))
        items[key] = (priority, (number_of(observation), *numbers, number_of(following)))
    return items


def transitions(replay):
    """The multiset of all transitions."""
    return collections.Counter(transition for _, transition in read_numbered(replay).values())


# --- n-step transitions ----------------------------------------------------------------------

# name: (n, steps (action, reward, discount, ended), transitions (s, a, R, D, s')); γ = 1/2, and
# frames are numbered from 0 in the order of the environment. D has γ^(n-1): the learner has the
# last γ.
TRAJECTORIES = {
    "one step": (
        1,
        [(1, 1, 1, False), (2, 2, 1, False), (3, 4, 1, False)],
        [(0, 1, 1, 1, 1), (1, 2, 2, 1, 2), (2, 3, 4, 1, 3)],
    ),
    "one step, end": (
        1,
        [(1, 1, 1, False), (2, 2, 0, True), (3, 4, 1, False)],
        [(0, 1, 1, 1, 1), (1, 2, 2, 0, 2), (2, 3, 4, 1, 3)],
    ),
    "begin and middle": (
        3,
        [(1, 1, 1, False), (2, 2, 1, False), (3, 4, 1, False), (4, 8, 1, False), (5, 16, 1, False)],
        [
            # Windows grow from the first frame on, and then move.
            *[(0, 1, 1, 1, 1), (0, 1, 2, 0.5, 2), (0, 1, 3, 0.25, 3)],
            *[(1, 2, 6, 0.25, 4), (2, 3, 12, 0.25, 5)],
        ],
    ),
    "end": (
        3,
        [(1, 1, 1, False), (2, 2, 1, False), (3, 4, 1, False), (4, 8, 0, True)],
        [
            *[(0, 1, 1, 1, 1), (0, 1, 2, 0.5, 2), (0, 1, 3, 0.25, 3)],
            # And shrink towards the end, where nothing follows.
            *[(1, 2, 6, 0, 4), (2, 3, 8, 0, 4), (3, 4, 8, 0, 4)],
        ],
    ),
    "next episode": (
        3,
        [(1, 1, 1, False), (2, 2, 1, False), (3, 4, 0, True), (4, 8, 1, False), (5, 16, 1, False)],
        [
            *[(0, 1, 1, 1, 1), (0, 1, 2, 0.5, 2), (0, 1, 3, 0, 3), (1, 2, 4, 0, 3)],
            *[(2, 3, 4, 0, 3)],
            # The frame of the last step is the first one of the next episode; no reward of one
            # episode is in a return of the other.
            *[(3, 4, 8, 1, 4), (3, 4, 16, 0.5, 5)],
        ],
    ),
    "shorter than n": (
        3,
        [(1, 1, 1, False), (2, 2, 0, True)],
        [(0, 1, 1, 1, 1), (0, 1, 2, 0, 2), (1, 2, 2, 0, 2)],
    ),
    "a single step": (3, [(1, 1, 0, True)], [(0, 1, 1, 0, 1)]),
    "single steps": (
        2,
        [(1, 1, 0, True), (2, 2, 0, True), (3, 4, 1, False)],
        [(0, 1, 1, 0, 1), (1, 2, 2, 0, 2), (2, 3, 4, 1, 3)],
    ),
    "no step": (3, [], []),
}


@pytest.mark.parametrize("case", TRAJECTORIES)
def test_a_trajectory_becomes_these_transitions(case, make_replay):
    n_step, steps, expected = TRAJECTORIES[case]
    replay = make_replay()
    numbered = [[(*step, t)] for t, step in enumerate(steps, start=1)]
    add_steps(replay, numbered, n_step)
    assert replay.size == len(expected)
    assert transitions(replay) == collections.Counter(expected)


def test_environments_do_not_mix(make_replay):
    replay = make_replay()
    # The second has frames from 100 on, and its episode ends while the first's goes on.
    steps = [
        [(1, 1, 1, False, 1), (6, 32, 1, False, 101)],
        [(2, 2, 1, False, 2), (5, 64, 0, True, 102)],
        [(3, 4, 1, False, 3), (4, 128, 1, False, 103)],
    ]
    add_steps(replay, steps, n_step=2, first=(0, 100))
    assert transitions(replay) == collections.Counter(
        [
            *[(0, 1, 1, 1, 1), (0, 1, 2, 0.5, 2), (1, 2, 4, 0.5, 3)],
            *[(100, 6, 32, 1, 101), (100, 6, 64, 0, 102), (101, 5, 64, 0, 102)],
            *[(102, 4, 128, 1, 103)],
        ]
    )


def test_returns_with_many_rewards_are_those_of_the_formula(make_replay):
    n, gamma, replay = 5, 0.9, make_replay()
    rewards = np.random.default_rng(0).normal(size=12)
    steps = [[(t % 7, rewards[t], float(t < 11), t == 11, t + 1)] for t in range(12)]
    add_steps(replay, steps, n, discount=gamma)
    expected = {}
    # Growing windows from 0, full ones, and shrinking ones to 12.
    windows = [(0, k) for k in range(1, n)] + [(s, s + n) for s in range(12 - n + 1)]
    windows += [(s, 12) for s in range(12 - n + 1, 12)]
    for start, stop in windows:
        value = sum(gamma**k * rewards[start + k] for k in range(stop - start))
        discount = 0.0 if stop == 12 else gamma ** (stop - start - 1)
        expected[start, stop] = (start % 7, value, discount)
    actual = {(s, end): (a, r, d) for _, (s, a, r, d, end) in read_numbered(replay).values()}
    assert replay.size == len(windows)
    assert set(actual) == set(expected)
    for window, values in expected.items():
        assert actual[window] == pytest.approx(values, abs=1e-6), window


# --- what is drawn ---------------------------------------------------------------------------

PRIORITIES = np.array([1.0, 2.0, 4.0, 16.0, 0.5])


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0])
def test_transitions_are_drawn_by_priority_to_the_power_of_the_exponent(exponent, make_replay):
    replay = make_replay(exponent=exponent)
    add_numbered(replay, len(PRIORITIES))
    keys = {transition[0]: key for key, (_, transition) in read_numbered(replay).items()}
    replay.client.mutate_priorities(
        TABLE, {keys[i]: float(priority) for i, priority in enumerate(PRIORITIES)}
    )
    expected = PRIORITIES**exponent / np.sum(PRIORITIES**exponent)
    draws, counts = 3000, np.zeros(len(PRIORITIES))
    for sample in replay.client.sample(TABLE, draws, emit_timesteps=False):
        i = number_of(sample.data[0])
        counts[i] += 1
        assert sample.info.key == keys[i]
        assert sample.info.probability == pytest.approx(expected[i], rel=1e-5)
    sigma = np.sqrt(expected * (1 - expected) / draws)
    np.testing.assert_array_less(np.abs(counts / draws - expected), 5 * sigma)


@pytest.mark.parametrize(("options", "expected"), [({}, 1.0), ({"initial_priority": 4}, 4.0)])
def test_new_transitions_have_the_initial_priority(options, expected, make_replay):
    replay = make_replay(exponent=0.8, **options)
    add_numbered(replay, 3)
    assert [priority for priority, _ in read_numbered(replay).values()] == [expected] * 3


def test_batches_are_transitions_with_their_keys_and_probabilities(make_replay):
    replay = make_replay(exponent=1.0)
    add_numbered(replay, 10)
    items = read_numbered(replay)
    samples = replay.sample(batch_size=6)
    seen = set()
    for _ in range(3):
        sample = next(samples)
        batch = sample.data
        assert batch._fields == types.Transition._fields and not batch.extras
        assert batch.observation.shape == batch.next_observation.shape == (6, *SHAPE)
        for i, key in enumerate(sample.info.key.numpy().tolist()):
            fields = [field[i].numpy() for field in batch[:5]]
            transition = (number_of(fields[0]), *map(float, fields[1:4]), number_of(fields[4]))
            assert transition == items[key][1]
            seen.add(key)
        assert sample.info.probability.numpy() == pytest.approx([0.1] * 6)
    assert len(seen) > 1
    samples.close()


def test_sampling_waits_for_the_first_batch_that_is_asked_for(make_replay):
    replay = make_replay()
    samples = replay.sample(batch_size=2)  # There is nothing yet.
    add_numbered(replay, 1)
    assert {number_of(image.numpy()) for image in next(samples).data.observation} == {0}
    samples.close()


def test_a_full_table_loses_its_oldest_transitions_whatever_their_priority(make_replay):
    replay = make_replay(capacity=5)
    add_numbered(replay, 5)
    items = read_numbered(replay)
    replay.client.mutate_priorities(
        TABLE, {key: 100.0 if t[0] < 2 else 1.0 for key, (_, t) in items.items()}
    )
    add_numbered(replay, 2, start=5)
    assert replay.size == 5
    assert sorted(t[0] for t in transitions(replay)) == [2, 3, 4, 5, 6]
    add_numbered(replay, 12, start=20)
    assert sorted(t[0] for t in transitions(replay)) == [27, 28, 29, 30, 31]


# --- checkpoints -----------------------------------------------------------------------------


CAPACITY = 14


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(make_replay, tmp_path):
    """(folder, names of two checkpoints of one table, items at each)."""
    folder = tmp_path / "deep" / "replay"
    replay = make_replay(CAPACITY, exponent=0.8, checkpoints_dir=folder)
    names, contents = [], []
    for start in (0, 50):
        add_numbered(replay, 6, start)
        for i, key in enumerate(sorted(read_numbered(replay))):
            replay.client.mutate_priorities(TABLE, {key: 1.0 + i % 3})
        names.append(replay.save())
        contents.append(read_numbered(replay))
    assert names_in(folder) == sorted(names)
    return folder, names, contents


@pytest.mark.parametrize("which", [0, 1], ids=["the older", "the newer"])
def test_replay_begins_with_the_named_checkpoint_and_keeps_the_others(which, saved, make_replay):
    folder, names, contents = saved
    (folder / "saving" / "half").mkdir(parents=True)  # of a process that was killed
    replay = make_replay(CAPACITY, exponent=0.8, checkpoints_dir=folder, checkpoint=names[which])
    assert names_in(folder) == sorted(names)
    assert replay.size == 6 * (which + 1)
    # With keys and priorities.
    assert read_numbered(replay) == contents[which]
    assert {priority for priority, _ in contents[which].values()} == {1.0, 2.0, 3.0}


def test_restored_replay_is_filled_drawn_and_saved_as_before(saved, make_replay):
    folder, names, contents = saved
    replay = make_replay(CAPACITY, exponent=0.8, checkpoints_dir=folder, checkpoint=names[1])
    total = sum(priority**0.8 for priority, _ in contents[1].values())
    for sample in replay.client.sample(TABLE, 50, emit_timesteps=False):
        expected = contents[1][sample.info.key][0] ** 0.8 / total
        assert sample.info.probability == pytest.approx(expected, rel=1e-5)
    add_numbered(replay, 5, start=100)
    # Three too many: the oldest went first.
    frames = [*range(3, 6), *range(50, 56), *range(100, 105)]
    assert sorted(t[0] for t in transitions(replay)) == frames
    again = replay.save()
    assert names_in(folder) == sorted([*names, again])
    replay.forget_all_but({names[1], again})
    assert names_in(folder) == sorted([names[1], again])
    second = make_replay(CAPACITY, exponent=0.8, checkpoints_dir=folder, checkpoint=again)
    assert read_numbered(second) == read_numbered(replay)


def test_without_a_checkpoint_replay_begins_empty(saved, make_replay):
    folder, names, _ = saved
    replay = make_replay(checkpoints_dir=folder)
    assert replay.size == 0
    assert names_in(folder) == sorted(names)
    replay.forget_all_but(())
    assert names_in(folder) == []


@pytest.mark.parametrize("damage", ["is not there", "was not finished"])
def test_a_checkpoint_that_is_missing_is_an_error_and_the_others_stay(damage, saved, make_replay):
    folder, (first, second), _ = saved
    name = first
    if damage == "is not there":
        name = "2020-01-01T00:00:00"
    else:  # What Reverb writes last.
        (folder / first / "DONE").unlink()
    with pytest.raises(RunError, match=rf"replay checkpoint '.*{name[:10]}.*is missing") as caught:
        make_replay(checkpoints_dir=folder, checkpoint=name)
    assert "\n" not in str(caught.value)
    assert names_in(folder) == sorted([first, second])


@pytest.mark.parametrize("name", ["tables.tfrecord", "chunks.tfrecord", "items.tfrecord"])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_checkpoint_that_is_damaged_is_an_error_of_one_line(name, damage, saved, make_replay):
    folder, (checkpoint, _), _ = saved
    path = folder / checkpoint / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(RunError, match=rf"{checkpoint[:10]}.* cannot be read: ") as caught:
        make_replay(checkpoints_dir=folder, checkpoint=checkpoint)
    assert "\n" not in str(caught.value)
