"""Procgen for TF-Agents: many environments in one batched `PyEnvironment`.

Procgen itself is loaded when the first environment is made, not when this module is imported.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from rldarts_tf.checks import INT32_MAX, check_integer
from rldarts_tf.closing import check_open
from rldarts_tf.envs.episodes import EpisodeStatistics, check_settings, state_entry
from rldarts_tf.envs.procgen.games import NUM_ACTIONS, check_distribution_mode, check_game
from rldarts_tf.errors import ConfigError, RunError, one_line

OBSERVATION_SHAPE = (64, 64, 3)
"""Height, width and RGB channels of a frame."""

OBSERVATION_SPEC = array_spec.BoundedArraySpec(
    OBSERVATION_SHAPE, np.uint8, minimum=0, maximum=255, name="observation"
)
ACTION_SPEC = array_spec.BoundedArraySpec(
    (), np.int32, minimum=0, maximum=NUM_ACTIONS - 1, name="action"
)

# Procgen ends an episode at once, and starts the next, when it is sent this action.
_FORCED_END = -1


class ProcgenBatch(py_environment.PyEnvironment):
    """Procgen environments that step together as one batched TF-Agents environment.

    Base class of `ProcgenEnvironment` (one game) and `JointEnvironment` (several), which add the
    simulators alone.

    Time steps (a row per environment):
      observation: uint8 [B, 64, 64, 3], 0 to 255.
      reward: the game's raw reward, float32 [B].
      step_type: int32 [B]. discount: float32 [B], 1 unless the step is LAST; the agent's own
        discount factor is not in it.

    Episode boundaries. Procgen starts the next episode inside the step that ends one, and never
    shows the terminal frame. A time step that is LAST therefore has the reward of the ended
    episode's final action and discount 0, while its observation is already the first frame of the
    next episode; the action chosen on it acts in the new episode, and the time step after it is
    MID. There is no separate FIRST step between episodes and no action is ever ignored. A consumer
    that drops transitions that start at LAST, as TF-Agents' agents do (and its drivers, when they
    count steps), would drop the first transition of each episode: hand those on as MID.

    Reset. `reset()` hands out the current observations as FIRST (reward 0, discount 1) without
    touching the simulator, so calling it again restarts nothing: episodes, and their statistics,
    run on. For new episodes make a new environment, or call `restart_episodes`.

    Ownership. Each time step has arrays of its own, so time steps may be kept, or handed to
    TensorFlow, without copying. (gym3 copies its buffers once, and no further copy is made but for
    joining several games.)

    Attributes:
      episodes: the `EpisodeStatistics` of raw rewards, updated by every step.
      last_is_first: True, as described above; see `rldarts_tf.envs.suite.Environments`.
      guard: a context that each step of the simulators is made in, such as a `Watchdog`.
    """

    last_is_first = True

    def __init__(self, games: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Stores the games and settings of the subclass.

        Args:
          games: the game of each environment, one name each.
          settings: what a saved state must agree with, as JSON takes it. Procgen restores the
            levels and options of the state itself, silently, whatever it was made with.
        """
        super().__init__(handle_auto_reset=False)
        self._games = tuple(games)
        self._num_envs = len(self._games)
        self._settings = dict(settings)
        self.episodes = EpisodeStatistics(self._num_envs)
        self.guard: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    @abc.abstractmethod
    def _act(self, action: np.ndarray) -> None:
        """Sends checked actions, integer [B], to the simulators; need not wait for them."""

    @abc.abstractmethod
    def _observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Waits for the simulators.

        Returns:
          Rewards float32 [B], frames uint8 [B, 64, 64, 3], and bool [B], True where the step ended
          an episode: all new arrays.
        """

    @abc.abstractmethod
    def _get_simulators(self) -> list[bytes]:
        """Returns the states of the simulators."""

    @abc.abstractmethod
    def _set_simulators(self, states: list[bytes]) -> None:
        """Restores what `_get_simulators` returned."""

    @abc.abstractmethod
    def get_info(self) -> dict[str, np.ndarray]:
        """Returns what Procgen tells about the levels, one array [B] per entry.

        `level_seed` (int32) is the level being played, `prev_level_seed` (int32) the one before,
        and `prev_level_complete` (uint8) whether that one was solved.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the simulators and their threads. May be called twice."""

    @property
    def batched(self) -> bool:
        """Always True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of environments."""
        return self._num_envs

    @property
    def games(self) -> tuple[str, ...]:
        """The game of each environment, one name each."""
        return self._games

    @property
    def distribution_mode(self) -> str:
        """Either "easy" or "hard"."""
        return self._settings["distribution_mode"]

    def observation_spec(self) -> array_spec.BoundedArraySpec:
        """Spec of one frame: uint8 [64, 64, 3] in 0 to 255."""
        return OBSERVATION_SPEC

    def action_spec(self) -> array_spec.BoundedArraySpec:
        """Spec of one action: int32 scalar in 0 to 14."""
        return ACTION_SPEC

    def counters(self) -> dict[str, float]:
        """There are none."""
        return {}

    def _reset(self) -> ts.TimeStep:
        """Hands out the current observations as FIRST; see the class on what this does not do."""
        _, frames, _ = self._observe()
        return ts.TimeStep(
            step_type=np.full(self._num_envs, ts.StepType.FIRST, np.int32),
            reward=np.zeros(self._num_envs, np.float32),
            discount=np.ones(self._num_envs, np.float32),
            observation=frames,
        )

    def _step(self, action: np.ndarray) -> ts.TimeStep:
        """Plays one action per environment, integer [B].

        Raises:
          ValueError: if the shape, dtype or range is wrong.
          RunError: if a simulator fails.
        """
        action = np.asarray(action)
        if action.shape != (self._num_envs,) or not np.issubdtype(action.dtype, np.integer):
            raise ValueError(
                f"action: must be integers of shape ({self._num_envs},), "
                f"not {action.dtype} of shape {action.shape}"
            )
        if action.min() < 0 or action.max() >= NUM_ACTIONS:
            raise ValueError(
                f"action: must lie in 0 to {NUM_ACTIONS - 1}, not {action.min()} to {action.max()}"
            )
        try:
            with self.guard:
                self._act(action)
                reward, frames, ended = self._observe()
        except RunError:
            raise
        except Exception as error:
            line = one_line(error)
            games = ", ".join(dict.fromkeys(self._games))
            raise RunError(f"the simulator of {games} failed: {line}") from error
        self.episodes.add(reward, ended)
        return ts.TimeStep(
            step_type=np.where(ended, ts.StepType.LAST, ts.StepType.MID),
            reward=reward,
            discount=np.logical_not(ended).astype(np.float32),
            observation=frames,
        )

    def restart_episodes(self) -> ts.TimeStep:
        """Abandons all running episodes and starts the next ones.

        Episodes that are abandoned do not count in `episodes`.

        Returns:
          The first frames of the new episodes as FIRST.
        """
        self._act(np.full(self._num_envs, _FORCED_END))
        self._observe()
        self.episodes.discard_running()
        return self.reset()

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns everything that an exact resume needs.

        Returns:
          Arrays without Python objects, so that `np.savez(path, **state)` and
          `np.load(path, allow_pickle=False)` keep it (20 to 40 kB per environment):
          `settings` (what the state must be restored into, JSON text), `simulator` (uint8, all
          simulators' states end to end), `simulator_sizes` (int64 [B]), the current `step_type`,
          `reward` and `discount` [B], and the entries of `EpisodeStatistics.state`.
        """
        time_step = self._current_time_step
        if time_step is None:
            time_step = self.reset()
        # Procgen saves and restores one environment at a time; this is no part of stepping.
        simulators = self._get_simulators()
        return {
            "settings": np.array(json.dumps(self._settings, sort_keys=True)),
            "simulator": np.frombuffer(b"".join(simulators), np.uint8),
            "simulator_sizes": np.fromiter(map(len, simulators), np.int64),
            "step_type": np.array(time_step.step_type),
            "reward": np.array(time_step.reward),
            "discount": np.array(time_step.discount),
            **self.episodes.state(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `get_state` returned, here or in another process.

        The seed may differ: the state of the random generators is part of the state. A
        `TFPyEnvironment` keeps its own current time step, so restore before wrapping, or call its
        `reset()` after.

        Raises:
          RunError: if the state is incomplete or was taken with other settings. Nothing is then
            changed.
        """
        check_settings(state, self._settings)
        shape = (self._num_envs,)
        simulator = state_entry(state, "simulator", np.uint8, (None,))
        sizes = state_entry(state, "simulator_sizes", np.int64, shape)
        if sizes.min() < 1 or sizes.sum() != simulator.size:
            raise RunError("environment state: 'simulator_sizes' do not fit 'simulator'")
        step_type = state_entry(state, "step_type", np.int32, shape)
        reward = state_entry(state, "reward", np.float32, shape)
        discount = state_entry(state, "discount", np.float32, shape)
        self.episodes.set_state(state)
        self._set_simulators(
            list(map(np.ndarray.tobytes, np.split(simulator, np.cumsum(sizes)[:-1])))
        )
        _, frames, _ = self._observe()
        self._current_time_step = ts.TimeStep(step_type, reward, discount, frames)


class ProcgenEnvironment(ProcgenBatch):
    """Environments of one Procgen game; see `ProcgenBatch` for time steps, episodes and states."""

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        seed: int | None = None,
        distribution_mode: str = "easy",
        num_levels: int = 0,
        start_level: int = 0,
        num_threads: int = 4,
        center_agent: bool = True,
        use_backgrounds: bool = True,
        use_monochrome_assets: bool = False,
        restrict_themes: bool = False,
        use_generated_assets: bool = False,
        paint_vel_info: bool = False,
        use_sequential_levels: bool = False,
    ) -> None:
        """Starts the simulator. The defaults below are the settings of Cobbe et al. 2020.

        Args:
          game: one of `rldarts_tf.envs.procgen.games.GAMES`.
          num_envs: number of environments, at least 1.
          seed: decides the sequence of levels and all randomness in them, 0 to 2**31 - 1. It has
            no default: None is refused.
          distribution_mode: "easy" or "hard".
          num_levels: size of the set of levels; 0 is all of them.
          start_level: the set is start_level to start_level + num_levels - 1. Procgen ignores it
            when num_levels is 0, so then it must be 0.
          num_threads: threads of the simulator; 0 steps in the calling thread. The result does not
            depend on it. 4 was fastest with 64 environments on 2 cores.
          center_agent: keep the agent in the middle of the frame where the game scrolls.
          use_backgrounds: paint pictures, not black, behind the level.
          use_monochrome_assets: paint one-coloured rectangles instead of pictures.
          restrict_themes: use one theme only where a game has several.
          use_generated_assets: paint random patterns instead of drawn pictures.
          paint_vel_info: paint the agent's velocity into the corner of the frame.
          use_sequential_levels: go on to the next level within the episode when one is solved.

        Raises:
          ConfigError: if an argument is not valid, or Procgen cannot be loaded.
        """
        # Procgen aborts the whole process on bad options, so all are checked here.
        check_game(game)
        check_distribution_mode(distribution_mode)
        num_envs = check_integer("num_envs:", num_envs, 1, INT32_MAX)
        if seed is None:
            raise ConfigError("seed: is required; give an integer from 0 to 2147483647")
        seed = check_integer("seed:", seed, 0, INT32_MAX)
        num_threads = check_integer("num_threads:", num_threads, 0, INT32_MAX)
        num_levels = check_integer("num_levels:", num_levels, 0, INT32_MAX)
        start_level = check_integer("start_level:", start_level, 0, INT32_MAX)
        if start_level and not num_levels:
            raise ConfigError(
                f"start_level: {start_level} has no effect when num_levels is 0 (all levels); "
                "set num_levels or leave start_level at 0"
            )
        if start_level + num_levels > INT32_MAX:
            raise ConfigError(
                f"start_level: start_level + num_levels must be at most {INT32_MAX}, "
                f"not {start_level + num_levels}"
            )
        settings: dict[str, Any] = {
            "game": game,
            "num_envs": num_envs,
            "distribution_mode": distribution_mode,
            "num_levels": num_levels,
            "start_level": start_level,
            "center_agent": _boolean("center_agent", center_agent),
            "use_backgrounds": _boolean("use_backgrounds", use_backgrounds),
            "use_monochrome_assets": _boolean("use_monochrome_assets", use_monochrome_assets),
            "restrict_themes": _boolean("restrict_themes", restrict_themes),
            "use_generated_assets": _boolean("use_generated_assets", use_generated_assets),
            "paint_vel_info": _boolean("paint_vel_info", paint_vel_info),
            "use_sequential_levels": _boolean("use_sequential_levels", use_sequential_levels),
        }
        super().__init__((game,) * num_envs, settings)
        options = settings.copy()
        self._env = _load_procgen()(
            num=options.pop("num_envs"),
            env_name=options.pop("game"),
            rand_seed=seed,
            num_threads=num_threads,
            **options,
        )
        # cffi looks a function up under a lock when it is first used. The garbage collector may
        # close this simulator while the same thread holds that lock to make another one, and
        # would wait for ever: so the function that closes is looked up now.
        _ = self._env._c_lib.libenv_close
        self._threads_of = os.getpid() if num_threads else None
        if num_threads:
            _THREADED.add(self._env)

    @property
    def game(self) -> str:
        """Name of the game."""
        return self._settings["game"]

    @property
    def _simulator(self) -> Any:
        """The environment of gym3, while it may be used: what is closed ends the process."""
        if self._threads_of not in (None, os.getpid()):
            raise RunError(
                "Procgen's threads are not copied by a fork: make the environment in the process "
                "that steps it, or with num_threads=0"
            )
        check_open(not self._env.closed)
        return self._env

    def _act(self, action: np.ndarray) -> None:
        self._simulator.act(action)

    def _observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward, observation, ended = self._simulator.observe()
        return reward, observation["rgb"], ended

    def _get_simulators(self) -> list[bytes]:
        return self._simulator.get_state()

    def _set_simulators(self, states: list[bytes]) -> None:
        self._simulator.set_state(states)

    def get_info(self) -> dict[str, np.ndarray]:
        """Returns what Procgen tells about the levels, one array [B] per entry.

        `level_seed` (int32) is the level being played, `prev_level_seed` (int32) the one before,
        and `prev_level_complete` (uint8) whether that one was solved.
        """
        self._simulator.observe()
        # gym3's own get_info takes these arrays apart into one dictionary per environment.
        return {name: values.copy() for name, values in self._env._info.items()}

    def close(self) -> None:
        """Ends the simulator and its threads. May be called twice."""
        self._env.close()


_THREADED: weakref.WeakSet[Any] = weakref.WeakSet()


def _forget_threaded() -> None:
    """After a fork: to close a simulator is to wait for its threads, which the child has not."""
    for simulator in _THREADED:
        simulator.closed = True


os.register_at_fork(after_in_child=_forget_threaded)


def _load_procgen() -> Any:
    """Imports Procgen and returns its vectorised environment class."""
    try:
        from procgen import ProcgenGym3Env
    except ImportError as error:
        raise ConfigError(
            f"game: Procgen cannot be loaded ({error}); run: pip install rldarts_tf[procgen]"
        ) from error
    return ProcgenGym3Env


def _boolean(field: str, value: Any) -> bool:
    """Returns `value` as a bool, or raises `ConfigError`; a text such as "False" is refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise ConfigError(f"{field}: must be True or False, not {value!r}")
    return bool(value)
