"""Settings of a Gymnasium environment. Standard library and gin only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from rldarts_tf.checks import check_integer, check_integers, check_number, is_number, shown
from rldarts_tf.errors import ConfigError

VECTORIZATIONS = ("auto", "sync", "async", "vector_entry_point")


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class GymnasiumSettings:
    """A Gymnasium environment, how its observation becomes an image, and what is put around it.

    Wrappers are Gymnasium's own, of each environment, in the order in which they stand here.

    Attributes:
      env: id of a registered environment, such as "MinAtar/Breakout-v1".
      kwargs: arguments of its constructor; of its vector constructor where that is used.
      max_episode_steps: truncates longer episodes; None leaves the limit of the id.
      vectorization: "sync", one environment after the other in this process; "async", each in a
        process of its own; "vector_entry_point", the environment's own; "auto", its own where it
        has one and no wrapper is asked for, else "sync".
      step_timeout: seconds that a step of all environments may take; a run whose simulator does
        not answer in time ends.
      image_key: the entry of a `Dict` observation that is the image; None if it is no `Dict`.
      channels_first: images are [C, H, W] rather than [H, W, C].
      sticky_actions: probability that the last action is played instead (`StickyAction`).
      action_repeat: steps with one action; rewards are summed, and the image is the maximum of the
        last two (`MaxAndSkipObservation`).
      image_size: (height, width) to resize images to (`ResizeObservation`); None leaves them.
      grayscale: make gray images of RGB (`GrayscaleObservation`).
      frame_stack: frames in an observation, the newest in the last channels
        (`FrameStackObservation`).
      reward_clip: rewards are clipped to [-reward_clip, reward_clip]; None leaves them. Returns of
        episodes are sums of rewards that are not clipped.
      reference_returns: by id, the returns of a random and of the best known player, that returns
        are normalized with. Those of other ids are left raw.
    """

    env: str = "MinAtar/Breakout-v1"
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_episode_steps: int | None = None
    vectorization: str = "auto"
    step_timeout: float = 300.0
    image_key: str | None = None
    channels_first: bool = False
    sticky_actions: float = 0.0
    action_repeat: int = 1
    image_size: Sequence[int] | None = None
    grayscale: bool = False
    frame_stack: int = 1
    reward_clip: float | None = None
    reference_returns: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.env, str) or not self.env:
            raise ConfigError(f"GymnasiumSettings.env must be an id, got {self.env!r}")
        if ":" in self.env:
            raise ConfigError(
                f"GymnasiumSettings.env: {self.env!r} names a module to import, which settings may "
                "not; name it with --env_module"
            )
        if self.vectorization not in VECTORIZATIONS:
            raise ConfigError(
                f"GymnasiumSettings.vectorization must be one of {', '.join(VECTORIZATIONS)}, "
                f"got {self.vectorization!r}"
            )
        if self.image_key is not None and not isinstance(self.image_key, str):
            raise ConfigError(
                f"GymnasiumSettings.image_key must be a name or None, got {self.image_key!r}"
            )
        for name in ("kwargs", "reference_returns"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(
                    f"GymnasiumSettings.{name} must be a dict, got {shown(getattr(self, name))}"
                )
        check_integers(self, "action_repeat", "frame_stack", least=1)
        if self.max_episode_steps is not None:
            check_integers(self, "max_episode_steps", least=1)
        for name in ("channels_first", "grayscale"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"GymnasiumSettings.{name} must be True or False, "
                    f"got {shown(getattr(self, name))}"
                )
        check_number(
            "GymnasiumSettings.step_timeout",
            self.step_timeout,
            "a number of seconds above 0",
            lambda seconds: 0 < seconds < 1e9,
        )
        check_number(
            "GymnasiumSettings.sticky_actions",
            self.sticky_actions,
            "a probability below 1",
            lambda probability: 0 <= probability < 1,
        )
        if self.reward_clip is not None:
            check_number(
                "GymnasiumSettings.reward_clip",
                self.reward_clip,
                "a positive number or None",
                lambda clip: 0 < clip < math.inf,
            )
        self._check_image_size()
        for name, returns in self.reference_returns.items():
            _check_reference(name, returns)

    def _check_image_size(self) -> None:
        if self.image_size is None:
            return
        if not _is_pair(self.image_size):
            raise ConfigError(
                "GymnasiumSettings.image_size must be (height, width) or None, "
                f"got {shown(self.image_size)}"
            )
        size = tuple(
            check_integer("GymnasiumSettings.image_size", side, least=1) for side in self.image_size
        )
        object.__setattr__(self, "image_size", size)

    @property
    def label(self) -> str:
        """The id as a part of a file's name."""
        return self.env.replace("/", "-")

    @property
    def reference(self) -> tuple[float, float] | None:
        """Returns of a random and of the best known player of this id, if they are known."""
        returns = self.reference_returns.get(self.env)
        return None if returns is None else (float(returns[0]), float(returns[1]))


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


def _check_reference(name: str, returns: Any) -> None:
    numbers = _is_pair(returns) and all(is_number(x) and math.isfinite(x) for x in returns)
    if not numbers or not returns[0] < returns[1]:
        raise ConfigError(
            f"GymnasiumSettings.reference_returns[{name!r}] must be (random, best), two numbers, "
            f"the second greater, got {shown(returns)}"
        )
