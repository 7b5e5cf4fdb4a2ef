"""Gymnasium's environments: boundaries of episodes, images, actions, failures, the suite."""

from __future__ import annotations

import ast
import copy
import os
import re
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import dm_env
import numpy as np
import pytest

pytest.importorskip("gymnasium")

import counting_envs
import gymnasium
from counting_envs import Blank, Counting
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.envs.gymnasium.batch import GymnasiumBatch, _actions, make_gymnasium
from rldarts_tf.envs.gymnasium.images import ImageLayout
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
from rldarts_tf.envs.suite import suite_of
from rldarts_tf.errors import ConfigError, RunError

FIRST, MID, LAST = dm_env.StepType
ID = "RLDartsTest/Counting-v0"
HERE = Path(__file__).resolve().parent


def make_batch(kind=SyncVectorEnv, num_envs=4, mode=AutoresetMode.NEXT_STEP, seed=7, **options):
    """(batch, vector environment) of `Counting`; options are its own but for those of the batch."""
    of_batch = {
        name: options.pop(name) for name in ("layout", "timeout", "reward_clip") if name in options
    }
    vector = kind([lambda: Counting(**options)] * num_envs, autoreset_mode=mode)
    return GymnasiumBatch(vector, ID, seed=seed, **of_batch), vector


class Alone:
    """One environment, stepped by hand: what a row of the batch must show."""

    def __init__(self, seed, hides_first_step, **options):
        self._environment = Counting(**options)
        self._hides = hides_first_step
        self._over = False
        self.returns = []
        self.lengths = []
        self.first = self._reset(seed)

    def _reset(self, seed=None):
        self._return, self._length = 0.0, 0
        observation, _ = self._environment.reset(seed=seed)
        return observation.copy()

    def _play(self, action):
        observation, reward, terminated, truncated, _ = self._environment.step(action)
        self._return += reward
        self._length += 1
        if terminated or truncated:
            self.returns.append(self._return)
            self.lengths.append(self._length)
        return observation.copy(), reward, terminated, truncated

    def step(self, action):
        """(step type, reward, discount, observation)."""
        if self._over:
            self._over = False
            observation = self._reset()
            if self._hides:
                observation, _, terminated, truncated = self._play(action)
                if terminated or truncated:
                    observation = self._reset()
            return FIRST, 0.0, 1.0, observation
        observation, reward, terminated, truncated = self._play(action)
        self._over = terminated or truncated
        return (LAST if self._over else MID), reward, float(not terminated), observation


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize(
    ("mode", "in_place"),
    [
        (AutoresetMode.NEXT_STEP, True),
        (AutoresetMode.SAME_STEP, False),
        (AutoresetMode.DISABLED, True),
    ],
)
def test_every_step_is_that_of_environments_stepped_alone(kind, mode, in_place):
    hides = mode is not AutoresetMode.NEXT_STEP
    batch, vector = make_batch(kind, mode=mode, in_place=in_place)
    time_step = batch.reset()
    alone = [Alone(seed, hides) for seed in vector.np_random_seed]
    assert (time_step.step_type == FIRST).all() and (time_step.discount == 1).all()
    np.testing.assert_array_equal(time_step.observation, [one.first for one in alone])
    rng = np.random.default_rng(0)
    kept, seen = [], set()
    for _ in range(150):
        actions = rng.integers(3, size=4)
        time_step = batch.step(actions)
        expected = [one.step(action) for one, action in zip(alone, actions)]
        for row, column in zip(time_step, zip(*expected)):
            np.testing.assert_allclose(row, column, rtol=1e-6)
        kept.append((time_step, expected))
        seen |= {(int(kind_), float(discount)) for kind_, discount in zip(*time_step[:3:2])}
    assert seen == {(FIRST, 1.0), (MID, 1.0), (LAST, 0.0), (LAST, 1.0)}
    # Time steps are the caller's: later steps have not written into them.
    for time_step, expected in kept:
        np.testing.assert_array_equal(time_step.observation, [row[3] for row in expected])
    finished = batch.episodes.take()
    for index, one in enumerate(alone):
        mine = finished.environments == index
        np.testing.assert_allclose(finished.returns[mine], one.returns)
        assert finished.lengths[mine].tolist() == one.lengths
    batch.close()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_episodes_of_one_step_are_counted_and_never_follow_each_other_as_last(mode):
    batch, _ = make_batch(mode=mode, lengths=(1, 1))
    batch.reset()
    types = np.array([batch.step(np.zeros(4, int)).step_type for _ in range(10)])
    assert (types[::2] == LAST).all() and (types[1::2] == FIRST).all()
    finished = batch.episodes.take()
    assert set(finished.lengths) == {1} and set(finished.returns) == {1.0}
    # Where the first step is hidden, an episode of one step is over with it.
    assert len(finished.lengths) == 4 * (5 if mode is AutoresetMode.NEXT_STEP else 10)


