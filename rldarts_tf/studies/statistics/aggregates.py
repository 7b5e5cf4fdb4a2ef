"""Aggregates of runs (Agarwal et al. 2021), on a game and over games.

Functions of arrays take runs on the last axis, NaN where there is none. Over games, interquartile
means and profiles are of the runs of all games together, and the probability of improvement is the
mean over games: as in rliable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.resampling import bootstrap, bootstrap_estimate


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean without the lowest and highest quarter, rounded down: of less than 4 values the mean.

    Args:
      values: [..., runs].

    Returns:
      [...].
    """
    count = np.sum(np.isfinite(values), axis=-1, keepdims=True)
    cut = count // 4
    place = np.arange(values.shape[-1])
    kept = (place >= cut) & (place < count - cut)
    # NaN is sorted last, so that it is never among those kept.
    return np.where(kept, np.sort(values, axis=-1), 0).sum(axis=-1) / kept.sum(axis=-1)


def probability_of_improvement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Probability that a run of one is better than one of the other, ties half: U / (n m).

    Args:
      one: [..., n].
      other: [..., m].

    Returns:
      [...].
    """
    first, second = one[..., :, None], other[..., None, :]
    better = (first > second) + 0.5 * (first == second)
    pairs = np.isfinite(first) & np.isfinite(second)
    return better.sum(axis=(-1, -2)) / pairs.sum(axis=(-1, -2))


def exceeding(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs above each threshold.

    Args:
      values: [..., runs].
      thresholds: [thresholds].

    Returns:
      [..., thresholds].
    """
    runs = np.sum(np.isfinite(values), axis=-1)[..., None]
    return np.stack([(values > t).sum(axis=-1) for t in thresholds], axis=-1) / runs


def iqm(games: Sequence[np.ndarray]) -> Estimate:
    """Interquartile mean of all runs; games are strata.

    Args:
      games: scores [architectures, seeds] on each game, normalized if there are several.
    """
    return bootstrap_estimate(lambda *tables: interquartile_mean(_pooled(tables)), *games)


def improvement(games: Sequence[tuple[np.ndarray, np.ndarray]]) -> Estimate:
    """Probability of improvement of one arm over another, mean over games.

    Args:
      games: scores [architectures, seeds] of both on each game.
    """

    def mean(*tables: np.ndarray) -> np.ndarray:
        pairs = zip(tables[::2], tables[1::2])
        of_games = [probability_of_improvement(_runs(one), _runs(other)) for one, other in pairs]
        return np.mean(of_games, axis=0)

    return bootstrap_estimate(mean, *(table for pair in games for table in pair))


def profile(
    games: Sequence[np.ndarray], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Performance profile: share of runs of all games above each threshold, with interval.

    Args:
      games: normalized scores [architectures, seeds] on each game.
      thresholds: [thresholds].

    Returns:
      Shares and the two ends of their pointwise intervals, each [thresholds].
    """
    return bootstrap(lambda *tables: exceeding(_pooled(tables), thresholds), *games)


def _runs(table: np.ndarray) -> np.ndarray:
    """[repetitions, architectures, seeds] -> [repetitions, runs]."""
    return table.reshape(len(table), -1)


def _pooled(tables: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([_runs(table) for table in tables], axis=-1)
