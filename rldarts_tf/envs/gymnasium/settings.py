"""Settings of a Gymnasium environment, configurable by gin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from rldarts_tf.checks import check_integer, check_seconds, is_number, shown
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, one_of, setting

# Arguments of `gymnasium.make_vec` itself.
_OF_MAKE_VEC = {"id", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers"}

VECTORIZATIONS = ("auto", "sync", "async", "vector_entry_point")


def _check_id(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{field} must be an id, got {shown(value)}")
    if ":" in value:
        raise ConfigError(
            f"{field} must be an id alone, got {value!r}: a module to import is named by the flag "
            "--env_module"
        )
    return value


def _check_name(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{field} must be a name or None, got {shown(value)}")
    return value


def _check_dict(field: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{field} must be a dict or None, got {shown(value)}")
    return value


def _check_kwargs(field: str, value: Any) -> Mapping[Any, Any]:
    for name in sorted(_OF_MAKE_VEC & _check_dict(field, value).keys()):
        raise ConfigError(
            f"{field}[{name!r}] is no argument of an environment: other settings decide it"
        )
    return value


def _check_size(field: str, value: Any) -> tuple[int, ...]:
    if not _is_pair(value):
        raise ConfigError(f"{field} must be (height, width) or None, got {shown(value)}")
    return tuple(check_integer(field, side, least=1) for side in value)


def _check_references(field: str, value: Any) -> Mapping[str, Sequence[float]]:
    for name, returns in _check_dict(field, value).items():
        numbers = _is_pair(returns) and all(is_number(x) and math.isfinite(x) for x in returns)
        if not numbers or not returns[0] < returns[1]:
            raise ConfigError(
                f"{field}[{name!r}] must be (random, best), two numbers, the second greater, "
                f"got {shown(returns)}"
            )
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class GymnasiumSettings(Settings):
    """A Gymnasium environment, how its observation becomes an image, and what is put around it.

    Wrappers are Gymnasium's own, of each environment, in the order in which they stand here.
    """

    env: str = setting(
        "MinAtar/Breakout-v1",
        "id of a registered environment, such as 'MinAtar/Breakout-v1'",
        check=_check_id,
    )
    kwargs: Mapping[str, Any] | None = setting(
        None,
        "arguments of its constructor, or of its vector constructor where that is used",
        check=_check_kwargs,
    )
    max_episode_steps: int | None = setting(
        None,
        "truncates longer episodes; None leaves the limit of the id. Steps of the environment "
        "itself, of which action_repeat makes several at once",
        least=1,
    )
    vectorization: str = setting(
        "auto",
        "'sync', one environment after the other in this process; 'async', each in a process of "
        "its own; 'vector_entry_point', the environment's own; 'auto', its own where it has one "
        "and no wrapper is asked for, else 'sync'",
        check=one_of(*VECTORIZATIONS),
    )
    step_timeout: float = setting(
        300.0,
        "seconds that a step of all environments, or making them, may take; a run whose simulator "
        "does not answer in time ends",
        check=check_seconds,
    )
    render: bool = setting(
        False,
        "the image is the picture that the environment draws of itself, RGB, instead of its "
        "observation (AddRenderObservation)",
    )
    image_key: str | None = setting(
        None,
        "the entry of a Dict observation that is the image; None if it is no Dict",
        check=_check_name,
    )
    channels_first: bool = setting(False, "images are [C, H, W] rather than [H, W, C]")
    sticky_actions: float = setting(
        0.0,
        "probability that the action before is played instead (StickyAction)",
        least=0,
        most=1,
    )
    action_repeat: int = setting(
        1,
        "steps with one action; rewards are summed, and the image is the maximum of the last two "
        "(MaxAndSkipObservation)",
        least=1,
    )
    image_size: Sequence[int] | None = setting(
        None,
        "(height, width) that images are resized to (ResizeObservation); None leaves them",
        check=_check_size,
    )
    grayscale: bool = setting(False, "gray images instead of RGB (GrayscaleObservation)")
    frame_stack: int = setting(
        1,
        "frames in an observation, the newest in the last channels (FrameStackObservation). "
        "With 'vector_entry_point' the environment stacks them itself, as `kwargs` tells it to",
        least=1,
    )
    reward_clip: float | None = setting(
        None,
        "rewards are clipped to [-reward_clip, reward_clip]; None leaves them. Returns of episodes "
        "are sums of rewards that are not clipped",
        positive=True,
    )
    reference_returns: Mapping[str, Sequence[float]] | None = setting(
        None,
        "by id, the returns of a random and of the best known player, which normalized returns map "
        "to 0 and 1; those of other ids are left raw",
        check=_check_references,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sticky_actions == 1:
            raise ConfigError("GymnasiumSettings.sticky_actions must be below 1")
        if self.render and (self.image_key is not None or self.channels_first):
            raise ConfigError(
                "GymnasiumSettings.image_key and channels_first have no effect where render is True"
            )

    @property
    def games(self) -> tuple[str, ...]:
        """One id."""
        return (self.env,)

    @property
    def label(self) -> str:
        """The id as a part of a file's name."""
        return self.env.replace("/", "-")

    @property
    def reference(self) -> tuple[float, float] | None:
        """Returns of a random and of the best known player of this id, if they are given."""
        random, best = (self.reference_returns or {}).get(self.env, (None, None))
        return None if random is None or best is None else (float(random), float(best))