def test_final_observation_of_a_dictionary_is_its_image():
    batch, vector = make_batch(
        mode=AutoresetMode.SAME_STEP, dictionary=True, layout=ImageLayout("camera")
    )
    batch.reset()
    alone = [Alone(seed, True) for seed in vector.np_random_seed]
    for _ in range(20):
        observation = batch.step(np.zeros(4, int)).observation
        np.testing.assert_array_equal(observation, [one.step(0)[3] for one in alone])


def test_a_vector_environment_that_does_not_say_when_it_begins_episodes_is_refused():
    vector = SyncVectorEnv([Counting])
    vector.metadata = {}
    with pytest.raises(ConfigError, match="autoreset_mode"):
        GymnasiumBatch(vector, ID, seed=0)


def test_clipped_rewards_leave_the_returns_of_episodes_raw():
    batch, _ = make_batch(lengths=(3, 3), reward_clip=1.5)
    batch.reset()
    rewards = [batch.step(np.zeros(4, int)).reward.tolist() for _ in range(3)]
    assert rewards == [[1.0] * 4, [1.5] * 4, [1.5] * 4]
    assert batch.episodes.take().returns.tolist() == [6.0] * 4


# --- seeds and states -------------------------------------------------------------------------


def play(batch, steps=20, seed=0):
    actions = np.random.default_rng(seed).integers(3, size=(steps, batch.batch_size))
    return np.array([batch.step(action).observation for action in actions])


def test_a_seed_decides_everything_and_each_environment_has_its_own():
    first, again, other = (make_batch(seed=seed)[0] for seed in (3, 3, 4))
    starts = [batch.reset().observation for batch in (first, again, other)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0] != starts[2]).any()
    assert len({row.tobytes() for row in starts[0]}) > 1
    np.testing.assert_array_equal(play(first), play(again))
    # Later resets begin new episodes, not the first ones again.
    assert (first.reset().observation != starts[0]).any()


def test_resuming_begins_new_episodes_and_keeps_what_was_counted(tmp_path):
    batch, _ = make_batch(lengths=(4, 4))
    start = batch.reset().observation
    play(batch, 6)
    np.savez(tmp_path / "state.npz", **batch.get_state())
    state = dict(np.load(tmp_path / "state.npz", allow_pickle=False))
    resumed, _ = make_batch(lengths=(4, 4))
    resumed.set_state(state)
    assert (resumed.current_time_step().step_type == FIRST).all()
    assert (resumed.current_time_step().observation != start).any()
    np.testing.assert_array_equal(resumed.episodes.take().returns, batch.episodes.take().returns)
    play(resumed, 4)
    # The episodes that were running are abandoned: these are whole ones.
    assert resumed.episodes.take().lengths.tolist() == [4] * 4
    assert int(resumed.get_state()["generation"]) == 1


def test_a_state_of_another_environment_or_a_damaged_one_is_refused():
    batch, _ = make_batch()
    state = batch.get_state()
    with pytest.raises(RunError, match="env was"):
        batch.set_state({**state, "settings": np.array('{"env": "Other-v0"}')})
    with pytest.raises(RunError, match="generation"):
        batch.set_state({**state, "generation": np.array(-1)})
    del state["generation"]
    with pytest.raises(RunError, match="generation"):
        batch.set_state(state)


# --- images -----------------------------------------------------------------------------------

