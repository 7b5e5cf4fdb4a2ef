"""The Procgen environment against the raw simulator, step by step."""

from __future__ import annotations

import collections
import io
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from playing import assert_resumes_from_npz, assert_same_time_step, random_actions

pytest.importorskip("procgen")

from rldarts_tf.envs.episodes import EpisodeStatistics
from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.errors import ConfigError, RunError

# isort: split
import tensorflow as tf
from procgen import ProcgenGym3Env
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.policies import random_tf_policy
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

FIRST, MID, LAST = 0, 1, 2
REPOSITORY = Path(__file__).resolve().parents[1]


def make(game="fruitbot", num_envs=4, seed=1, **options):
    return ProcgenEnvironment(game, num_envs, seed=seed, **{"num_threads": 0, **options})


def play(env, results):
    """What a forked process sees of an environment that was made before."""
    try:
        results.put(env.step(np.zeros(2, np.int32)).step_type.tolist())
    except RunError as error:
        results.put(str(error))
    env.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_forked_environment_says_that_its_threads_are_missing(threads):
    env = make(num_envs=2, num_threads=threads)
    env.reset()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=play, args=(env, results))
    child.start()
    try:
        told = results.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0, "it hangs where it is closed"
    finally:
        child.kill()
    assert "num_threads=0" in told if threads else told == [MID, MID]
    assert env.step(np.zeros(2, np.int32)).step_type.tolist() == [MID, MID]


# --- games -----------------------------------------------------------------------------------


def test_games_and_action_count_are_those_of_the_simulator():
    from procgen.env import ENV_NAMES

    assert list(games.GAMES) == list(ENV_NAMES)
    assert all(tuple(ranges) == games.GAMES for ranges in games.RETURN_RANGES.values())
    env = ProcgenGym3Env(num=1, env_name="maze", num_threads=0, rand_seed=0)
    assert env.ac_space.eltype.n == games.NUM_ACTIONS


@pytest.mark.parametrize(
    ("game", "mode", "value", "expected"),
    [
        ("coinrun", "easy", 5.0, 0.0),
        ("coinrun", "hard", 10.0, 1.0),
        ("fruitbot", "easy", -1.5, 0.0),
        ("fruitbot", "easy", 15.45, 0.5),  # halfway from -1.5 to 32.4
        ("starpilot", "easy", 64.0, 1.0),
        ("starpilot", "hard", 35.0, 1.0),
        ("bigfish", "easy", 0.0, -1 / 39),  # below the range, not clipped
    ],
)
def test_normalized_return_by_hand(game, mode, value, expected):
    assert games.normalized_return(value, game, mode) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "message"),
    [("coinrum", "did you mean 'coinrun'"), ("StarPilot", "'starpilot'"), ("zzz", "bigfish, ")],
)
def test_an_unknown_game_is_answered_with_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message):
        games.normalized_return(1.0, name, "easy")


# --- the wrapper against the raw simulator ----------------------------------------------------


@pytest.mark.parametrize(
    ("game", "mode", "num_threads"),
    [("fruitbot", "easy", 0), ("bossfight", "hard", 4), ("leaper", "easy", 4)],
)
def test_every_step_equals_the_raw_simulator(game, mode, num_threads):
    num_envs, steps = 8, 400
    raw = ProcgenGym3Env(
        num=num_envs, env_name=game, distribution_mode=mode, rand_seed=3, num_threads=0
    )
    env = make(game, num_envs, seed=3, distribution_mode=mode, num_threads=num_threads)
    _, observation, _ = raw.observe()
    time_step = env.reset()
    expected = ts.TimeStep(
        np.full(num_envs, FIRST, np.int32),
        np.zeros(num_envs, np.float32),
        np.ones(num_envs, np.float32),
        observation["rgb"],
    )
    assert_same_time_step(time_step, expected)
    ended_in_all = np.zeros(num_envs, int)
    running = [[0.0, 0] for _ in range(num_envs)]
    episodes = []
    for action in random_actions(steps, num_envs):
        raw.act(action)
        reward, observation, first = raw.observe()
        time_step = env.step(action)
        assert time_step.observation.dtype == np.uint8
        assert_same_time_step(
            time_step,
            ts.TimeStep(
                np.array([LAST if f else MID for f in first], np.int32),
                reward,
                np.array([0.0 if f else 1.0 for f in first], np.float32),
                observation["rgb"],
            ),
        )
        assert_same_time_step(env.current_time_step(), time_step)
        ended_in_all += first
        for i in range(num_envs):
            running[i][0] += float(reward[i])
            running[i][1] += 1
            if first[i]:
                episodes.append((*running[i], i))
                running[i] = [0.0, 0]
    assert ended_in_all.sum() >= 10  # or the boundaries were not tried
    finished = env.episodes.take()
    assert list(zip(*(field.tolist() for field in finished))) == episodes
    assert env.episodes.take().returns.size == 0


