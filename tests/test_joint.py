"""Several games in one batch against each game alone."""

from __future__ import annotations

import gin
import numpy as np
import pytest
from playing import assert_resumes_from_npz, assert_same_time_step, random_actions

pytest.importorskip("procgen")

from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.envs.procgen.joint import JointEnvironment, make_procgen
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.errors import ConfigError, RunError

# isort: split
from tf_agents.environments import tf_py_environment

GAMES = ("bossfight", "leaper", "fruitbot")
SIZES = (3, 2, 2)
FIRST, LAST = 0, 2


def make(names=GAMES, num_envs=7, seed=1, **options):
    return make_procgen(names, num_envs, seed=seed, **{"num_threads": 0, **options})


def assert_same_arrays(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


# --- how many environments of which game ------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "num_envs", "sizes"),
    [
        (("maze", "leaper"), 2, (1, 1)),
        (("maze", "leaper"), 5, (3, 2)),
        (("maze", "leaper", "heist"), 8, (3, 3, 2)),
        (("maze", "leaper", "heist"), 9, (3, 3, 3)),
        (games.GAMES, 18, (2, 2, *(1,) * 14)),
    ],
)
def test_environments_are_divided_evenly_and_the_first_games_get_one_more(names, num_envs, sizes):
    env = make(names, num_envs)
    assert isinstance(env, JointEnvironment)
    assert env.games == tuple(g for g, size in zip(names, sizes) for _ in range(size))
    assert env.batched and env.batch_size == num_envs
    time_step = env.reset()
    assert time_step.observation.shape == (num_envs, 64, 64, 3)
    assert env.step(np.zeros(num_envs, np.int32)).reward.shape == (num_envs,)
    env.close()


def test_one_game_is_a_plain_environment():
    env, plain = make(["leaper"], 3), ProcgenEnvironment("leaper", 3, seed=1, num_threads=0)
    assert type(env) is ProcgenEnvironment
    assert env.games == plain.games == ("leaper",) * 3
    for action in random_actions(20, 3):
        assert_same_time_step(env.step(action), plain.step(action))


# --- against each game alone ------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [0, 2, None])
def test_every_step_is_that_of_each_game_alone(num_threads):
    env = make(num_threads=num_threads, distribution_mode="easy", num_levels=5, start_level=9)
    alone = [
        ProcgenEnvironment(game, size, seed=1, num_threads=0, num_levels=5, start_level=9)
        for game, size in zip(GAMES, SIZES)
    ]
    cuts = np.cumsum(SIZES)[:-1]
    offsets = [0, *cuts]

    def check(time_step, parts):
        for name, actual, *expected in zip(time_step._fields, time_step, *parts):
            np.testing.assert_array_equal(actual, np.concatenate(expected), err_msg=name)
            assert actual.dtype == expected[0].dtype

    check(env.reset(), [part.reset() for part in alone])
    episodes = []
    for step, action in enumerate(random_actions(250, 7)):
        time_step = env.step(action)
        check(time_step, [part.step(a) for part, a in zip(alone, np.split(action, cuts))])
        assert_same_time_step(env.current_time_step(), time_step)
        if step % 50 == 10:  # statistics run on
            check(env.reset(), [part.reset() for part in alone])
        for part, offset in zip(alone, offsets):
            finished = part.episodes.take()
            episodes += zip(
                finished.returns, finished.lengths, (finished.environments + offset).tolist()
            )
    assert len(episodes) >= 10
    assert list(zip(*(field.tolist() for field in env.episodes.take()))) == episodes
    levels = [part.get_info() for part in alone]
    assert_same_arrays(
        env.get_info(), {name: np.concatenate([i[name] for i in levels]) for name in levels[0]}
    )


def test_what_a_game_plays_does_not_depend_on_the_games_beside_it():
    one, other = make(("bossfight", "leaper"), 4), make(("maze", "heist", "bossfight"), 6)
    frames = []
    for action in random_actions(60, 2):
        step = one.step(np.tile(action, 2))
        other_step = other.step(np.tile(action, 3))
        frames.append(step.observation[:2])
        np.testing.assert_array_equal(frames[-1], other_step.observation[4:])
        np.testing.assert_array_equal(step.reward[:2], other_step.reward[4:])
    assert np.any(frames[0] != frames[-1])


