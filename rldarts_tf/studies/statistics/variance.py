"""How much a task asks for an architecture: variance between cells over that of a training."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class Variance:
    """Intraclass correlation ICC(3,1) of cells that are all trained with the same seeds.

    What a seed does to all cells alike, as its levels do, takes no part: it is the same for each
    cell, and so it changes no comparison of cells.

    Attributes:
      icc: share of the variance of a single run that is between cells, with the exact interval of
        the F distribution (approximate where runs are missing). Estimates below 0 mean: less than
        seeds alone would make.
      between: variance between cells; below 0 where the estimate of `icc` is.
      within: variance of the runs of a cell, without what is common to a seed.
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
    """Two-way effects, seeds fixed (Shrout and Fleiss 1979, case 3); runs may be missing.

    Args:
      scores: [cells, seeds]. NaN throughout the result where there is one cell only, or nothing is
        left to tell cells and seeds apart.
    """
    from scipy import stats

    cell, seed = np.nonzero(np.isfinite(scores))
    values = scores[cell, seed]
    cells, runs = len(np.unique(cell)), len(values)
    by_seed, by_cell = _indicators(seed), _indicators(cell)
    of_seeds, seeds_rank = _residuals(by_seed, values)
    of_both, rank = _residuals(np.hstack([by_seed, by_cell]), values)
    free = (rank - seeds_rank, runs - rank)
    if min(free) < 1:
        return Variance(Estimate(math.nan), math.nan, math.nan, cells, runs)
    between, within = (of_seeds - of_both) / free[0], of_both / free[1]
    # E[between] = within + count · (variance between cells); of a full table the number of seeds.
    share = by_cell.T @ by_seed
    count = (runs - float(np.sum(share**2 / share.sum(axis=0)))) / free[0]

    def icc(ratio: float) -> float:
        return (ratio - 1) / (ratio + count - 1) if math.isfinite(ratio) else 1.0

    ratio = between / within if within else math.inf if between else math.nan
    tail = (1 + LEVEL) / 2
    low, high = ratio / stats.f.ppf(tail, *free), ratio * stats.f.ppf(tail, *free[::-1])
    undefined = math.isnan(ratio)  # all values are equal
    estimate = Estimate(*(math.nan if undefined else icc(r) for r in (ratio, low, high)))
    return Variance(estimate, (between - within) / count, within, cells, runs)


def _indicators(labels: np.ndarray) -> np.ndarray:
    """[runs] -> [runs, labels], 1 where a run has the label."""
    return (labels[:, None] == np.unique(labels)).astype(float)


def _residuals(design: np.ndarray, values: np.ndarray) -> tuple[float, int]:
    """What least squares leave of the values: (their sum of squares, rank of the design)."""
    if not len(values):
        return 0.0, 0
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ fitted
    # What rounding leaves of an exact fit is nothing.
    exact = np.allclose(left, 0, atol=1e-12 * max(1.0, float(np.abs(values).max())))
    return 0.0 if exact else float(left @ left), int(rank)