def test_the_options_reach_the_simulator():
    options = {
        "use_backgrounds": False,
        "restrict_themes": True,
        "use_monochrome_assets": True,
        "center_agent": False,
        "paint_vel_info": True,
    }
    raw = ProcgenGym3Env(
        num=2, env_name="coinrun", distribution_mode="easy", rand_seed=5, num_threads=0, **options
    )
    changed = make("coinrun", 2, seed=5, **options).reset().observation
    np.testing.assert_array_equal(changed, raw.observe()[1]["rgb"])
    assert np.any(changed != make("coinrun", 2, seed=5).reset().observation)


@pytest.mark.parametrize("mode", games.DISTRIBUTION_MODES)
@pytest.mark.parametrize("game", games.GAMES)
def test_every_game_steps_and_goes_on_exactly_from_a_state(game, mode):
    env = make(game, 2, distribution_mode=mode)
    actions = random_actions(60, 2)
    for action in actions[:30]:
        time_step = env.step(action)
        assert array_spec.check_arrays_nest(
            ts.TimeStep(*(field[0] for field in time_step)), env.time_step_spec()
        )
    other = make(game, 2, seed=99, distribution_mode=mode)
    other.set_state(env.get_state())
    for action in actions[30:]:
        assert_same_time_step(other.step(action), env.step(action))


# --- specs, ownership, reset, TF-Agents -------------------------------------------------------


def test_specs():
    env = make(num_envs=3)
    assert env.batched and env.batch_size == 3
    assert env.game == "fruitbot" and env.games == ("fruitbot",) * 3
    observation = env.observation_spec()
    assert observation.shape == (64, 64, 3) and observation.dtype == np.uint8
    assert (observation.minimum == 0).all() and (observation.maximum == 255).all()
    action = env.action_spec()
    assert action.shape == () and action.dtype == np.int32
    assert (action.minimum, action.maximum) == (0, 14)


def test_time_steps_that_were_kept_do_not_change_later():
    env = make("starpilot")
    kept, copies = [], []
    for action in random_actions(5, 4):
        kept.append(env.step(action))
        copies.append([field.copy() for field in kept[-1]])
    for time_step, copy in zip(kept, copies):
        assert_same_time_step(time_step, ts.TimeStep(*copy))
    assert np.any(copies[0][3] != copies[-1][3])


def test_reset_hands_out_the_current_frames_and_restarts_nothing():
    actions = random_actions(40, 4)
    plain, interrupted = make("bossfight"), make("bossfight")
    plain.reset()
    interrupted.reset()
    for i, action in enumerate(actions):
        time_step = interrupted.step(action)
        assert_same_time_step(time_step, plain.step(action))
        if i % 7 == 3:
            again = interrupted.reset()
            np.testing.assert_array_equal(again.observation, time_step.observation)
            np.testing.assert_array_equal(again.step_type, [FIRST] * 4)
            np.testing.assert_array_equal(again.reward, np.zeros(4))
            np.testing.assert_array_equal(again.discount, np.ones(4))
    for a, b in zip(plain.episodes.state().values(), interrupted.episodes.state().values()):
        np.testing.assert_array_equal(a, b)


def test_restarting_starts_the_next_episodes_and_does_not_count_the_abandoned():
    env = make("coinrun", 3)
    for action in random_actions(12, 3):
        env.step(action)
    before = env.get_info()["level_seed"]
    env.episodes.take()
    time_step = env.restart_episodes()
    assert_same_time_step(env.current_time_step(), time_step)
    np.testing.assert_array_equal(time_step.step_type, [FIRST] * 3)
    info = env.get_info()
    assert (info["level_seed"] != before).all()
    np.testing.assert_array_equal(info["prev_level_seed"], before)
    assert not any(values.any() for values in env.episodes.state().values())


