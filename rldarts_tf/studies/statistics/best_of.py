"""Random search given the time of a search: the best of n random cells.

The best of n cells by one run each is partly the luckiest. So it is chosen by one seed and scored
by the cell's other ones, each seed choosing once.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics.differences import (
    Uncertainty,
    architecture_means,
    uncertainty,
    welch_interval,
)
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class EqualTime:
    """A search beside random search in the same time.

    Attributes:
      cells: n, the random cells that fit into the time of a search and an evaluation.
      best: expected score of the best of n.
      gain: mean of the found cells minus `best`, with Welch's interval; the standard error of
        `best` is that of the jackknife over cells.
    """

    cells: int
    best: float
    gain: Estimate


def cells_in_time(search_seconds: float, cell_seconds: float, random_seconds: float) -> int:
    """Random cells that are trained in the time of a search and of its cell; at least 1.

    Args:
      search_seconds: of a search, with all that is spent until there is a cell.
      cell_seconds: of a training of the cell found.
      random_seconds: of a training of a random cell, on average.
    """
    return max(1, int((search_seconds + cell_seconds) / random_seconds))


def equal_time(found: np.ndarray, random: np.ndarray, cells: int) -> EqualTime | None:
    """Compares found cells with the best of some random ones.

    Args:
      found: scores [searches, seeds].
      random: scores [cells, seeds].
      cells: n.

    Returns:
      None unless more than n random cells have two seeds each.
    """
    random = random[np.sum(np.isfinite(random), axis=1) > 1]
    count = len(random)
    if count <= cells:
        return None
    best = best_of(random, cells)
    # Jackknife: the best of n is a smooth function of the scores, as its draws are averaged.
    without = np.array([best_of(np.delete(random, i, axis=0), cells) for i in range(count)])
    variance = float(np.sum((without - without.mean()) ** 2)) * (count - 1) / count
    gain = float(architecture_means(found).mean()) - best
    of_best = Uncertainty(variance, count - 1)
    return EqualTime(cells, best, welch_interval(gain, uncertainty(found), of_best))


def best_of(scores: np.ndarray, cells: int) -> float:
    """Expected score of the best of n cells, chosen by one seed and scored by the others.

    Args:
      scores: [cells, seeds]; the mean is over the seeds that choose.
      cells: n; where a seed has fewer cells, it chooses among those.
    """
    values = []
    for seed in range(scores.shape[1]):
        others = np.delete(scores, seed, axis=1)
        usable = np.isfinite(scores[:, seed]) & np.isfinite(others).any(axis=1)
        if usable.any():
            means = architecture_means(others[usable])
            values.append(expected_best(scores[usable, seed], means, min(cells, usable.sum())))
    return float(np.mean(values)) if values else math.nan


def expected_best(chosen_by: np.ndarray, scored_by: np.ndarray, cells: int) -> float:
    """Expected score of the cell that is best among n drawn without replacement.

    The cell of rank r (from 0) of m is the best of n in C(r, n - 1) of C(m, n) draws; tied cells
    share theirs.

    Args:
      chosen_by: [m], by which the best is chosen.
      scored_by: [m], of which the expectation is.
      cells: n.
    """
    m = len(chosen_by)
    draws = math.comb(m, cells)
    weights = np.array([math.comb(r, cells - 1) / draws for r in range(m)])
    _, group = np.unique(np.sort(chosen_by), return_inverse=True)
    shared = np.bincount(group, weights) / np.bincount(group)
    return float(shared[group] @ scored_by[np.argsort(chosen_by, kind="stable")])