DTYPES = {np.uint8: np.uint8, np.bool_: np.bool_, np.float32: np.float32, np.float64: np.float32}


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(8, 96), st.integers(8, 96)),
    channels=st.one_of(st.none(), st.integers(1, 12)),
    channels_first=st.booleans(),
    frames=st.integers(1, 3),
    dtype=st.sampled_from(list(DTYPES)),
)
def test_images_of_any_shape_and_dtype_keep_their_pixels(
    size, channels, channels_first, frames, dtype
):
    shape = size if channels is None else (*size, channels)
    moved = shape if channels is None or not channels_first else (channels, *size)
    space = spaces.Box(0, 255 if dtype == np.uint8 else 1, moved, dtype)

    def make():
        environment = Blank(copy.deepcopy(space))
        if frames > 1:
            environment = gymnasium.wrappers.FrameStackObservation(environment, frames)
        return environment

    layout = ImageLayout(channels_first=channels_first, frames=frames)
    batch = GymnasiumBatch(SyncVectorEnv([make] * 2), "blank", seed=1, layout=layout)
    spec = batch.observation_spec()
    assert spec.shape == (*size, frames * (channels or 1)) and spec.dtype == DTYPES[dtype]
    batch.reset()
    shown = [batch.step(np.zeros(2, int)).observation for _ in range(3)]
    space.seed(int(batch._boundaries._vector.np_random_seed[0]))
    pixels = [space.sample() for _ in range(4)][-frames:]
    if channels is None:
        pixels = [image[..., None] for image in pixels]
    elif channels_first:
        pixels = [image.transpose(1, 2, 0) for image in pixels]
    expected = np.concatenate(pixels, axis=-1).astype(DTYPES[dtype])
    assert shown[-1].dtype == spec.dtype and shown[-1].flags.c_contiguous
    np.testing.assert_array_equal(shown[-1][0], expected)


@pytest.mark.parametrize(
    ("space", "layout", "message"),
    [
        (spaces.Box(0, 1, (4,)), ImageLayout(), r"must be images, .* not of shape \(4,\)"),
        (spaces.Box(0, 9, (4, 4), np.int32), ImageLayout(), "uint8, bool or float, not int32"),
        (spaces.Box(0, 1, (4, 84, 84)), ImageLayout(), "channels_first = True .* frame_stack"),
        (spaces.Box(0, 1, (4, 84, 84)), ImageLayout(frames=3), "frame_stack: .* not 3 frames"),
        (spaces.Box(0, 1, (4, 3, 64, 64)), ImageLayout(frames=4), "hardly .* channels_first"),
        (spaces.Box(0, 1, (64, 64, 3)), ImageLayout(channels_first=True), "hardly .C, H, W."),
        (spaces.Discrete(3), ImageLayout(), "must be a Box of images"),
        (spaces.Dict({"a": spaces.Box(0, 1, (4, 4))}), ImageLayout(), "image_key: .* a, not None"),
        (spaces.Dict({"a": spaces.Discrete(2)}), ImageLayout("a"), "must be a Box of images"),
    ],
)
def test_observations_that_are_no_images_are_refused(space, layout, message):
    with pytest.raises(ConfigError, match=message):
        layout.spec(space)


@pytest.mark.parametrize("shape", [(7, 7, 20), (4, 4, 16), (3, 4, 5), (5, 30, 3)])
def test_small_images_may_have_many_channels(shape):
    assert ImageLayout().spec(spaces.Box(0, 1, shape)).shape == shape


# --- actions ----------------------------------------------------------------------------------


def test_discrete_actions_count_from_0_whatever_the_space_begins_with():
    batch, _ = make_batch(start=-1)
    assert (batch.action_spec().minimum, batch.action_spec().maximum) == (0, 2)
    batch.reset()
    assert (batch.step(np.full(4, 2)).observation[:, 1, 0, 0] == 2).all()
    for wrong in (np.full(4, 3), np.full(4, -1), np.zeros(3, int), np.zeros(4)):
        with pytest.raises(ValueError, match="action"):
            batch.step(wrong)


