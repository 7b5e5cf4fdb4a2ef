"""From an observation of Gymnasium to an image [H, W, C]."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from dm_env import specs

from rldarts_tf.errors import ConfigError

# Pixels. A smaller image with more channels than this has its axes in another order.
_LEAST_SIDE = 8


@dataclasses.dataclass(frozen=True)
class ImageLayout:
    """Where the image stands in an observation.

    Attributes:
      key: the entry of a `Dict`; None if the observation is the image.
      channels_first: the image is [C, H, W].
      frames: how many frames the first axis counts; 1: there is no such axis. Observations of rank
        4 have it in any case.
    """

    key: str | None = None
    channels_first: bool = False
    frames: int = 1

    def spec(self, space: Any) -> specs.Array:
        """Spec of the images of an observation space.

        Their dtype is uint8 in 0 to 255, bool (which networks read as 0 and 1), or float32, in the
        bounds of the space where it has some that are finite.

        Raises:
          ConfigError: the space has no images; says which setting to look at.
        """
        box = self._box(space)
        if not (box.dtype in (np.uint8, np.bool_) or np.issubdtype(box.dtype, np.floating)):
            raise ConfigError(
                f"env: observations must be uint8, bool or float, not {box.dtype}: cast them in a "
                "wrapper of your own"
            )
        if len(box.shape) not in (3, 4) if self.frames > 1 else len(box.shape) not in (2, 3, 4):
            raise ConfigError(
                f"env: observations must be images, [H, W] or [H, W, C], not of shape {box.shape}"
            )
        if self.frames > 1 and box.shape[0] != self.frames:
            raise ConfigError(
                f"frame_stack: observations of shape {box.shape} are not {self.frames} frames"
            )
        self._check_axes(box.shape)
        shape = self.images(np.zeros((1, *box.shape), np.bool_)).shape[1:]
        if box.dtype == np.uint8:
            return specs.BoundedArray(shape, np.uint8, 0, 255, name="observation")
        if box.dtype == np.bool_:
            return specs.BoundedArray(shape, np.bool_, False, True, name="observation")
        low, high = float(np.min(box.low)), float(np.max(box.high))
        if np.isfinite([low, high]).all():
            return specs.BoundedArray(shape, np.float32, low, high, name="observation")
        return specs.Array(shape, np.float32, name="observation")

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        """Refuses images of a few pixels by many, which have their axes in another order."""
        if len(shape) == 2 or (len(shape) == 3 and self.frames > 1):
            return
        if self.channels_first:
            height, width, last = shape[-3:]
            if last < _LEAST_SIDE < min(height, width):
                raise ConfigError(
                    f"channels_first: observations of shape {shape} are hardly [C, H, W]"
                )
            return
        first, width, channels = shape[-3:]
        if first < _LEAST_SIDE < min(width, channels):
            raise ConfigError(
                f"env: observations of shape {shape} are hardly [H, W, C]: channels_first = "
                "True reads them as channels, frame_stack as frames"
            )

    def _box(self, space: Any) -> Any:
        entries = getattr(space, "spaces", None)
        if isinstance(entries, Mapping):
            if self.key not in entries:
                raise ConfigError(
                    f"image_key: must name one of the observation's entries, "
                    f"{', '.join(map(str, entries))}, not {self.key!r}"
                )
            space = entries[self.key]
        elif self.key is not None:
            raise ConfigError(f"image_key: the observation is no Dict, but {space}")
        if not hasattr(space, "low"):
            raise ConfigError(f"env: observations must be a Box of images, not {space}")
        return space

    def entry(self, observation: Any) -> Any:
        """The entry of one observation, or of a batch of them, that is the image."""
        return observation[self.key] if isinstance(observation, Mapping) else observation

    def images(self, batch: np.ndarray) -> np.ndarray:
        """Entries [B, ...] -> images [B, H, W, C], an array of its own.

        Frames stand one after another along the channels, in their order.
        """
        if self.frames == 1 and batch.ndim != 5:
            batch = self._channels_last(batch)
        else:
            size, frames = batch.shape[:2]
            images = self._channels_last(batch.reshape(size * frames, *batch.shape[2:]))
            stacked = np.moveaxis(images.reshape(size, frames, *images.shape[1:]), 1, 3)
            batch = stacked.reshape(*stacked.shape[:3], frames * images.shape[3])
        dtype = np.float32 if np.issubdtype(batch.dtype, np.floating) else batch.dtype
        return np.array(batch, dtype, order="C")

    def _channels_last(self, images: np.ndarray) -> np.ndarray:
        if images.ndim == 3:
            return images[..., np.newaxis]
        return np.moveaxis(images, 1, 3) if self.channels_first else images
