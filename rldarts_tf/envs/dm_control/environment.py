"""A task of the DM Control Suite, from pixels or from state, behind the interface of dm_env.

dm_control is loaded when the first environment is made or the first name is checked, not when this
module is imported; TensorFlow never is.
"""

from __future__ import annotations

import collections
import contextlib
import difflib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.checks import check_integer
from rldarts_tf.closing import check_open
from rldarts_tf.envs.dm_control import rendering
from rldarts_tf.errors import ConfigError, one_line

ACTION_REPEAT: dict[tuple[str, str], int] = {
    ("ball_in_cup", "catch"): 4,
    ("cartpole", "balance_sparse"): 2,
    ("cartpole", "swingup"): 4,
    ("cheetah", "run"): 4,
    ("finger", "spin"): 1,
    ("hopper", "stand"): 2,
    ("reacher", "easy"): 4,
    ("walker", "stand"): 2,
    ("walker", "walk"): 2,
}
"""Steps of the task with one action, from Lee et al. 2020 (PI-SAC), README of the release."""

DEFAULT_ACTION_REPEAT = 2
"""Action repeat of every other task: Yarats et al. 2021 (DrQ-v2) use 2 for all tasks."""

CAMERAS: dict[str, int] = {"quadruped": 2}
"""The camera that looks at a domain, where it is not camera 0; as in the release of PI-SAC."""

OBSERVATIONS = ("pixels", "state")

_MAX_SEED = 2**32 - 1

# The bounds that dm_control gives to actuators that have none.
_UNBOUNDED = 1e10


def action_repeat_of(domain_name: str, task_name: str) -> int:
    """The usual number of steps with one action; whether the task exists is not checked."""
    return ACTION_REPEAT.get((domain_name, task_name), DEFAULT_ACTION_REPEAT)


def prepare(observations: str = "pixels") -> None:
    """Makes sure, without loading it, that dm_control can be loaded and can draw.

    Raises:
      ConfigError: it is not installed; or no renderer works, where pixels are asked for.
    """
    for package in ("dm_control", "mujoco"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"domain_name: the package {package} is not installed; "
                "run: pip install rldarts_tf[dm-control]"
            )
    if observations == "pixels":
        rendering.choose_renderer()
    else:
        rendering.choose_renderer_if_any()