def test_box_actions_are_mapped_from_minus_1_to_1():
    box = spaces.Box(np.array([0.0, -2.0], np.float32), np.array([1.0, 6.0], np.float32))
    vector = SyncVectorEnv([lambda: Blank(spaces.Box(0, 1, (8, 8)), box)])
    batch = GymnasiumBatch(vector, "blank", seed=0)
    assert batch.action_spec().shape == (2,)
    batch.reset()
    for action in ([-1.0, -1.0], [0.0, 0.5], [3.0, 1.0]):
        batch.step(np.array([action]))
    np.testing.assert_allclose(vector.envs[0].played, [[0, -2], [0.5, 4], [1, 6]])
    for wrong in (np.zeros((1, 3)), np.full((1, 2), np.nan)):
        with pytest.raises(ValueError, match="action"):
            batch.step(wrong)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_box_actions_stay_within_the_bounds(bounds):
    low, high = (np.float32(bound) for bound in sorted(bounds))
    space = spaces.Box(low, high, (1,))
    actions = _actions(space)
    for action in (-1.0, -0.3, 0.0, 1.0):
        assert space.contains(actions.played(np.array([[action]], np.float32), 1)[0])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "bounds"),
        (spaces.MultiDiscrete([2, 2]), "Discrete or a Box"),
        (spaces.MultiBinary(4), "Discrete or a Box"),
    ],
)
def test_other_actions_are_refused(space, message):
    vector = SyncVectorEnv([lambda: Blank(spaces.Box(0, 1, (8, 8)), space)])
    with pytest.raises(ConfigError, match=message):
        GymnasiumBatch(vector, "blank", seed=0)


# --- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_an_exception_of_an_environment_is_one_line(kind, capfd, recwarn):
    batch, _ = make_batch(kind, fault="raise")
    batch.reset()
    line = (
        r"^the simulator .*Counting-v0 failed: ValueError: the wheel came off "
        r"\(counting_envs.py:\d+, in step\)$"
    )
    with pytest.raises(RunError, match=line) as raised:
        batch.step(np.array([0, 0, 2, 0]))
    assert "raise ValueError" in raised.value.trace
    with pytest.raises(RunError, match="closed"):
        batch.step(np.array([0, 0, 0, 0]))
    batch.close()
    assert capfd.readouterr().err == "" and not recwarn.list


def test_what_an_environment_raises_is_told_with_its_class_alone_where_it_has_no_message():
    for kind in (SyncVectorEnv, AsyncVectorEnv):
        batch, _ = make_batch(kind, fault="key")
        batch.reset()
        with pytest.raises(RunError, match=r"failed: KeyError: 'wheel' \(counting_envs.py:"):
            batch.step(np.array([0, 0, 2, 0]))


@pytest.mark.parametrize("code", [0, 3])
def test_an_environment_that_exits_ends_with_one_line_and_not_the_program(code):
    batch, _ = make_batch(fault=f"exit {code}")
    batch.reset()
    with pytest.raises(RunError, match=rf"failed: SystemExit: {code} \(counting_envs.py:"):
        batch.step(np.array([0, 0, 2, 0]))
    name = _registered(lambda: sys.exit(code))
    for vectorization in ("sync", "async"):
        with pytest.raises(ConfigError, match=f"{name} cannot be made: SystemExit: {code} "):
            make_gymnasium(GymnasiumSettings(env=name, vectorization=vectorization), 2, seed=0)


@pytest.mark.parametrize(
    ("fault", "message"), [("die", "processes has ended"), ("hang", "no answer within 1 s")]
)
def test_a_process_that_dies_or_hangs_is_one_line_and_leaves_none_behind(fault, message):
    batch, vector = make_batch(AsyncVectorEnv, fault=fault, timeout=1.0)
    batch.reset()
    started = time.monotonic()
    with pytest.raises(RunError, match=message):
        batch.step(np.array([0, 0, 2, 0]))
    assert time.monotonic() - started < 30
    assert not any(process.is_alive() for process in vector.processes)
    batch.close()


