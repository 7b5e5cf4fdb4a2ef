"""Atari by ale-py's own vector environment: every step, settings, and a search on Pong."""

from __future__ import annotations

import contextlib

import dm_env
import numpy as np
import pytest

pytest.importorskip("ale_py")
pytest.importorskip("cv2")
pytest.importorskip("tf_agents")

import cv2
import gin
import gymnasium
from absl import flags as absl_flags

from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.gymnasium.batch import make_gymnasium
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
from rldarts_tf.errors import ConfigError
from rldarts_tf.launch import Experiment, experiment, flags, gin_files
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.summary import read_summary

FIRST, MID, LAST = dm_env.StepType
BREAKOUT, PONG = "ALE/Breakout-v5", "ALE/Pong-v5"


@contextlib.contextmanager
def atari_settings(game, **kwargs):
    """Settings of environments/atari.gin, with other arguments of the simulator."""
    gin_files.load(["environments/atari.gin"], [f"GymnasiumSettings.env = '{game}'"])
    try:
        made = GymnasiumSettings()
        yield GymnasiumSettings(kwargs={**made.kwargs, **kwargs}, reward_clip=made.reward_clip)
    finally:
        gin.clear_config()


def make_batch(game, num_envs, seed=0, **kwargs):
    with atari_settings(game, **kwargs) as settings:
        return make_gymnasium(settings, num_envs, seed=seed)


class Alone:
    """One environment of ale-py, whose actions are repeated by hand: a row of the batch."""

    def __init__(self, game, max_frames):
        self._environment = gymnasium.make(
            game,
            frameskip=1,
            repeat_action_probability=0.0,
            max_num_frames_per_episode=max_frames,
            obs_type="grayscale",
        ).unwrapped
        self._begin()

    def _begin(self):
        image, _ = self._environment.reset(seed=0)
        self._frames = [np.zeros((84, 84), np.uint8)] * 3 + [self._small(image)]
        self._over = False

    @staticmethod
    def _small(image):
        return cv2.resize(image, (84, 84), interpolation=cv2.INTER_AREA)

    @property
    def observation(self):
        return np.stack(self._frames, axis=-1)

    def show(self, image):
        """Replaces the newest frame."""
        self._frames[-1] = image

    def step(self, action):
        """(step type, reward, discount); the observation is `observation`."""
        if self._over:
            self._begin()
            return FIRST, 0.0, 1.0
        rewards, images, terminated, truncated = [], [], False, False
        while len(images) < 4 and not (terminated or truncated):
            image, reward, terminated, truncated, _ = self._environment.step(int(action))
            images.append(image)
            rewards.append(reward)
        self._frames = [*self._frames[1:], self._small(np.maximum(*[*images * 2][-2:]))]
        self._over = terminated or truncated
        return (LAST if self._over else MID), sum(rewards), float(not terminated)


@pytest.mark.parametrize(("game", "max_frames"), [(BREAKOUT, 700), (PONG, 400)])
def test_every_step_is_that_of_single_environments(game, max_frames):
    batch = make_batch(
        game, 3, repeat_action_probability=0.0, max_num_frames_per_episode=max_frames
    )
    alone = [Alone(game, max_frames) for _ in range(3)]
    time_step = batch.reset()
    np.testing.assert_array_equal(time_step.observation, [one.observation for one in alone])
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(350):
        actions = rng.integers(batch.action_spec().num_values, size=3)
        time_step = batch.step(actions)
        expected = [one.step(action) for one, action in zip(alone, actions)]
        assert [tuple(row) for row in zip(*time_step[:3])] == [
            (int(kind), np.clip(reward, -1, 1), discount) for kind, reward, discount in expected
        ]
        for index, one in enumerate(alone):
            shown = time_step.observation[index]
            if time_step.step_type[index] == LAST:
                # ale-py takes the maximum of screens from before the one that ended the game.
                assert (shown[..., -1] != one.observation[..., -1]).mean() < 0.02
                one.show(shown[..., -1])
            np.testing.assert_array_equal(shown, one.observation)
        seen |= {(int(kind), discount) for kind, _, discount in expected}
    ends = {(LAST, 0.0), (LAST, 1.0)} if game == BREAKOUT else {(LAST, 1.0)}
    assert seen == {(FIRST, 1.0), (MID, 1.0), *ends}
    batch.close()