def test_all_games_are_sent_their_actions_before_the_first_is_waited_for(monkeypatch):
    calls = []

    def recorded(name, method):
        def record(self, *args):
            calls.append((name, self.game))
            return method(self, *args)

        return record

    for name in ("_act", "_observe"):
        method = getattr(ProcgenEnvironment, name)
        monkeypatch.setattr(ProcgenEnvironment, name, recorded(name, method))
    env = make()
    env.reset()
    calls.clear()
    env.step(np.zeros(7, np.int32))
    assert calls == [(name, game) for name in ("_act", "_observe") for game in GAMES]


@pytest.mark.parametrize(("num_games", "expected"), [(1, 4), (4, 4), (5, 3), (8, 2), (16, 1)])
def test_threads_are_fewer_where_there_are_many_simulators(monkeypatch, num_games, expected):
    made = []

    class StopError(Exception):
        pass

    def record(self, game, num_envs, *, num_threads, **options):
        made.append(num_threads)
        raise StopError

    monkeypatch.setattr(ProcgenEnvironment, "__init__", record)
    with pytest.raises(StopError):
        make_procgen(games.GAMES[:num_games], 16, seed=0)
    assert made == [expected]


def test_time_steps_that_were_kept_do_not_change_later():
    env = make()
    kept = [env.step(action) for action in random_actions(5, 7)]
    copies = [[field.copy() for field in step] for step in kept]
    env.step(np.zeros(7, np.int32))
    for time_step, copy in zip(kept, copies):
        assert_same_time_step(time_step, type(time_step)(*copy))


def test_specs_are_those_of_one_game_and_tf_agents_takes_it():
    env, single = make(), ProcgenEnvironment("maze", 1, seed=0, num_threads=0)
    assert env.time_step_spec() == single.time_step_spec()
    assert env.action_spec() == single.action_spec()
    assert env.distribution_mode == "easy"
    tf_env = tf_py_environment.TFPyEnvironment(env)
    tf_env.reset()
    assert tf_env.step(np.zeros(7, np.int32)).observation.shape == (7, 64, 64, 3)


@pytest.mark.parametrize("action", [np.zeros(6, np.int32), np.full(7, 15), np.zeros(7)])
def test_actions_that_do_not_fit_are_refused(action):
    env = make()
    env.reset()
    with pytest.raises(ValueError, match=r"^action: "):
        env.step(action)


def test_restarting_abandons_the_episodes_of_all_games_uncounted():
    env = make()
    for action in random_actions(9, 7):
        env.step(action)
    env.episodes.take()
    before = env.get_info()["level_seed"]
    time_step = env.restart_episodes()
    assert (time_step.step_type == FIRST).all()
    assert (env.get_info()["level_seed"] != before).all()
    state = env.episodes.state()
    assert not any(values.any() for values in state.values())


def test_closing_closes_all_games_and_may_be_done_twice():
    env = make()
    env.reset()
    env.close()
    env.close()
    assert all(part._env.closed for part in env._environments)


# --- states -----------------------------------------------------------------------------------


def test_a_state_in_a_npz_file_continues_in_a_new_environment_statistics_included(tmp_path):
    actions = random_actions(160, 7)
    env, other = make(), make(seed=123, num_threads=2)
    assert_resumes_from_npz(tmp_path / "state.npz", env, other, actions[:80], actions[80:])
    assert_same_arrays(other.get_state(), env.get_state())


