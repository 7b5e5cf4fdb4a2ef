"""Difference of the means of two arms, each architecture counting alike."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.resampling import bootstrap_estimate


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean of one arm minus that of another.

    Attributes:
      welch: with Welch's interval of the means of architectures, which holds its level with three
        searches; NaN ends where an arm has a single value.
      bootstrap: with that of the hierarchical bootstrap, which assumes no distribution and is too
        narrow with few searches.
    """

    welch: Estimate
    bootstrap: Estimate

    @property
    def interval(self) -> Estimate:
        """The interval to rely on: Welch's where there is one."""
        return self.bootstrap if math.isnan(self.welch.low) else self.welch


def architecture_means(scores: np.ndarray) -> np.ndarray:
    """Means over seeds: [..., architectures, seeds] -> [..., architectures]."""
    return np.nanmean(scores, axis=-1)


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    """Difference of two arms: one minus other, scores [architectures, seeds] each."""

    def statistic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        means = [architecture_means(table).mean(axis=-1) for table in (first, second)]
        return means[0] - means[1]

    estimate = bootstrap_estimate(statistic, one, other)
    return Difference(_welch(estimate.value, one, other), estimate)


def _welch(value: float, one: np.ndarray, other: np.ndarray) -> Estimate:
    from scipy import stats

    first, second = _independent(one), _independent(other)
    if min(len(first), len(second)) < 2:
        return Estimate(value)
    with warnings.catch_warnings():  # of values that are all equal, whose ends are NaN then
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(first, second, equal_var=False)
        interval = test.confidence_interval(LEVEL)
    return Estimate(value, float(interval.low), float(interval.high))


def _independent(scores: np.ndarray) -> np.ndarray:
    """The values that vary independently: seeds where there is a single architecture."""
    return scores[0][np.isfinite(scores[0])] if len(scores) == 1 else architecture_means(scores)
