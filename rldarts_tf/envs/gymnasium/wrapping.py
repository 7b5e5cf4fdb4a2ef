"""Gymnasium's wrappers as settings ask for them; two are mended by a subclass.

Gymnasium is an extra: this module is imported when an environment is made.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces, wrappers
from typing_extensions import override

from rldarts_tf.envs.gymnasium.images import ImageLayout
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.errors import ConfigError

Wrap = Callable[[Any], Any]


def wrappers_of(settings: GymnasiumSettings) -> dict[str, Wrap]:
    """What is put around each environment, by the setting that asks for it, the innermost first."""
    size, repeat = settings.image_size, settings.action_repeat
    stacks = _stacks(settings)
    chosen: dict[str, Wrap] = {}
    if settings.render:
        chosen["render"] = _drawn
    if _takes_entry(settings):
        chosen["image_key"] = functools.partial(_entry, key=settings.image_key)
    if _moves_channels(settings):
        chosen["channels_first"] = _channels_last
    if settings.sticky_actions:
        chosen["sticky_actions"] = functools.partial(
            StickyAction, repeat_action_probability=settings.sticky_actions
        )
    if repeat > 1:
        chosen["action_repeat"] = functools.partial(MaxAndSkipObservation, skip=repeat)
    if size is not None:
        chosen["image_size"] = functools.partial(_resized, size=tuple(size))
    if settings.grayscale:
        chosen["grayscale"] = _gray
    if stacks:
        chosen["frame_stack"] = functools.partial(_stacked, frames=settings.frame_stack)
    return chosen


def layout_of(settings: GymnasiumSettings) -> ImageLayout:
    """Where the image stands in an observation that has passed the wrappers."""
    channels_first = settings.channels_first and not _moves_channels(settings)
    key = None if _takes_entry(settings) else settings.image_key
    return ImageLayout(key, channels_first, settings.frame_stack)


def _stacks(settings: GymnasiumSettings) -> bool:
    return settings.frame_stack > 1 and settings.vectorization != "vector_entry_point"


def _takes_entry(settings: GymnasiumSettings) -> bool:
    """Whether the image is taken out of a `Dict` for wrappers around it."""
    wrapped = settings.action_repeat > 1 or settings.image_size is not None or settings.grayscale
    return settings.image_key is not None and (wrapped or _stacks(settings))


def _moves_channels(settings: GymnasiumSettings) -> bool:
    """Whether channels must be last before the layout is read: two wrappers take them to be."""
    return settings.channels_first and (settings.image_size is not None or settings.grayscale)


class MaxAndSkipObservation(wrappers.MaxAndSkipObservation):
    """The maximum of the last two images, also where an episode ends before the last repetition.

    Gymnasium's own then shows the images of the step before.
    """

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total, images = 0.0, collections.deque[np.ndarray](maxlen=2)
        for _ in range(self._skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            images.append(np.array(observation))
            total += float(reward)
            if terminated or truncated:
                break
        return np.max(images, axis=0), total, terminated, truncated, info


class StickyAction(wrappers.StickyAction):
    """Draws from a generator of its own: not every environment seeds the one that it has."""

    _draws: np.random.Generator | None = None

    @override
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None or self._draws is None:
            self._draws = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    @property
    def np_random(self) -> Any:
        """The generator."""
        return self._draws

    @np_random.setter
    def np_random(self, value: Any) -> None:
        self._draws = value


def _drawn(env: Any) -> Any:
    try:
        drawn: Any = wrappers.AddRenderObservation(env)
        dtype = env.render().dtype
    except (NotImplementedError, AssertionError) as error:
        raise ConfigError("render: the environment does not draw itself") from error
    if dtype != np.uint8:
        raise ConfigError(f"render: the environment's picture must be uint8, not {dtype}")
    return drawn


def _entry(env: Any, key: str) -> Any:
    entries = getattr(env.observation_space, "spaces", None)
    if not isinstance(entries, dict):
        raise ConfigError(f"image_key: the observation is no Dict, but {env.observation_space}")
    if key not in entries:
        raise ConfigError(f"image_key: the observation has {', '.join(entries)}, not {key!r}")
    return wrappers.TransformObservation(env, lambda entry: entry[key], entries[key])


def _channels_last(env: Any) -> Any:
    space = env.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise ConfigError(f"channels_first: observations must be [C, H, W], not {space}")
    low, high = (np.moveaxis(bound, 0, 2) for bound in (space.low, space.high))
    dtype: Any = space.dtype
    moved = spaces.Box(low, high, dtype=dtype)
    return wrappers.TransformObservation(env, lambda image: np.moveaxis(image, 0, 2), moved)


def _resized(env: Any, size: tuple[int, int]) -> Any:
    _check_bytes("image_size", env.observation_space, (2, 3))
    resized: Any = wrappers.ResizeObservation(env, size)
    shape = resized.observation_space.shape
    if shape[2:] != (1,):
        return resized
    # OpenCV drops an axis of one channel.
    return wrappers.TransformObservation(
        resized, lambda image: np.reshape(image, shape), resized.observation_space
    )


def _gray(env: Any) -> Any:
    _check_bytes("grayscale", env.observation_space, (3,))
    channels = env.observation_space.shape[2]
    if channels != 3:
        raise ConfigError(f"grayscale: images must be RGB, [H, W, 3], not of {channels} channels")
    return wrappers.GrayscaleObservation(env)


def _check_bytes(field: str, space: Any, ranks: tuple[int, ...]) -> None:
    """Checks what Gymnasium's wrappers of images assert."""
    is_image = isinstance(space, spaces.Box) and len(space.shape) in ranks
    if not is_image or space.dtype != np.uint8:
        raise ConfigError(f"{field}: observations must be uint8 images, not {space}")
    if np.any(space.low != 0) or np.any(space.high != 255):
        raise ConfigError(f"{field}: images must be bounded by 0 and 255, not {space}")


def _stacked(env: Any, frames: int) -> Any:
    # Many environments write all observations into one array; the stack keeps what it is given.
    copied: Any = wrappers.TransformObservation(env, np.copy, env.observation_space)
    return wrappers.FrameStackObservation(copied, frames)
