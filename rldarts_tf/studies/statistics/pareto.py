"""Architectures that no other one beats in score without being dearer."""

from __future__ import annotations

import numpy as np


def front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which of several points are not dominated: the Pareto front.

    One point dominates another if its cost is not higher and its score not lower, and one of the
    two is better. What is not a number dominates nothing and is not in the front.

    Args:
      costs: [points]; lower is better.
      scores: [points]; higher is better.

    Returns:
      Their indices, by rising cost.
    """
    known = np.flatnonzero(np.isfinite(costs) & np.isfinite(scores))
    order = known[np.lexsort((-scores[known], costs[known]))]
    chosen: list[int] = []
    for i in order:
        if not chosen or scores[i] > scores[chosen[-1]]:
            chosen.append(int(i))
        elif (costs[i], scores[i]) == (costs[chosen[-1]], scores[chosen[-1]]):
            chosen.append(int(i))  # Equal points do not dominate each other.
    return np.array(chosen, np.int64)