def check_task(domain_name: str, task_name: str, observations: str = "pixels") -> None:
    """Checks names before any simulator starts. It loads dm_control, which takes a second.

    Raises:
      ConfigError: the suite has no such domain or task, with a hint; or as `prepare`.
    """
    tasks = _load_suite(observations).TASKS_BY_DOMAIN
    if domain_name not in tasks:
        raise ConfigError(
            f"domain_name: the DM Control Suite has no domain {domain_name!r}; "
            f"{_hint(domain_name, tasks)}"
        )
    if task_name not in tasks[domain_name]:
        raise ConfigError(
            f"task_name: {domain_name} has no task {task_name!r}; "
            f"{_hint(task_name, tasks[domain_name])}"
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Checks the arguments of `DMControl` other than names, without loading dm_control.

    Raises:
      ConfigError: one of them is not valid.
    """
    check_integer("seed:", arguments["seed"], least=0, most=_MAX_SEED)
    if arguments["action_repeat"] is not None:
        check_integer("action_repeat:", arguments["action_repeat"], least=1)
    check_integer("frame_stack:", arguments["frame_stack"], least=1)
    check_integer("image_size:", arguments["image_size"], least=1)
    if arguments["observations"] not in OBSERVATIONS:
        raise ConfigError(
            f"observations: must be one of {', '.join(OBSERVATIONS)}, "
            f"not {arguments['observations']!r}"
        )


class DMControl(dm_env.Environment):
    """One task of the DM Control Suite, with one action for several of its steps.

    Observations. "pixels": uint8 [size, size, 3 * frames] of the task's camera, the frames side by
    side in the channels, the oldest first; at the start of an episode the first frame fills all
    places. Frames are drawn after the last of the repeated steps only. "state": float32 [entries],
    the task's observation, flattened, in its order. Each time step owns its observation.

    Actions. float32 [A], where -1 and 1 mean the bounds of the task's actuators; what lies outside
    is clipped.

    Rewards and discounts. The reward is the sum and the discount the product over the repeated
    steps. An episode that ends within them ends there. At the time limit the discount is 1, for the
    task itself goes on: a value function may look beyond it. It is 0 where a task terminates.

    Threads. Any thread may use an environment, one at a time.
    """

    def __init__(
        self,
        domain_name: str,
        task_name: str,
        *,
        seed: int,
        action_repeat: int | None = None,
        frame_stack: int = 3,
        image_size: int = 64,
        observations: str = "pixels",
    ) -> None:
        """Loads the task.

        Args:
          domain_name: such as "cartpole".
          task_name: such as "swingup".
          seed: decides initial states and all else that the task draws, 0 to 2**32 - 1.
          action_repeat: steps of the task with one action; None is that of `ACTION_REPEAT`.
          frame_stack: frames in an observation; not used with states.
          image_size: height and width of frames; not used with states.
          observations: "pixels" or "state"; states need no renderer.

        Raises:
          ConfigError: an argument is not valid, dm_control is not installed, nothing can draw, or
            the actions of the task are not bounded (the domain lqr).
        """
        if action_repeat is None:
            action_repeat = action_repeat_of(domain_name, task_name)
        check_arguments(
            {
                "seed": seed,
                "action_repeat": action_repeat,
                "frame_stack": frame_stack,
                "image_size": image_size,
                "observations": observations,
            }
        )
        check_task(domain_name, task_name, observations)
        self._action_repeat = action_repeat
        self._image_size = image_size
        self._frame_stack = frame_stack
        self._frames: collections.deque[np.ndarray] = collections.deque(maxlen=frame_stack)
        self._over = True
        suite = _load_suite(observations)
        with _quiet_absl():
            self._task = suite.load(domain_name, task_name, task_kwargs={"random": seed})
        self._environment = _scale_actions(self._task, f"{domain_name}/{task_name}")
        self._action_shape = self._task.action_spec().shape
        self._camera = None
        if observations == "pixels":
            self._camera = self._make_camera(CAMERAS.get(domain_name, 0))

    @property
    def action_repeat(self) -> int:
        """Steps of the task with one action."""
        return self._action_repeat

    def reset(self, out: np.ndarray | None = None) -> dm_env.TimeStep:
        """Starts an episode, also in the middle of one.

        Args:
          out: where to write the observation, instead of a new array.
        """
        check_open(self._environment is not None)
        observation = self._environment.reset().observation
        self._over = False
        self._frames.clear()
        return dm_env.restart(self._observe(observation, out))

    def step(self, action: np.ndarray, out: np.ndarray | None = None) -> dm_env.TimeStep:
        """Plays an action; starts an episode, and ignores the action, if there is none.

        Args:
          action: finite, [A]; it is clipped to -1 to 1.
          out: where to write the observation, instead of a new array.

        Returns:
          A time step; reward and discount are float32 scalars, None if it is FIRST.

        Raises:
          ValueError: the action's shape is wrong, or it is not finite.
        """
        check_open(self._environment is not None)
        if self._over:
            return self.reset(out)
        action = self._checked(action)
        reward, discount = 0.0, 1.0
        for _ in range(self._action_repeat):
            time_step = self._environment.step(action)
            reward += time_step.reward
            discount *= time_step.discount
            if time_step.last():
                break
        self._over = time_step.last()
        return dm_env.TimeStep(
            time_step.step_type,
            np.float32(reward),
            np.float32(discount),
            self._observe(time_step.observation, out),
        )

    def observation_spec(self) -> specs.Array:
        """Spec of an observation; see the class."""
        if self._camera is None:
            entries = self._task.observation_spec().values()
            size = sum(int(np.prod(entry.shape)) for entry in entries)
            return specs.Array((size,), np.float32, name="observation")
        shape = (self._image_size, self._image_size, 3 * self._frame_stack)
        return specs.BoundedArray(shape, np.uint8, 0, 255, name="observation")

    def action_spec(self) -> specs.BoundedArray:
        """Spec of an action: float32 [A] in -1 to 1."""
        return specs.BoundedArray(self._action_shape, np.float32, -1.0, 1.0, name="action")

    def reward_spec(self) -> specs.Array:
        """Spec of a reward: float32 scalar."""
        return specs.Array((), np.float32, name="reward")

    def discount_spec(self) -> specs.BoundedArray:
        """Spec of a discount: float32 scalar."""
        return specs.BoundedArray((), np.float32, 0.0, 1.0, name="discount")

    def close(self) -> None:
        """Frees the simulator. May be called twice."""
        if self._task is not None:
            self._task.physics.free()
        self._task = self._environment = self._camera = None

    def _checked(self, action: np.ndarray) -> np.ndarray:
        """The action as float64 in -1 to 1."""
        action = np.asarray(action, np.float64)
        if action.shape != self._action_shape:
            raise ValueError(
                f"action: must have the shape {self._action_shape}, not {action.shape}"
            )
        if not np.isfinite(action).all():
            raise ValueError(f"action: must be finite, in -1 to 1, not {action}")
        return np.clip(action, -1.0, 1.0)

    def _observe(self, observation: Mapping[str, Any], out: np.ndarray | None) -> np.ndarray:
        """The observation of this moment, in `out` if that is given."""
        if self._camera is None:
            if out is None:
                out = np.empty(self.observation_spec().shape, np.float32)
            return np.concatenate([np.ravel(entry) for entry in observation.values()], out=out)
        with self._drawing():
            # The camera draws into the same array each time.
            frame = self._camera.render().copy()
        if not self._frames:
            self._frames.extend([frame] * (self._frame_stack - 1))
        self._frames.append(frame)
        return np.concatenate(self._frames, axis=2, out=out)

    def _make_camera(self, camera_id: int) -> Any:
        """A camera that is made once: `physics.render` makes one for each frame.

        The buffer that is drawn into is by default 640 x 480, and all of it is cleared each time.
        """
        from dm_control import mujoco

        physics = self._task.physics
        physics.model.vis.global_.offwidth = self._image_size
        physics.model.vis.global_.offheight = self._image_size
        with self._drawing():
            return mujoco.Camera(physics, self._image_size, self._image_size, camera_id)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Inside, the renderer belongs to this thread; afterwards to none."""
        try:
            yield
        finally:
            rendering.release(self._task.physics.contexts.gl)


def _load_suite(observations: str) -> Any:
    """Imports dm_control.suite, with a renderer chosen before."""
    prepare(observations)
    try:
        from dm_control import suite
    except ImportError as error:
        raise ConfigError(
            f"domain_name: dm_control cannot be loaded ({one_line(error, None)}); "
            "run: pip install rldarts_tf[dm-control]"
        ) from error
    return suite


def _scale_actions(task: Any, name: str) -> Any:
    """The task with actions in -1 to 1."""
    from dm_control.suite.wrappers import action_scale

    spec = task.action_spec()
    if max(np.abs(spec.minimum).max(), np.abs(spec.maximum).max()) >= _UNBOUNDED:
        raise ConfigError(f"task_name: the actions of {name} have no bounds to scale them to")
    return action_scale.Wrapper(task, minimum=-1.0, maximum=1.0)


def _hint(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name).strip().lower(), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Without warnings: of old attributes in the suite's own models, which no user can change."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
