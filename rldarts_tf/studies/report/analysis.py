"""Results of a study -> its statistics, by environment and over all of them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.studies.report.findings import Arm, Cell, Game, Overall, Pair, Times, points
from rldarts_tf.studies.report.scaling import scaled, short_names
from rldarts_tf.studies.results import RANDOM, Result, StudyResults
from rldarts_tf.studies.scores import Scores, stacked
from rldarts_tf.studies.statistics import aggregates
from rldarts_tf.studies.statistics.best_of import cells_in_time, equal_time
from rldarts_tf.studies.statistics.differences import architecture_means, difference
from rldarts_tf.studies.statistics.equal_cost import at_equal_cost
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.ranks import rank_among, rank_correlation
from rldarts_tf.studies.statistics.variance import spread, variance_components

# How the architectures of a trajectory are called.
_STEP = re.compile(r"(.+)-step-(\d+)\Z")


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
        self._supernets = results.arms(supernets=True)
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
        """Searches and their cells by arm of the cells, where the baseline can be a unit."""
        pairs: dict[str, list[Pair]] = {}
        for game in self.games:
            baseline = game.arm(self.baselines[0]) if self.baselines else None
            unit = baseline.mean("final_return") if baseline else 1.0
            if unit <= 0:
                continue  # no unit: a quotient would turn the order round, or have no value
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

    @functools.cached_property
    def supernets(self) -> list[tuple[str, Arm]]:
        """Arms of supernets with their games: a search is a row with a single seed."""
        read = [
            (e, arm, self.results.scores(e, arm)) for e in self.names for arm in self._supernets
        ]
        return [
            (self.names[environment], self._arm(environment, arm, {arm: scores}))
            for environment, arm, scores in read
            if scores is not None
        ]

    def trajectories(self, game: Game) -> dict[str, list[Cell]]:
        """The cells along searches, by search, in the order in which they appeared."""
        found: dict[str, list[Cell]] = {}
        for arm in game.arms:
            for architecture, scores in zip(arm.scores.architectures, arm.scores.values):
                parts = _STEP.match(architecture)
                if parts is not None:
                    name = parts[1] + arm.name[len("trajectory") :]
                    found.setdefault(name, []).append(Cell(int(parts[2]), scores))
        return {name: sorted(cells, key=lambda cell: cell.step) for name, cells in found.items()}

    def progress(self, cells: Sequence[Cell]) -> Estimate:
        """Rank correlation of the steps of cells along a search and of their mean scores."""
        means = [np.nanmean(cell.scores) for cell in cells]
        return rank_correlation(np.array([cell.step for cell in cells]), np.array(means))

    def _searches(self, arm: Arm) -> list[tuple[Result, float]]:
        """The searches of an arm, each with the mean score of its cell."""
        needed = {r.trial.architecture: n for r in arm.results for n in r.trial.needs}
        means = dict(zip(arm.scores.architectures, architecture_means(arm.scores.values)))
        found = ((self._by_name.get(needed.get(cell, "")), mean) for cell, mean in means.items())
        return [(search, float(mean)) for search, mean in found if search is not None]

    def _game(self, environment: str) -> Game:
        of_arm = {arm: self.results.scores(environment, arm) for arm in self.arms}
        scores = {arm: found for arm, found in of_arm.items() if found is not None}
        cells = {arm: found for arm, found in scores.items() if arm not in self.baselines}
        population = {RANDOM: scores[RANDOM]} if RANDOM in scores else cells
        places = [points(self.results.of(environment, arm), s) for arm, s in population.items()]
        sizes = np.concatenate([np.empty((0, 2)), *places])
        return Game(
            environment=environment,
            name=self.names[environment],
            variance=variance_components(stacked([*population.values()])),
            size=rank_correlation(*sizes[np.isfinite(sizes).all(axis=1)].T),
            arms=[self._arm(environment, arm, scores) for arm in scores],
        )

    def _arm(self, environment: str, name: str, scores: Mapping[str, Scores]) -> Arm:
        own = scores[name].values
        other = None if self.reference == name else scores.get(self.reference or "")
        results = self.results.of(environment, name)
        needs = [search for result in results for search in result.trial.needs]
        arm = Arm(
            name=name,
            results=results,
            scores=scores[name],
            searched=len({*needs}) == len(scores[name]),
            iqm=aggregates.iqm([own]),
            spread=spread(own),
            difference=difference(own, other.values) if other else None,
            equal_cost=None,
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
            equal_cost=at_equal_cost(
                *arm.points.T, *points(self.results.of(environment, RANDOM), other).T
            ),
            times=self._times(arm, environment, other),
        )

    def _times(self, arm: Arm, environment: str, random: Scores) -> Times | None:
        searches = [self.results.search_budget(search) for search, _ in self._searches(arm)]
        if not searches:
            return None
        of_random = [result.seconds for result in self.results.of(environment, RANDOM)]
        search = float(np.mean([budget.seconds for budget in searches]))
        steps = float(np.mean([budget.environment_steps for budget in searches]))
        cell, one = arm.mean("seconds"), float(np.mean(of_random))
        if not np.isfinite([search, cell, one]).all() or one <= 0:
            return None
        cells = cells_in_time(search, cell, one)
        result = equal_time(arm.scores.values, random.values, cells)
        return Times(search, steps, cell, one, cells, result)
