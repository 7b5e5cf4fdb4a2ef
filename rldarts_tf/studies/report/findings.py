"""What is found out of a study, as data: by environment and over all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.studies.results import Result
from rldarts_tf.studies.scores import Scores
from rldarts_tf.studies.statistics.best_of import EqualTime
from rldarts_tf.studies.statistics.differences import Difference, architecture_means
from rldarts_tf.studies.statistics.equal_cost import EqualCost
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.ranks import Rank
from rldarts_tf.studies.statistics.variance import Variance


@dataclasses.dataclass(frozen=True)
class Times:
    """Mean seconds of one training each, and what random search makes of them.

    Attributes:
      search: of a search with all that is spent until there is a cell: see `search_budget`.
      search_steps: environment steps of the same.
      cell: of a cell that was found.
      random: of a random cell.
      cells: random cells that fit into the first two.
      result: found cells beside the best of so many; None where there are not yet so many.
    """

    search: float
    search_steps: float
    cell: float
    random: float
    cells: int
    result: EqualTime | None


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm in an environment, beside the reference where there is one.

    Attributes:
      name: the arm.
      results: its finished trials.
      scores: their scores.
      searched: whether its cells are those of searches, one of each.
      iqm: interquartile mean of its runs.
      spread: standard deviation between its architectures; of supernets, between searches.
      difference: of its mean to the reference's.
      equal_cost: its architectures beside the reference's of as many multiply-adds.
      improvement: probability that a run of it is better than one of the reference.
      ranks: its architectures among the random cells.
      times: random search in the time of its searches.
    """

    name: str
    results: Sequence[Result]
    scores: Scores
    searched: bool
    iqm: Estimate
    spread: Estimate
    difference: Difference | None
    equal_cost: EqualCost | None
    improvement: Estimate | None
    ranks: Mapping[str, Rank]
    times: Times | None

    def mean(self, name: str) -> float:
        """Mean of a field of `Result` over the trials."""
        return float(np.mean([getattr(result, name) for result in self.results]))

    def parts(self) -> dict[str, float]:
        """Shares of the time of all trainings by part."""
        total = sum(result.seconds for result in self.results)
        names = dict.fromkeys(part for result in self.results for part in result.parts)
        return {
            name: sum(result.parts.get(name, 0.0) for result in self.results) / total
            for name in names
            if total > 0
        }

    @property
    def points(self) -> np.ndarray:
        """(millions of multiply-adds, mean return) of its architectures, [architectures, 2]."""
        return points(self.results, self.scores)


def points(results: Sequence[Result], scores: Scores) -> np.ndarray:
    """(millions of multiply-adds, mean score) of architectures, [architectures, 2].

    Args:
      results: trials, at least one of each architecture.
      scores: theirs.
    """
    costs = {r.trial.architecture: r.multiply_adds / 1e6 for r in results}
    means = architecture_means(scores.values)
    return np.array([[costs[a], m] for a, m in zip(scores.architectures, means)])


@dataclasses.dataclass(frozen=True)
class Game:
    """An environment.

    Attributes:
      environment: its id.
      name: its short name.
      variance: of the scores of random cells; of all cells where there are no random ones.
      size: rank correlation of mean return and multiply-adds over the same cells.
      arms: the arms, the reference first.
    """

    environment: str
    name: str
    variance: Variance
    size: Estimate
    arms: Sequence[Arm]

    def arm(self, name: str) -> Arm | None:
        """The arm of a name."""
        return next((arm for arm in self.arms if arm.name == name), None)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Scores of a search and of its cell, divided by that of the first baseline if there is one."""

    game: str
    supernet: float
    cell: float


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell along a search: the step at which it appeared, and its scores [seeds]."""

    step: int
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Overall:
    """All environments in which every arm has a result.

    Attributes:
      scale: how scores are made comparable, in words.
      games: short names.
      scores: by arm the scaled scores in each, [architectures, seeds].
      iqm: interquartile mean of all runs by arm.
      improvement: probability of improvement over the reference by arm, mean over games.
    """

    scale: str
    games: Sequence[str]
    scores: Mapping[str, Sequence[np.ndarray]]
    iqm: Mapping[str, Estimate]
    improvement: Mapping[str, Estimate]