def test_a_restarted_level_begins_as_it_began_before():
    env = make("coinrun", 2, num_levels=1, start_level=7)
    first = env.reset().observation
    actions = random_actions(12, 2)
    before = [env.step(action) for action in actions]
    assert not any(step.is_last().any() for step in before)
    np.testing.assert_array_equal(env.restart_episodes().observation, first)
    for action, step in zip(actions, before):
        assert_same_time_step(env.step(action), step)


def test_a_step_where_all_environments_ended_does_not_reset():
    env = make("bossfight", 1, seed=0)
    raw = ProcgenGym3Env(
        num=1, env_name="bossfight", distribution_mode="easy", rand_seed=0, num_threads=0
    )
    raw.observe()
    env.reset()
    after_last = 0
    previous = MID
    for action in random_actions(300, 1):
        raw.act(action)
        reward, observation, first = raw.observe()
        time_step = env.step(action)
        np.testing.assert_array_equal(time_step.observation, observation["rgb"])
        np.testing.assert_array_equal(time_step.reward, reward)
        assert time_step.step_type[0] == (LAST if first[0] else MID)
        after_last += previous == LAST
        previous = time_step.step_type[0]
    assert after_last >= 2


Trajectory = collections.namedtuple(
    "Trajectory", ["step_type", "observation", "action", "next_step_type", "reward", "discount"]
)


def test_a_dynamic_step_driver_collects_what_the_raw_simulator_gives():
    num_envs, steps = 3, 60
    env = make("bossfight", num_envs, seed=4)
    tf_env = tf_py_environment.TFPyEnvironment(env)
    assert tf_env.batch_size == num_envs
    assert tf_env.time_step_spec().observation.dtype == tf.uint8
    collected = []

    def record(*arrays):
        collected.append(Trajectory(*(array.numpy() for array in arrays)))

    def observer(trajectory):
        fields = [trajectory.step_type, trajectory.observation, trajectory.action]
        fields += [trajectory.next_step_type, trajectory.reward, trajectory.discount]
        return tf.py_function(record, fields, [])

    dynamic_step_driver.DynamicStepDriver(
        tf_env,
        random_tf_policy.RandomTFPolicy(tf_env.time_step_spec(), tf_env.action_spec()),
        observers=[observer],
        num_steps=num_envs * steps,
    ).run()
    # The driver's num_steps leaves out trajectories that start at LAST.
    counted = [int((t.step_type != LAST).sum()) for t in collected]
    assert sum(counted) >= num_envs * steps > sum(counted[:-1])
    raw = ProcgenGym3Env(
        num=num_envs, env_name="bossfight", distribution_mode="easy", rand_seed=4, num_threads=0
    )
    _, observation, first = raw.observe()
    step_type = np.full(num_envs, FIRST)
    ends = 0
    for trajectory in collected:
        np.testing.assert_array_equal(trajectory.observation, observation["rgb"])
        np.testing.assert_array_equal(trajectory.step_type, step_type)
        raw.act(trajectory.action)
        reward, observation, first = raw.observe()
        step_type = np.where(first, LAST, MID)
        np.testing.assert_array_equal(trajectory.reward, reward)
        np.testing.assert_array_equal(trajectory.next_step_type, step_type)
        np.testing.assert_array_equal(trajectory.discount, 1.0 - first)
        ends += first.sum()
    assert ends >= 1


@pytest.mark.parametrize(
    "action",
    [
        np.zeros(3, np.int32),
        np.zeros((4, 1), np.int32),
        np.zeros(4, np.float32),
        np.array([0, 1, 2, 15]),
        np.array([0, 1, 2, -1]),
    ],
)
def test_actions_that_do_not_fit_are_refused(action):
    env = make()
    env.reset()
    with pytest.raises(ValueError, match=r"^action: "):
        env.step(action)


# --- seeds and levels -------------------------------------------------------------------------