def test_a_constructor_that_hangs_ends_the_process_with_one_line():
    program = """
        import time, gymnasium
        from rldarts_tf.envs.gymnasium.batch import make_gymnasium
        from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
        gymnasium.register("RLDartsTest/Slow-v0", lambda: time.sleep(600))
        settings = GymnasiumSettings(env="RLDartsTest/Slow-v0", step_timeout=0.5)
        make_gymnasium(settings, 2, seed=0)
    """
    ended = _run(program)
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 2 and "constructor of RLDartsTest/Slow-v0 has not answered" in last


def _run(program):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("heard", [True, False])
def test_an_environment_of_this_process_that_hangs_ends_it_with_one_line(heard):
    program = """
        import os, numpy, counting_envs
        from rldarts_tf.envs.gymnasium.batch import make_gymnasium
        from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
        settings = GymnasiumSettings(
            env="RLDartsTest/Counting-v0", kwargs={"fault": "hang"}, step_timeout=0.5
        )
        batch = make_gymnasium(settings, 2, seed=0)
        batch.reset()
        if HEARD is False:
            os.close(2)
        batch.step(numpy.array([0, 2]))
    """.replace("HEARD", str(heard))
    ended = _run(program)
    assert ended.returncode == 2
    if heard:
        assert "has not answered for 0.5 s" in ended.stderr.strip().splitlines()[-1]


def test_a_reward_that_is_not_finite_is_refused():
    class Infinite(Blank):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, np.inf, *rest

    vector = SyncVectorEnv([lambda: Infinite(spaces.Box(0, 1, (8, 8)))])
    batch = GymnasiumBatch(vector, "blank", seed=0)
    batch.reset()
    with pytest.raises(RunError, match="not finite"):
        batch.step(np.zeros(1, int))


@pytest.mark.parametrize("at_reset", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_the_environments_fault(at_reset, value):
    class Broken(Blank):
        def reset(self, **options):
            image, info = super().reset(**options)
            return (np.full_like(image, value) if at_reset else image), info

        def step(self, action):
            image, *rest = super().step(action)
            image[3, 2] = value
            return image, *rest

    vector = SyncVectorEnv([lambda: Broken(spaces.Box(0, 1, (8, 8)))] * 2)
    batch = GymnasiumBatch(vector, "broken", seed=0)
    line = "^the simulator broken gave an observation that is not finite$"
    if at_reset:
        with pytest.raises(RunError, match=line):
            batch.reset()
        return
    batch.reset()
    with pytest.raises(RunError, match=line):
        batch.step(np.zeros(2, int))


# --- settings and the suite -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"env": "os:Env-v0"}, "env must be an id alone, .* --env_module"),
        ({"env": ""}, "env must be an id"),
        ({"vectorization": "threads"}, "vectorization must be one of auto, sync"),
        ({"kwargs": 3}, "kwargs must be a dict"),
        ({"kwargs": {"num_envs": 3}}, r"kwargs\['num_envs'\] is no argument of an environment"),
        ({"image_key": 3}, "image_key must be a name"),
        ({"image_key": "camera", "render": True}, "image_key and channels_first have no effect"),
        ({"image_size": 84}, r"image_size must be \(height, width\)"),
        ({"image_size": (84, 0)}, "image_size must be an integer of at least 1"),
        ({"sticky_actions": 1.5}, "sticky_actions must be at most 1"),
        ({"sticky_actions": 1.0}, "sticky_actions must be below 1"),
        ({"action_repeat": 0}, "action_repeat"),
        ({"frame_stack": 1.5}, "frame_stack"),
        ({"grayscale": 1}, "grayscale must be True or False"),
        ({"reward_clip": 0.0}, "reward_clip must be positive"),
        ({"step_timeout": 0}, "step_timeout"),
        ({"reference_returns": {"A-v0": (2, 1)}}, r"reference_returns\['A-v0'\]"),
        ({"reference_returns": {"A-v0": (1, "x")}}, r"reference_returns\['A-v0'\]"),
    ],
)
def test_a_bad_setting_is_named(fields, message):
    with pytest.raises(ConfigError, match=rf"^GymnasiumSettings\.{message}"):
        GymnasiumSettings(**fields)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RLDartsTest/Countin-v0", "Did you mean: `Counting`"),
        ("RLDartsTest/Counting-v7", "version"),
        ("Nowhere/Game-v0", "Nowhere"),
    ],
)
def test_an_unknown_id_is_one_line_that_helps(name, message):
    with pytest.raises(ConfigError, match=message) as raised:
        GymnasiumSuite(GymnasiumSettings(env=name)).check()
    assert "--env_module" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("MinAtar/Breakout-v1", "minatar", "minatar"),
        ("ALE/Pong-v5", "ale_py", "atari"),
    ],
)
def test_a_package_that_is_not_installed_is_told_with_its_extra(name, module, extra):
    # No distribution says that it registers ids, and no module can be imported.
    program = f"""
        import sys
        from importlib import metadata
        metadata.distributions = lambda: []
        sys.modules["{module}"] = None
        from rldarts_tf.envs.gymnasium.registry import find_spec
        from rldarts_tf.errors import ConfigError
        try:
            find_spec("{name}")
        except ConfigError as error:
            print(error)
    """
    told = _run(program).stdout
    assert told.count("\n") == 1 and told.startswith(f"env: {module} is not installed")
    assert told.endswith(f"pip install 'rldarts_tf[gymnasium,{extra}]'\n")


