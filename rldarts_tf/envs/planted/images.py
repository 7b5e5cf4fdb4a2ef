"""Images whose label needs one known op: the tasks of the planted benchmarks.

An image is 12 x 12 and black but for dots. Two dots at a distance d in a row are a pair, and
labels depend on d: a kernel sees a pair if d is an offset between two of its taps, which are 1 and
2 for 3x3, 2 and 4 for a dilated 3x3, 1 to 4 for 5x5. Dots keep so far from the border that each
lies under every tap of these kernels once. So to an encoder that sees no position (one cell of one
edge, head "pool") images of two classes whose pairs its op does not see are exactly alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

SIDE = 12
"""Height and width of all images."""
_MARGIN = 2
"""Rows and columns at the border without dots: half the width of the kernels."""

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""(generator, labels [B]) -> images in 0..1, float [B, SIDE, SIDE, planes]."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A planted benchmark.

    Attributes:
      planted: the op that the label needs.
      decoys: the other ops of the space, beside `skip_connect` and `none`.
      num_classes: labels are 0 to this, exclusive; all equally likely.
      planes: channels of an image.
      draw: draws images of given labels.
    """

    planted: str
    decoys: tuple[str, ...]
    num_classes: int
    planes: int
    draw: Draw

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws images, uint8 [size, SIDE, SIDE, planes], and their labels, int32 [size]."""
        labels = rng.integers(self.num_classes, size=size, dtype=np.int32)
        return np.round(self.draw(rng, labels) * 255).astype(np.uint8), labels


def _pairs(
    rng: np.random.Generator, distances: np.ndarray, rows: np.ndarray, longest: int
) -> np.ndarray:
    """Draws pairs of dots, one in each of the given rows.

    Args:
      rng: draws the columns.
      distances: int [B, P], of the pairs.
      rows: int [B, P].
      longest: the greatest distance of any class, which decides the columns of all.

    Returns:
      float [B, SIDE, SIDE].
    """
    images = np.zeros((len(rows), SIDE, SIDE))
    columns = rng.integers(_MARGIN, SIDE - _MARGIN - longest, size=rows.shape)
    which = np.arange(len(rows))[:, None]
    images[which, rows, columns] = 1
    images[which, rows, columns + distances] = 1
    return images


def _any_row(rng: np.random.Generator, size: int, pairs: int) -> np.ndarray:
    return rng.integers(_MARGIN, SIDE - _MARGIN, size=(size, pairs))


def _distance_of(near: int, far: int) -> Draw:
    """One pair; label 0: the dots are `near`, 1: they are `far`."""

    def draw(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        distances = np.where(labels == 0, near, far)[:, None]
        rows = _any_row(rng, len(labels), 1)
        return _pairs(rng, distances, rows, max(near, far))[..., None]

    return draw


def _three_rows(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows [size, 3] that are 3 apart, so that no 3x3 sees dots of two of them."""
    return 3 * np.arange(3) + _MARGIN + rng.integers(2, size=(size, 1))


def _count(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Three pairs; the label is how many of them are neighbours, the others are 5 apart."""
    distances = np.where(np.arange(3) < labels[:, None], 1, 5)
    rows = _three_rows(rng, len(labels))
    return _pairs(rng, rng.permuted(distances, axis=1), rows, 5)[..., None]


def _shortcut(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Label = 2 · (are three pairs 5 apart, and not 3?) + (are two planes alike?).

    The planes are noise: half of the pixels of each are grey, those of the second plane where the
    first has them, or where it has none. Every op sees that; but the pairs, in the third plane,
    only 5x5 sees.
    """
    far, alike = np.divmod(labels, 2)
    distances = np.where(far, 5, 3)[:, None].repeat(3, axis=1)
    pairs = _pairs(rng, distances, _three_rows(rng, len(labels)), 5)
    first = rng.integers(2, size=pairs.shape)
    second = np.where(alike[:, None, None], first, 1 - first)
    return np.stack([_GREY * first, _GREY * second, pairs], axis=-1)


_GREY = 0.2

TASKS = {
    "distance": Task(
        "conv_5x5", ("conv_3x3", "dil_conv_3x3", "relu", "tanh"), 2, 1, _distance_of(3, 5)
    ),
    "dilated": Task(
        "dil_conv_3x3", ("conv_1x1", "conv_3x3", "relu", "tanh"), 2, 1, _distance_of(4, 3)
    ),
    "count": Task("conv_3x3", ("conv_1x1", "relu", "tanh"), 4, 1, _count),
    "shortcut": Task("conv_5x5", ("conv_3x3", "relu", "tanh"), 4, 3, _shortcut),
}
"""The tasks by name."""