def rollout(**options):
    env = make("fruitbot", 4, **options)
    frames = [env.reset().observation]
    frames += [env.step(action).observation for action in random_actions(60, 4)]
    return np.stack(frames)


def test_the_seed_decides_the_stream_and_threads_do_not():
    first = rollout(seed=7)
    np.testing.assert_array_equal(first, rollout(seed=7))
    np.testing.assert_array_equal(first, rollout(seed=7, num_threads=3))
    assert np.any(first != rollout(seed=8))
    np.testing.assert_array_equal(first, rollout(seed=np.int64(7)))


def levels_seen(num_levels, start_level, steps=150):
    env = make("bossfight", 16, num_levels=num_levels, start_level=start_level)
    seen = set(env.get_info()["level_seed"].tolist())
    for action in random_actions(steps, 16):
        env.step(action)
        seen |= set(env.get_info()["level_seed"].tolist())
    return seen


def test_num_levels_and_start_level_choose_the_levels():
    assert levels_seen(num_levels=3, start_level=500) == {500, 501, 502}
    assert levels_seen(num_levels=1, start_level=2**31 - 2, steps=1) == {2**31 - 2}
    unlimited = levels_seen(num_levels=0, start_level=0)
    assert len(unlimited) > 16  # new levels after episodes ended
    assert max(unlimited) > 10**6


# --- states -----------------------------------------------------------------------------------


def test_a_state_in_a_npz_file_continues_in_a_new_environment_statistics_included(tmp_path):
    actions = random_actions(300, 4)
    env, other = make("bossfight"), make("bossfight", seed=123, num_threads=2)
    assert_resumes_from_npz(tmp_path / "state.npz", env, other, actions[:120], actions[120:])
    expected, actual = env.episodes.take(), other.episodes.take()
    for name, a, e in zip(actual._fields, actual, expected):
        np.testing.assert_array_equal(a, e, err_msg=name)


def test_taking_a_state_changes_nothing_and_it_can_be_returned_to():
    actions = random_actions(80, 4)
    env, plain = make(), make()
    state = env.get_state()  # before the first reset
    rounds = []
    for _ in range(2):
        rounds.append([env.step(action) for action in actions])
        env.set_state(state)
    plain.reset()
    for action, one, two in zip(actions, *rounds):
        expected = plain.step(action)
        assert_same_time_step(one, expected)
        assert_same_time_step(two, expected)


