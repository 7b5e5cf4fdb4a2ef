"""Hierarchical bootstrap: architectures are drawn with replacement, then the seeds of each.

With rows alone, three searches would be resampled as if their means had no noise; with single runs,
as if nine searches had been made. Of few rows the interval is still too narrow: docs/statistics.md
has its coverage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate

REPETITIONS = 10_000

Statistic = Callable[..., np.ndarray]
"""Scores [repetitions, architectures, seeds], an array of each sample -> [repetitions, ...]."""


def resample(scores: np.ndarray, rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """Draws architectures, and seeds of each, with replacement.

    Args:
      scores: [architectures, seeds], with a value in each row.
      rng: what is drawn with.
      repetitions: how often all are drawn.

    Returns:
      [repetitions, architectures, seeds]; each row has as many NaN as the one it is drawn from, in
      the last places.
    """
    compact = np.sort(scores, axis=1)  # NaN last
    counts = np.sum(np.isfinite(scores), axis=1)
    rows, columns = scores.shape
    chosen = rng.integers(rows, size=(repetitions, rows))
    present = counts[chosen][..., None]
    seeds = rng.integers(present, size=(repetitions, rows, columns))
    values = compact[chosen[..., None], seeds]
    return np.where(np.arange(columns) < present, values, np.nan)


def bootstrap(
    statistic: Statistic, *samples: np.ndarray, repetitions: int = REPETITIONS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value of a statistic, and the two ends of its percentile interval, each of its shape.

    Args:
      statistic: what is asked for.
      *samples: scores [architectures, seeds], resampled independently of each other: an arm on a
        game is one.
      repetitions: how often they are resampled.
      seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    value = statistic(*(sample[None] for sample in samples))[0]
    replicates = statistic(*(resample(sample, rng, repetitions) for sample in samples))
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return value, low, high


def bootstrap_estimate(statistic: Statistic, *samples: np.ndarray) -> Estimate:
    """`bootstrap` of a statistic that is one number; without an interval of a single training."""
    estimate = Estimate(*map(float, bootstrap(statistic, *samples)))
    alone = any(np.sum(np.isfinite(sample)) == 1 for sample in samples)
    return Estimate(estimate.value) if alone else estimate