def test_opencv_that_is_not_installed_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    name = _registered(lambda: Blank(spaces.Box(0, 255, (20, 30, 3), np.uint8)))
    with pytest.raises(ConfigError, match=r"cv2 is not installed.*rldarts_tf\[gymnasium\]$"):
        make_gymnasium(GymnasiumSettings(env=name, image_size=(9, 9)), 2, seed=0)


def test_ids_without_a_namespace_are_found_in_installed_packages(tmp_path, monkeypatch):
    information = tmp_path / "rootless-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: rootless\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[gymnasium.envs]\n__root__ = rootless:register\n"
    )
    (tmp_path / "rootless.py").write_text(
        "import gymnasium\n"
        "def register():\n"
        "    gymnasium.register('Rootless-v0', entry_point='counting_envs:Counting')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    batch = make_gymnasium(GymnasiumSettings(env="Rootless-v0"), 1, seed=0)
    assert batch.reset().observation.shape == (1, *counting_envs.IMAGE)


def test_arguments_that_a_constructor_does_not_have_are_one_line():
    with pytest.raises(ConfigError, match=f"env: {ID} cannot be made: TypeError: .*'wings'"):
        make_gymnasium(GymnasiumSettings(env=ID, kwargs={"wings": 2}), 2, seed=0)


@pytest.mark.parametrize("vectorization", ["auto", "sync", "async"])
def test_wrappers_are_gymnasiums_own(vectorization):
    options = GymnasiumSettings(
        env=ID,
        kwargs={"lengths": (6, 6), "dictionary": True},
        vectorization=vectorization,
        image_key="camera",
        action_repeat=2,
        frame_stack=3,
        max_episode_steps=4,
    )
    batch = make_gymnasium(options, 2, seed=0)
    assert batch.observation_spec().shape == (2, 3, 3)
    batch.reset()
    step = batch.step(np.array([0, 1]))
    # Two steps of the environment: rewards 1 and 2, each with a tenth of the action.
    np.testing.assert_allclose(step.reward, [3.0, 3.2])
    assert step.observation[:, 0, 2].tolist() == [[0, 0, 2]] * 2
    step = batch.step(np.array([0, 1]))
    assert step.observation[:, 0, 2].tolist() == [[0, 2, 4]] * 2
    # The limit counts steps of the environment, and truncates.
    assert (step.step_type == LAST).all() and (step.discount == 1).all()
    batch.close()


def test_sticky_actions_play_the_action_before():
    batch = make_gymnasium(
        GymnasiumSettings(env=ID, kwargs={"lengths": (99, 99)}, sticky_actions=0.25), 8, seed=0
    )
    batch.reset()
    chosen = np.tile([[0], [1]], (45, 8))
    played = np.array([batch.step(actions).observation[:, 1, 0, 0] for actions in chosen])
    stuck = np.mean(played != chosen)
    assert 0.1 < stuck < 0.3


def test_sticky_actions_are_drawn_from_the_seed_of_the_batch():
    def played(seed):
        options = GymnasiumSettings(env=_registered(Unseeded), sticky_actions=0.5)
        batch = make_gymnasium(options, 2, seed=seed)
        batch.reset()
        chosen = np.tile([[0], [1]], (20, 2))
        return [batch.step(actions).observation[:, 0, 0, 0].tolist() for actions in chosen]

    assert played(0) == played(0) != played(1)


class Unseeded(Blank):
    """Shows the action, and never seeds its own generator."""

    def __init__(self):
        super().__init__(spaces.Box(0, 255, (2, 2, 1), np.uint8))

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 2, 1), np.uint8), {}

    def step(self, action):
        return np.full((2, 2, 1), action, np.uint8), 0.0, False, False, {}


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6, 7])
def test_the_last_image_of_an_episode_is_that_of_its_last_step(length):
    options = GymnasiumSettings(
        env=ID, kwargs={"lengths": (length, length)}, vectorization="sync", action_repeat=4
    )
    batch = make_gymnasium(options, 1, seed=0)
    step = batch.reset()
    while (step.step_type != LAST).all():
        step = batch.step(np.zeros(1, int))
    # Pixel (0, 2) counts the steps of the episode, so the greatest of two images is the last.
    assert step.observation[0, 0, 2, 0] == length


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_frames_are_kept_where_an_environment_writes_them_into_one_array(vectorization):
    options = GymnasiumSettings(
        env=ID,
        kwargs={"lengths": (9, 9), "in_place": True},
        vectorization=vectorization,
        frame_stack=3,
    )
    batch = make_gymnasium(options, 2, seed=0)
    batch.reset()
    for _ in range(3):
        step = batch.step(np.zeros(2, int))
    batch.close()
    assert step.observation[:, 0, 2].tolist() == [[1, 2, 3]] * 2