def test_returns_are_sums_of_rewards_that_the_learner_sees_clipped():
    # 50 points for each thing that is touched.
    batch = make_batch("ALE/Asterix-v5", 4)
    rng = np.random.default_rng(0)
    batch.reset()
    rewards = set()
    returns = []
    while len(returns) < 4:
        time_step = batch.step(rng.integers(batch.action_spec().num_values, size=4))
        rewards |= set(time_step.reward.tolist())
        returns += batch.episodes.take().returns.tolist()
    assert rewards == {0.0, 1.0} and max(returns) >= 50
    assert all(value % 50 == 0 for value in returns)
    batch.close()


def play(batch, steps=60):
    actions = np.random.default_rng(0).integers(4, size=(steps, batch.batch_size))
    batch.reset()
    return np.stack([batch.step(action).observation for action in actions])


def test_a_seed_decides_everything_and_each_environment_has_its_own():
    first, again, other = (play(make_batch(BREAKOUT, 3, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # Sticky actions differ: the same actions do not give the same games.
    batch = make_batch(BREAKOUT, 2)
    batch.reset()
    shown = [batch.step(np.full(2, k % 4)).observation for k in range(60)]
    assert any((images[0] != images[1]).any() for images in shown)


def test_a_state_resumes_with_new_episodes():
    batch = make_batch(PONG, 2)
    batch.reset()
    state = batch.get_state()
    other = make_batch(PONG, 2)
    other.set_state(state)
    assert (other.current_time_step().step_type == FIRST).all()
    actions = [np.full(2, 2)] * 20
    assert any((batch.step(a).observation != other.step(a).observation).any() for a in actions)


def test_human_normalized_returns():
    with atari_settings(PONG) as settings:
        suite = GymnasiumSuite(settings)
    assert suite.normalized(14.6, PONG) == 1 and suite.normalized(-20.7, PONG) == 0
    assert suite.frames == 4


def test_a_game_with_the_settings_of_other_games_is_refused():
    with pytest.raises(ConfigError, match=r"\(4, 84, 84\) .* frame_stack"):
        make_gymnasium(GymnasiumSettings(env=PONG), 2, seed=0)
    with pytest.raises(ConfigError, match="`Nonsense`"):
        make_gymnasium(GymnasiumSettings(env="ALE/Nonsense-v5"), 2, seed=0)


def test_a_search_on_pong(tmp_path):
    made = Experiment(
        name="ppo_gymnasium", gin="atari.gin", program=PPOProgram, suite=GymnasiumSuite
    )
    values = flags.define(made, absl_flags.FlagValues())
    bindings = (
        "PPOSettings.num_envs = 2",
        "PPOSettings.steps_per_update = 16",
        "PPOSettings.minibatch_size = 16",
        "PPOSettings.num_epochs = 1",
        "EncoderSettings.features = 8",
        "search/EncoderSettings.depths = [2]",
        "SearchSpace.name = 'small'",
        "SearchSpace.normal_ops = ['conv_3x3', 'tanh']",
        "SearchSpace.num_normal = 1",
        "SearchSpace.num_nodes = 2",
        "search/EncoderSettings.search_space = 'small'",
        "TrainingSettings.evaluation_interval = 0",
        "TrainingSettings.final_evaluation_episodes = 1",
        "GymnasiumSettings.kwargs = {'stack_num': 4, 'max_num_frames_per_episode': 80}",
    )
    bound = [f"--gin_bindings={binding}" for binding in bindings]
    arguments = (f"--env_name={PONG}", "--stage=search", "--num_env_steps=64")
    values(["test", f"--root_dir={tmp_path}", *bound, *arguments])
    try:
        experiment.run(made, values)
    finally:
        gin.clear_config()
    entry = read_summary(RunPaths(tmp_path).summary_path)["stages"]["search"]
    assert (entry["exit_state"], entry["game"]) == ("finished", PONG)
    score = (entry["eval_test_return_mean"] + 20.7) / (14.6 + 20.7)
    assert entry["eval_test_return_mean_normalized"] == pytest.approx(score)