def test_a_state_can_be_returned_to():
    actions = random_actions(30, 7)
    env = make()
    state = env.get_state()  # before the first reset
    rounds = []
    for _ in range(2):
        rounds.append([env.step(action) for action in actions])
        env.set_state(state)
    for one, two in zip(*rounds):
        assert_same_time_step(one, two)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: make(GAMES[:2]), r"game was \['bossfight', 'leaper'\] and is \['bossfight', "),
        (lambda: make(("leaper", "bossfight", "fruitbot")), r"game was \['leaper', 'bossfight'"),
        (lambda: make(num_envs=8), r"num_envs was \[3, 3, 2\] and is \[3, 2, 2\] here"),
        (lambda: make(num_levels=3), "num_levels was 3 and is 0 here"),
        (lambda: make(("bossfight",)), "game was 'bossfight' and is"),
    ],
)
def test_a_state_of_other_settings_is_refused(other, message):
    with pytest.raises(RunError, match=message):
        make().set_state(other().get_state())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("simulator", None, "'simulator' is missing"),
        ("simulator", lambda v: v[:-1], "do not fit"),
        ("simulator_sizes", lambda v: v[:3], r"'simulator_sizes' .* \(3,\)"),
        ("discount", lambda v: v.astype(np.float64), "'discount' is float64"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(name, damage, message):
    state = make().get_state()
    if damage is None:
        del state[name]
    else:
        state[name] = damage(state[name])
    env, plain = make(seed=2), make(seed=2)
    env.reset()
    plain.reset()
    with pytest.raises(RunError, match=message):
        env.set_state(state)
    for action in random_actions(5, 7):
        assert_same_time_step(env.step(action), plain.step(action))


# --- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_envs": 2}, "num_envs: must be at least the number of games, 3, not 2"),
        ({"num_envs": 0}, "num_envs: "),
        ({"num_envs": 7.0}, "num_envs: must be an integer"),
        ({"names": ()}, "game: there must be at least one"),
        ({"names": ("maze", "mazes")}, "game: there is no Procgen game 'mazes'; did you mean"),
        ({"names": ("maze", "heist", "maze")}, "game: 'maze' is listed twice"),
        ({"seed": None}, "seed: is required"),
        ({"num_threads": -1}, "num_threads: "),
        ({"distribution_mode": "extreme"}, "distribution_mode: "),
        ({"start_level": 3}, "start_level: "),
    ],
)
def test_bad_arguments_are_refused_in_one_line(change, message):
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        make(**change)
    assert "\n" not in str(raised.value)


def test_environments_of_different_settings_cannot_be_joined():
    parts = [
        ProcgenEnvironment(game, 1, seed=0, num_threads=0, distribution_mode=mode)
        for game, mode in (("maze", "easy"), ("leaper", "hard"))
    ]
    with pytest.raises(ConfigError, match=r"^distribution_mode: must be equal .*'easy', 'hard'"):
        JointEnvironment(parts)
    with pytest.raises(ConfigError, match=r"^environments: "):
        JointEnvironment([])


# --- the setting ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("starpilot", ("starpilot",)),
        ("starpilot,bigfish", ("starpilot", "bigfish")),
        (" starpilot , bigfish", ("starpilot", "bigfish")),
        (["maze", "leaper"], ("maze", "leaper")),
        (("maze",), ("maze",)),
        ("all", games.GAMES),
    ],
)
def test_the_setting_names_games(value, names):
    assert ProcgenSettings(game=value).games == names


@pytest.mark.parametrize("text", ["['maze', 'leaper']", "('maze', 'leaper')", "'maze,leaper'"])
def test_gin_files_name_games(text):
    gin.clear_config()
    try:
        gin.parse_config(f"ProcgenSettings.game = {text}")
        assert ProcgenSettings().games == ("maze", "leaper")
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"game": ""}, "game: there is no Procgen game ''"),
        ({"game": []}, "game: there must be at least one"),
        ({"game": "maze,"}, "game: there is no Procgen game ''"),
        ({"game": "maze,heits"}, "game: .* did you mean 'heist'"),
        ({"game": ["maze", "all"]}, "game: there is no Procgen game 'all'"),
        ({"game": ["maze", 3]}, "game: there is no Procgen game 3"),
        ({"game": "maze, maze"}, "game: 'maze' is listed twice"),
        ({"game": None}, "game: must be a name, a list of names or 'all', not None"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(change, message):
    with pytest.raises(ConfigError, match=f"^{message}") as raised:
        ProcgenSettings(**change)
    # gin appends where the call was configured.
    assert str(raised.value).partition("\n")[2].lstrip().startswith("In call to configurable")


def test_settings_make_environments():
    settings = ProcgenSettings("maze,leaper", "hard", num_levels=4, start_level=7)
    env = make_procgen(settings.games, 4, seed=0, num_threads=0, **settings.levels)
    assert env.games == ("maze", "maze", "leaper", "leaper")
    assert env.distribution_mode == "hard"
    assert set(env.get_info()["level_seed"]) <= {7, 8, 9, 10}
