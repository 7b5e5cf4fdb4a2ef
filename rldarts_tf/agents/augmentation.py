"""Random shifts of images, by which learners augment what they learn from.

Sources: Lee et al. 2020 (PI-SAC, which mirrors what comes in); Kostrikov et al. 2020 (DrQ,
arXiv:2004.13649) and Raileanu et al. 2020 (DrAC, arXiv:2006.12862), which repeat the edge. What
DrAC calls a crop is a shift by more pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rldarts_tf.agents.algorithm_settings import AUGMENTATIONS


def random_shift(
    images: tf.Tensor, pixels: int, seed: tf.Tensor, padding: str = "symmetric"
) -> tf.Tensor:
    """Shifts each image by up to so many pixels in each direction.

    As if the images were padded and cropped at random, but by index alone: bytes stay bytes.

    Args:
      images: [B, H, W, C], of any dtype.
      pixels: the largest shift.
      seed: integers [2].
      padding: what comes in, as `numpy.pad` calls it: "symmetric", mirrored, as in PI-SAC's release
        with 4 pixels (train_pisac.py); or "edge", repeated, as in DrQ and DrAC.
    """

    def indices(size: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        i = tf.range(size) + shift  # [B, size]
        if padding == "edge":
            return tf.clip_by_value(i, 0, size - 1)
        i = tf.where(i < 0, -i - 1, i)
        return tf.where(i >= size, 2 * size - 1 - i, i)

    # Images come from a rollout or replay to the CPU, and no GPU has a kernel that gathers uint8.
    with tf.device("/cpu:0"):
        batch, height, width, _ = tf.unstack(tf.shape(images))
        shifts = tf.random.stateless_uniform([2, batch, 1], seed, -pixels, pixels + 1, tf.int32)
        rows = tf.gather(images, indices(height, shifts[0]), axis=1, batch_dims=1)
        return tf.gather(rows, indices(width, shifts[1]), axis=2, batch_dims=1)


class Augmentation:
    """The transformation f of DrAC and DrQ: each image is shifted by an offset of its own.

    Args:
      kind: one of `AUGMENTATIONS`.
      pixels: the largest shift; None: that of the kind, for the size of the images.
      generator: the source of offsets; its state belongs into a checkpoint.

    Attributes:
      generator: the generator.
    """

    def __init__(self, kind: str, pixels: int | None, generator: tf.random.Generator) -> None:
        self._share, self._pixels, self.generator = AUGMENTATIONS[kind], pixels, generator

    @classmethod
    def needed_by(
        cls, settings: Any, make_generator: Callable[[], tf.random.Generator]
    ) -> Augmentation | None:
        """That of an algorithm's settings; None if they have none.

        Args:
          settings: with `augmentation` and `augmentation_pixels`.
          make_generator: makes the source of offsets, or gives one that there is.
        """
        if settings.augmentation is None:
            return None
        return cls(settings.augmentation, settings.augmentation_pixels, make_generator())

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """f of images [..., H, W, C]; each call draws anew."""
        shape = tf.shape(images)
        flat = tf.reshape(images, [-1, *images.shape[-3:]])
        shifted = random_shift(
            flat,
            self.pixels(*images.shape[-3:-1]),
            self.generator.make_seeds()[:, 0],
            padding="edge",
        )
        return tf.ensure_shape(tf.reshape(shifted, shape), images.shape)

    def pixels(self, height: int, width: int) -> int:
        """The largest shift of images of this size."""
        if self._pixels is not None:
            return self._pixels
        return max(1, round(self._share * min(height, width)))