def _registered(constructor):
    name = f"RLDartsTest/{uuid.uuid4().hex}-v0"
    gymnasium.register(name, constructor)
    return name


@pytest.mark.parametrize(
    ("space", "fields", "shape"),
    [
        (((3, 20, 30), np.uint8), {"image_size": (8, 12)}, (8, 12, 3)),
        (((3, 20, 30), np.uint8), {"image_size": (8, 12), "grayscale": True}, (8, 12, 1)),
        (((1, 20, 30), np.uint8), {"image_size": (8, 12), "frame_stack": 2}, (8, 12, 2)),
    ],
)
def test_wrappers_of_images_know_where_the_channels_are(space, fields, shape):
    pytest.importorskip("cv2")
    name = _registered(lambda: Blank(spaces.Box(0, 255, *space)))
    batch = make_gymnasium(GymnasiumSettings(env=name, channels_first=True, **fields), 2, seed=0)
    assert batch.observation_spec().shape == batch.reset().observation.shape[1:] == shape


def test_an_image_of_one_channel_is_made_smaller():
    pytest.importorskip("cv2")
    name = _registered(lambda: Blank(spaces.Box(0, 255, (20, 30, 1), np.uint8)))
    batch = make_gymnasium(GymnasiumSettings(env=name, image_size=(8, 12)), 2, seed=0)
    assert batch.observation_spec().shape == batch.reset().observation.shape[1:] == (8, 12, 1)


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize(
    ("space", "fields", "message"),
    [
        (spaces.Box(0, 1, (9, 9, 3)), {"image_size": (8, 8)}, "image_size: .* must be uint8"),
        (spaces.Box(0, 9, (9, 9, 3), np.uint8), {"grayscale": True}, "grayscale: .* 0 and 255"),
        (spaces.Box(0, 255, (9, 9, 4), np.uint8), {"grayscale": True}, "grayscale: .*4 channels"),
        (spaces.Box(0, 1, (9, 9)), {"render": True}, "render: the environment does not draw"),
        (
            spaces.Box(0, 1, (9, 9)),
            {"image_key": "x", "frame_stack": 2},
            "image_key: the observation is no Dict",
        ),
        (
            spaces.Box(0, 1, (9, 9)),
            {"image_key": "x"},
            "image_key: the observation is no Dict",
        ),
        (
            spaces.Dict({"a": spaces.Box(0, 1, (9, 9))}),
            {"image_key": "x", "frame_stack": 2},
            "image_key: the observation has a, not 'x'",
        ),
        (
            spaces.Box(0, 255, (9, 9, 3), np.uint8),
            {"grayscale": True, "vectorization": "vector_entry_point"},
            "grayscale: not with vectorization = 'vector_entry_point'",
        ),
    ],
)
def test_what_a_wrapper_cannot_be_put_around_is_told_by_its_setting(space, fields, message):
    name = _registered(lambda render_mode=None: Blank(space))
    with pytest.raises(ConfigError, match=rf"^{message}"):
        make_gymnasium(GymnasiumSettings(env=name, **fields), 2, seed=0)


