"""Difference of the means of two arms, each architecture counting alike."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.resampling import bootstrap_estimate


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of one arm minus that of another.

    Attributes:
      welch: with Welch's interval of the means of architectures: the one to rely on, for it holds
        its level with three searches, too.
      bootstrap: with that of the hierarchical bootstrap, which assumes no distribution and is too
        narrow with few searches.
    """

    welch: Estimate
    bootstrap: Estimate


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """How far an independent part of a sum is known.

    Attributes:
      variance: squared standard error; NaN if unknown.
      freedom: its degrees of freedom.
    """

    variance: float
    freedom: int


def architecture_means(scores: np.ndarray) -> np.ndarray:
    """Means over seeds: [..., architectures, seeds] -> [..., architectures]."""
    return np.nanmean(scores, axis=-1)


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """Difference of two arms: one minus other, scores [architectures, seeds] each."""

    def statistic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        means = [architecture_means(table).mean(axis=-1) for table in (first, second)]
        return means[0] - means[1]

    return Difference(welch_difference(one, other), bootstrap_estimate(statistic, one, other))


def welch_difference(one: np.ndarray, other: np.ndarray) -> Estimate:
    """`Difference.welch` alone, which resamples nothing."""
    means = [float(architecture_means(table).mean()) for table in (one, other)]
    return welch_interval(means[0] - means[1], uncertainty(one), uncertainty(other))


def uncertainty(scores: np.ndarray) -> Uncertainty:
    """That of the mean of architectures; of a single architecture, over its seeds."""
    means = architecture_means(scores)
    values = scores[0][np.isfinite(scores[0])] if len(scores) == 1 else means
    count = len(values)
    return Uncertainty(float(values.var(ddof=1)) / count if count > 1 else math.nan, count - 1)


def welch_interval(value: float, *parts: Uncertainty) -> Estimate:
    """A value whose parts have variances of their own (Welch 1947; Satterthwaite's freedom).

    Args:
      value: the sum or difference.
      *parts: of what it consists; without an interval where one of them is unknown.
    """
    from scipy import stats

    total = sum(part.variance for part in parts)
    if math.isnan(total) or total == 0:
        return Estimate(value)
    freedom = total**2 / sum(part.variance**2 / part.freedom for part in parts)
    margin = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)
    return Estimate(value, value - margin, value + margin)
