"""Architectures beside others of their cost: better, or only larger?"""

from __future__ import annotations

import dataclasses

import numpy as np

from rldarts_tf.studies.statistics.differences import Uncertainty, uncertainty, welch_interval
from rldarts_tf.studies.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class EqualCost:
    """Architectures beside what others of their cost score.

    Attributes:
      gain: mean score above the straight line through the others, score against cost. Welch's
        interval: found cells and others have variances of their own, for with three searches
        that differ more than random cells do, a common one would make it far too narrow. A single
        architecture has none.
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
      other_scores: their mean scores [n]. Those without a finite cost and score are left out.

    Returns:
      None where the others do not make a line: fewer than three, or all of one cost.
    """
    known = np.isfinite(costs) & np.isfinite(scores)
    costs, scores = costs[known], scores[known]
    known = np.isfinite(other_costs) & np.isfinite(other_scores)
    other_costs, other_scores = other_costs[known], other_scores[known]
    if len(other_costs) < 3 or np.ptp(other_costs) == 0 or not len(costs):
        return None
    # In units of the spread: multiply-adds are counted in millions or in thousands.
    middle, spread = other_costs.mean(), np.ptp(other_costs)
    own, others = ((cost - middle) / spread for cost in (costs, other_costs))
    design = np.stack([np.ones_like(others), others], axis=1)
    line = np.linalg.lstsq(design, other_scores, rcond=None)[0]
    above = scores - (line[0] + line[1] * own)
    left = other_scores - design @ line
    freedom = len(others) - 2
    at_mean = np.array([1.0, own.mean()])
    of_line = float(at_mean @ np.linalg.inv(design.T @ design) @ at_mean)
    gain = welch_interval(
        float(above.mean()),
        uncertainty(above[:, None]),
        Uncertainty(float(left @ left) / freedom * of_line, freedom),
    )
    drawn_on = bool(np.min(costs) < np.min(other_costs) or np.max(costs) > np.max(other_costs))
    return EqualCost(gain, drawn_on)