def test_images_are_made_gray_and_smaller():
    pytest.importorskip("cv2")
    gymnasium.register(
        "RLDartsTest/Blank-v0",
        lambda: Blank(spaces.Box(0, 255, (20, 30, 3), np.uint8)),
    )
    options = {"env": "RLDartsTest/Blank-v0", "grayscale": True, "image_size": (8, 12)}
    batch = make_gymnasium(GymnasiumSettings(**options, frame_stack=2), 2, seed=0)
    assert batch.observation_spec().shape == batch.reset().observation.shape[1:] == (8, 12, 2)


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
def test_a_picture_that_the_environment_draws_is_the_image():
    class Drawn(Blank):
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own convention

        def __init__(self, render_mode=None):
            super().__init__(spaces.Box(-1, 1, (3,)))
            self.render_mode = render_mode

        def render(self):
            return np.full((9, 8, 3), self._step, np.uint8)

    gymnasium.register("RLDartsTest/Drawn-v0", Drawn)
    options = GymnasiumSettings(env="RLDartsTest/Drawn-v0", render=True, frame_stack=2)
    batch = make_gymnasium(options, 2, seed=0)
    assert batch.observation_spec().shape == batch.reset().observation.shape[1:] == (9, 8, 6)
    assert batch.step(np.zeros(2, int)).observation[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ConfigError, match=f"env: {ID} cannot be made: "):
        make_gymnasium(GymnasiumSettings(env=ID, render=True), 2, seed=0)


def test_returns_are_normalized_by_the_reference_scores_or_left_raw():
    raw = GymnasiumSuite(GymnasiumSettings(env=ID))
    assert (raw.normalized(7.0, ID), raw.maximum_return(ID)) == (7.0, 1.0)
    suite = GymnasiumSuite(GymnasiumSettings(env=ID, reference_returns={ID: (2, 12)}))
    assert (suite.normalized(7.0, ID), suite.maximum_return(ID)) == (0.5, 12.0)


def test_a_game_of_minatar_has_one_best_return_whatever_its_actions():
    text = (HERE.parent / "gin" / "environments" / "minatar.gin").read_text("utf-8")
    table = ast.literal_eval(re.search(r"reference_returns = (\{.*?\n\})", text, re.DOTALL)[1])
    assert len(table) == 10
    for name in table:
        suite = GymnasiumSuite(GymnasiumSettings(env=name, reference_returns=table))
        other = name.replace("-v0", "-v1")
        assert suite.maximum_return(name) == table[other][1]
        assert suite.missing_maximum(name) is None
    unknown = GymnasiumSuite(GymnasiumSettings(env=ID, reference_returns=table))
    assert unknown.missing_maximum(ID) == "GymnasiumSettings.reference_returns"


def test_the_suite_is_found_by_its_settings_and_says_what_it_plays():
    assert suite_of("GymnasiumSettings") is GymnasiumSuite
    suite = GymnasiumSuite(GymnasiumSettings(env=ID))
    suite.check()
    assert (suite.games, suite.label) == ((ID,), "RLDartsTest-Counting-v0")
    assert suite.observation_spec().shape == counting_envs.IMAGE
    assert suite.action_spec().num_values == 3
    assert suite.describe()["game"] == ID


def test_importing_the_environments_loads_no_gymnasium():
    program = (
        "import sys, rldarts_tf.envs, rldarts_tf.envs.gymnasium.suite; "
        "print('gymnasium' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=HERE.parent, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False"]
