"""Architectures beside others of their cost: better, or only larger?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rldarts_tf.studies.statistics import LEVEL
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class EqualCost:
    """Architectures beside what others of their cost score.

    Attributes:
      gain: mean score above the straight line of the others, score against cost, with the t
        interval of the analysis of covariance (Fisher 1932): slope and variance are common.
      drawn_on: whether one of them costs less than all others, or more: there the line is a guess.
    """

    gain: Estimate
    drawn_on: bool


def at_equal_cost(
    costs: np.ndarray, scores: np.ndarray, other_costs: np.ndarray, other_scores: np.ndarray
) -> EqualCost | None:
    """Compares architectures with others at equal cost.

    Args:
      costs: of the architectures [m], such as multiply-adds.
      scores: their mean scores [m].
      other_costs: of those that the line is drawn through [n].
      other_scores: their mean scores [n].

    Returns:
      None where the others do not make a line: fewer than three, or all of one cost.
    """
    from scipy import stats

    if len(other_costs) < 3 or np.ptp(other_costs) == 0 or not len(costs):
        return None
    cost = np.concatenate([costs, other_costs])
    # In units of the spread: multiply-adds are counted in millions or in thousands.
    cost = (cost - cost.mean()) / np.ptp(cost)
    is_one = np.repeat([1.0, 0.0], [len(costs), len(other_costs)])
    design = np.stack([is_one, np.ones_like(cost), cost], axis=1)
    score = np.concatenate([scores, other_scores])
    effects = np.linalg.lstsq(design, score, rcond=None)[0]
    freedom = len(score) - design.shape[1]
    left = score - design @ effects
    variance = float(left @ left) / freedom * np.linalg.inv(design.T @ design)[0, 0]
    margin = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    gain = float(effects[0])
    drawn_on = bool(np.min(costs) < np.min(other_costs) or np.max(costs) > np.max(other_costs))
    return EqualCost(Estimate(gain, gain - margin, gain + margin), drawn_on)
