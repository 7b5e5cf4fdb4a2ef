"""Results of a study -> its statistics, by environment and over all of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.studies.report.scaling import scaled, short_names
from rldarts_tf.studies.results import RANDOM, Result, Scores, StudyResults, stacked
from rldarts_tf.studies.statistics import aggregates
from rldarts_tf.studies.statistics.best_of import EqualTime, cells_in_time, equal_time
from rldarts_tf.studies.statistics.differences import Difference, architecture_means, difference
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.ranks import Rank, rank_among, rank_correlation
from rldarts_tf.studies.statistics.variance import Variance, variance_components


@dataclasses.dataclass(frozen=True)
class Times:
    """Mean seconds of one training each, and what random search makes of them.

    Attributes:
      search: of a search.
      cell: of a cell that was found.
      random: of a random cell.
      cells: random cells that fit into the first two.
      result: found cells beside the best of so many; None where there are not yet so many.
    """

    search: float
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
      searched: whether its cells are those of searches.
      iqm: interquartile mean of its runs.
      difference: of its mean to the reference's.
      improvement: probability that a run of it is better than one of the reference.
      ranks: its architectures among the random cells.
      times: random search in the time of its searches.
    """

    name: str
    results: Sequence[Result]
    scores: Scores
    searched: bool
    iqm: Estimate
    difference: Difference | None
    improvement: Estimate | None
    ranks: Mapping[str, Rank]
    times: Times | None

    def mean(self, name: str) -> float:
        """Mean of a field of `Result` over the trials."""
        return float(np.mean([getattr(result, name) for result in self.results]))


@dataclasses.dataclass(frozen=True)
class Game:
    """An environment.

    Attributes:
      environment: its id.
      name: its short name.
      variance: of the scores of random cells; of all cells where there are no random ones.
      arms: the arms, the reference first.
    """

    environment: str
    name: str
    variance: Variance
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


class Analysis:
    """Statistics of a study, each computed once.

    Args:
      results: its results.
    """

    def __init__(self, results: StudyResults) -> None:
        self.results = results
        self.names = short_names(results.environments)
        arms = results.arms()
        baselines = [r.arm for r in results.finished if r.trial.arm == "baseline"]
        self.baselines = tuple(dict.fromkeys(baselines))
        first = RANDOM if RANDOM in arms else self.baselines[0] if self.baselines else None
        self.reference = first
        """The arm that others are compared with: random cells, else the first baseline."""
        self.arms = tuple(sorted(arms, key=lambda arm: (arm != first, arm in self.baselines)))
        self._by_name = {result.trial.name: result for result in results.finished}

    @functools.cached_property
    def games(self) -> list[Game]:
        """All environments with a finished training from scratch."""
        games = map(self._game, self.results.environments)
        return [game for game in games if game.arms]

    @functools.cached_property
    def overall(self) -> Overall | None:
        """All environments together; None where scores cannot be compared, or there are none."""
        chosen = [game for game in self.games if len(game.arms) == len(self.arms)]
        found = scaled(self.results, [game.environment for game in chosen], self.arms)
        if found is None:
            return None
        scale, scores = found
        reference = self.reference
        return Overall(
            scale=scale,
            games=[game.name for game in chosen],
            scores=scores,
            iqm={arm: aggregates.iqm(tables) for arm, tables in scores.items()},
            improvement={
                arm: aggregates.improvement(list(zip(tables, scores[reference])))
                for arm, tables in scores.items()
                if reference is not None and arm != reference
            },
        )

    @functools.cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """Searches and their cells by arm of the cells."""
        pairs: dict[str, list[Pair]] = {}
        for game in self.games:
            baseline = game.arm(self.baselines[0]) if self.baselines else None
            unit = baseline.mean("final_return") if baseline else 1.0
            for arm in filter(lambda arm: arm.searched, game.arms):
                for search, cell in self._searches(arm):
                    pair = Pair(game.name, search.final_return / unit, cell / unit)
                    pairs.setdefault(arm.name, []).append(pair)
        return pairs

    def correlation(self, arm: str) -> Estimate:
        """Rank correlation of the scores of supernets and of their cells."""
        pairs = self.pairs[arm]
        supernets, cells = ([getattr(p, name) for p in pairs] for name in ("supernet", "cell"))
        return rank_correlation(np.array(supernets), np.array(cells))

    def between(self, game: Game, one: str, other: str) -> Difference | None:
        """Difference of two arms in a game; None where one of them has no result."""
        first, second = game.arm(one), game.arm(other)
        if first is None or second is None:
            return None
        return difference(first.scores.values, second.scores.values)

    def supernets(self, environment: str) -> list[Arm]:
        """The arms of supernets, a search being a row with a single seed; without a reference."""
        of_arm = {arm: self.results.scores(environment, arm) for arm in self.results.arms(True)}
        scores = {arm: found for arm, found in of_arm.items() if found is not None}
        return [self._arm(environment, arm, {arm: scores[arm]}) for arm in scores]

    def _searches(self, arm: Arm) -> list[tuple[Result, float]]:
        """The searches of an arm, each with the mean score of its cell."""
        needed = {r.trial.architecture: n for r in arm.results for n in r.trial.needs}
        means = dict(zip(arm.scores.architectures, architecture_means(arm.scores.values)))
        found = ((self._by_name.get(needed.get(cell, "")), mean) for cell, mean in means.items())
        return [(search, float(mean)) for search, mean in found if search is not None]

    def _game(self, environment: str) -> Game:
        of_arm = {arm: self.results.scores(environment, arm) for arm in self.arms}
        scores = {arm: found for arm, found in of_arm.items() if found is not None}
        cells = [found for arm, found in scores.items() if arm not in self.baselines]
        population = [scores[RANDOM]] if RANDOM in scores else cells
        return Game(
            environment=environment,
            name=self.names[environment],
            variance=variance_components(stacked([found.values for found in population])),
            arms=[self._arm(environment, arm, scores) for arm in scores],
        )

    def _arm(self, environment: str, name: str, scores: Mapping[str, Scores]) -> Arm:
        own = scores[name].values
        other = None if self.reference == name else scores.get(self.reference or "")
        arm = Arm(
            name=name,
            results=self.results.of(environment, name),
            scores=scores[name],
            searched=any(r.trial.needs for r in self.results.of(environment, name)),
            iqm=aggregates.iqm([own]),
            difference=difference(own, other.values) if other else None,
            improvement=aggregates.improvement([(own, other.values)]) if other else None,
            ranks={},
            times=None,
        )
        if other is None or self.reference != RANDOM:
            return arm
        random = architecture_means(other.values)
        means = zip(arm.scores.architectures, architecture_means(own))
        return dataclasses.replace(
            arm,
            ranks={cell: rank_among(float(mean), random) for cell, mean in means},
            times=self._times(arm, environment, other),
        )

    def _times(self, arm: Arm, environment: str, random: Scores) -> Times | None:
        searches = [search.seconds for search, _ in self._searches(arm)]
        if not searches:
            return None
        of_random = [result.seconds for result in self.results.of(environment, RANDOM)]
        search, cell, one = float(np.mean(searches)), arm.mean("seconds"), float(np.mean(of_random))
        if not np.isfinite([search, cell, one]).all() or one <= 0:
            return None
        cells = cells_in_time(search, cell, one)
        result = equal_time(arm.scores.values, random.values, cells)
        return Times(search, cell, one, cells, result)