def saved_state(**options):
    buffer = io.BytesIO()
    np.savez(buffer, **make(**options).get_state())
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as state:
        return dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "maze"}, "game was 'maze' and is 'fruitbot' here"),
        ({"num_envs": 2}, "num_envs was 2 and is 4 here"),
        ({"distribution_mode": "hard"}, "distribution_mode was 'hard'"),
        ({"num_levels": 5}, "num_levels was 5 and is 0"),
        ({"use_backgrounds": False}, "use_backgrounds was False"),
    ],
)
def test_a_state_of_other_settings_is_refused(options, message):
    state = saved_state(**options)
    with pytest.raises(RunError, match=message):
        make().set_state(state)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("settings", None, "'settings' is missing"),
        ("settings", lambda v: np.array("[1"), "not a JSON object"),
        ("simulator", None, "'simulator' is missing"),
        ("simulator", lambda v: v[:-1], "do not fit"),
        ("simulator_sizes", lambda v: v * 0, "do not fit"),
        ("step_type", lambda v: v.astype(np.int64), "'step_type' is int64"),
        ("reward", lambda v: v[:3], r"'reward' .* \(3,\)"),
        ("running_lengths", None, "'running_lengths' is missing"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(name, damage, message):
    state = saved_state()
    if damage is None:
        del state[name]
    else:
        state[name] = damage(state[name])
    env, plain = make(seed=2), make(seed=2)
    for action in random_actions(5, 4):
        env.step(action)
        plain.step(action)
    with pytest.raises(RunError, match=message):
        env.set_state(state)
    for action in random_actions(20, 4, seed=1):
        assert_same_time_step(env.step(action), plain.step(action))


# --- closing ---------------------------------------------------------------------------------


def test_closing_waits_for_no_lock_that_the_making_of_another_simulator_holds():
    # The garbage collector may close one in the middle of that, in the same thread.
    env = make()
    lock = env._env._ffi._lock
    closing = threading.Thread(target=env.close, daemon=True)
    with lock:
        closing.start()
        closing.join(timeout=20)
        waits = closing.is_alive()
    closing.join()
    assert not waits
    env.close()


# --- bad arguments and imports ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"game": "coinrum"}, "game: .* did you mean 'coinrun'"),
        ({"distribution_mode": "extreme"}, "distribution_mode: 'extreme' is not supported"),
        ({"num_envs": 0}, "num_envs: must be an integer from 1 to 2147483647, got 0"),
        ({"num_envs": 2.0}, "num_envs: must be an integer"),
        ({"num_levels": -1}, "num_levels: must be an integer from 0 to 2147483647, got -1"),
        ({"start_level": -1}, "start_level: must be an integer from 0 to 2147483647, got -1"),
        ({"start_level": 5}, "start_level: 5 has no effect"),
        ({"start_level": 2**31 - 1, "num_levels": 1}, "start_level: .* at most 2147483647"),
        ({"seed": None}, "seed: is required"),
        ({"seed": -1}, "seed: must be an integer from 0 to 2147483647, got -1"),
        ({"seed": 2**31}, "seed: must be an integer from 0 to 2147483647, got 2147483648"),
        ({"seed": True}, "seed: must be an integer"),
        ({"num_threads": -1}, "num_threads: must be an integer from 0 to 2147483647, got -1"),
        ({"use_backgrounds": "False"}, "use_backgrounds: must be True or False"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(change, message):
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        make(**change)
    assert "\n" not in str(raised.value)


def test_without_procgen_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(ConfigError, match=r"pip install rldarts_tf\[procgen\]"):
        make()


def test_procgen_is_loaded_by_the_first_environment_only_and_without_gyms_notice():
    program = """
import sys
import rldarts_tf.envs.procgen.batch as module
assert "procgen" not in sys.modules and "gym3" not in sys.modules
module.ProcgenEnvironment("maze", 1, seed=0).reset()
assert "procgen" in sys.modules and "gym3" in sys.modules
from gym_notices import notices
assert notices.notices, "the table of notices was not put back"
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Gym has been unmaintained" not in done.stderr + done.stdout


# --- episode statistics -----------------------------------------------------------------------


def test_episode_statistics_by_hand():
    episodes = EpisodeStatistics(3)
    assert episodes.add([1, 2, 3], [False, False, True])._asdict() == {
        "returns": [3.0],
        "lengths": [1],
        "environments": [2],
    }
    assert episodes.add([1, 2, 3], [False, False, False]).returns.size == 0
    both = episodes.add([0.5, -9, 1], [True, True, False])
    np.testing.assert_array_equal(both.returns, [2.5, -5.0])
    np.testing.assert_array_equal(both.lengths, [3, 3])
    np.testing.assert_array_equal(both.environments, [0, 1])
    queue = episodes.take()
    np.testing.assert_array_equal(queue.returns, [3.0, 2.5, -5.0])
    np.testing.assert_array_equal(queue.lengths, [1, 3, 3])
    np.testing.assert_array_equal(queue.environments, [2, 0, 1])
    last = episodes.add([7, 7, 7], [True, True, True])
    np.testing.assert_array_equal(last.returns, [7.0, 7.0, 11.0])
    np.testing.assert_array_equal(last.lengths, [1, 1, 3])
    assert episodes.take().returns.size == 3
    assert episodes.take().returns.size == 0


def test_episodes_that_are_discarded_count_from_zero_and_finished_ones_stay():
    episodes = EpisodeStatistics(2)
    episodes.add([1, 2], [True, False])
    episodes.discard_running()
    last = episodes.add([4, 8], [True, True])
    np.testing.assert_array_equal(last.returns, [4.0, 8.0])
    np.testing.assert_array_equal(last.lengths, [1, 1])
    np.testing.assert_array_equal(episodes.take().returns, [1.0, 4.0, 8.0])


def test_episode_statistics_refuse_other_shapes():
    with pytest.raises(ValueError, match="shape"):
        EpisodeStatistics(2).add(np.zeros(1), np.zeros(1, bool))
    with pytest.raises(ConfigError, match="num_envs"):
        EpisodeStatistics(0)
