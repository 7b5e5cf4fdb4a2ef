"""How much a task asks for an architecture: variance between cells over that between seeds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class Variance:
    """Intraclass correlation ICC(1) of cells, seeds being the repetitions.

    Attributes:
      icc: share of the variance of a single run that is between cells, with the exact interval of
        the F distribution (approximate where cells have different numbers of seeds). Estimates
        below 0 mean: less than seeds alone would make.
      between: variance between cells; below 0 where the estimate of `icc` is.
      within: variance between the seeds of a cell.
      cells: cells with a result.
      runs: runs in all.
    """

    icc: Estimate
    between: float
    within: float
    cells: int
    runs: int

    def reliability(self, seeds: int) -> float:
        """ICC of means over so many seeds (Spearman-Brown): how far they rank cells rightly."""
        single = max(self.icc.value, 0.0)
        return seeds * single / (1 + (seeds - 1) * single)


def spread(scores: np.ndarray) -> Estimate:
    """Standard deviation between architectures, with the χ² interval for normal means.

    Args:
      scores: [architectures, seeds]; of each the mean counts, with the noise of its seeds. NaN
        where there is one architecture only.
    """
    from scipy import stats

    rows = scores[np.isfinite(scores).any(axis=1)]
    free = len(rows) - 1
    if free < 1:
        return Estimate(math.nan)
    deviation = float(np.std(np.nanmean(rows, axis=1), ddof=1))
    quantiles = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], free)
    low, high = deviation * np.sqrt(free / quantiles)
    return Estimate(deviation, float(low), float(high))


def variance_components(scores: np.ndarray) -> Variance:
    """One-way random effects (Shrout and Fleiss 1979, case 1), cells with unequal seeds allowed.

    Args:
      scores: [cells, seeds]. NaN throughout the result where there is one cell only, or no cell
        with two seeds.
    """
    from scipy import stats

    counts = np.sum(np.isfinite(scores), axis=1)
    scores, counts = scores[counts > 0], counts[counts > 0]
    cells, runs = len(scores), int(counts.sum())
    free = (cells - 1, runs - cells)
    if min(free) < 1:
        return Variance(Estimate(math.nan), math.nan, math.nan, cells, runs)
    means = np.nanmean(scores, axis=1)
    grand = np.nansum(scores) / runs
    between = float(counts @ (means - grand) ** 2) / free[0]
    within = float(np.nansum((scores - means[:, None]) ** 2)) / free[1]
    # Of equal numbers of seeds, that number.
    seeds = float(runs - counts @ counts / runs) / free[0]

    def icc(ratio: float) -> float:
        return (ratio - 1) / (ratio + seeds - 1) if math.isfinite(ratio) else 1.0

    ratio = between / within if within else math.inf if between else math.nan
    tail = (1 + LEVEL) / 2
    low, high = ratio / stats.f.ppf(tail, *free), ratio * stats.f.ppf(tail, *free[::-1])
    undefined = math.isnan(ratio)  # all values are equal
    estimate = Estimate(*(math.nan if undefined else icc(r) for r in (ratio, low, high)))
    return Variance(estimate, (between - within) / seeds, within, cells, runs)
