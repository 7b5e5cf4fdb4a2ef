"""Where a cell stands among random ones, and whether one score ranks cells like another."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class Rank:
    """A cell among random ones.

    Attributes:
      beaten: random cells that are worse; ties are not.
      cells: random cells.
      share: of the cells of the search space that are worse, with the exact interval of Clopper
        and Pearson. It has the random cells as chance, not the noise of the cell's own score.
      p_value: probability that a cell drawn at random would rank so high or higher: at least
        1 / (cells + 1), which is reached where all are beaten.
    """

    beaten: int
    cells: int
    share: Estimate
    p_value: float


def rank_among(score: float, random_scores: np.ndarray) -> Rank:
    """Ranks the mean score of a cell among those of random cells [cells], of which there is one."""
    from scipy import stats

    beaten, cells = int(np.sum(random_scores < score)), len(random_scores)
    interval = stats.binomtest(beaten, cells).proportion_ci(LEVEL, method="exact")
    share = Estimate(beaten / cells, float(interval.low), float(interval.high))
    return Rank(beaten, cells, share, (1 + cells - beaten) / (1 + cells))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> Estimate:
    """Spearman's rank correlation of two scores of the same cells [cells].

    The interval is Fisher's with the standard error of Bonett and Wright (2000),
    sqrt((1 + r^2 / 2) / (n - 3)); NaN for less than 4 cells.
    """
    from scipy import stats

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return Estimate(math.nan)
    r = float(stats.spearmanr(one, other).statistic)
    if len(one) < 4:
        return Estimate(r)
    error = math.sqrt((1 + r**2 / 2) / (len(one) - 3))
    margin = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    centre = math.atanh(max(-1 + 1e-12, min(r, 1 - 1e-12)))
    return Estimate(r, math.tanh(centre - margin), math.tanh(centre + margin))
