"""The answers of a study, one sentence per question and environment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.findings import Arm, Game
from rldarts_tf.studies.report.tables import Format, minutes, number, percent, shown, whole
from rldarts_tf.studies.results import RANDOM
from rldarts_tf.studies.statistics.differences import welch_difference
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.statistics.pareto import front


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A question and its answers."""

    question: str
    answers: Sequence[str]


def verdicts(analysis: Analysis) -> list[Verdict]:
    """The questions that the study has results for."""
    reference = "random ones" if analysis.reference == RANDOM else str(analysis.reference)
    questions = {
        "Do the games ask for an architecture at all?": _variances(analysis),
        f"Are the cells better than {reference}?": _comparisons(analysis),
        "Are they better, or only larger?": _equal_costs(analysis),
        "Does a search pay, if random search has the same time?": _equal_times(analysis),
        "Are found cells better than the hand-designed encoder?": _baselines(analysis),
        "Do cells become better as a search goes on?": _trajectories(analysis),
        "Over all games?": _overall(analysis),
        "How much do the searches of a method differ?": _spreads(analysis),
        "Which architectures does no other beat at the same cost or less?": _fronts(analysis),
        "Does the return of a supernet tell which cell is good?": _correlations(analysis),
    }
    answered = ((question, list(answers)) for question, answers in questions.items())
    return [Verdict(question, answers) for question, answers in answered if answers]


def _variances(analysis: Analysis) -> Iterator[str]:
    for game in analysis.games:
        icc, seeds = (
            game.variance.icc,
            f"{game.variance.cells} cells, {game.variance.runs} trainings",
        )
        share = f"{_interval(icc, percent)} of the variance of a training's return"
        if math.isnan(icc.low) and game.variance.within == 0:
            yield f"{game.name}: no. All trainings score the same ({seeds})."
        elif math.isnan(icc.low):
            yield f"{game.name}: not known yet ({seeds}); it takes two cells with two seeds."
        elif icc.low > 0:
            yield f"{game.name}: yes. {share} is between cells ({seeds})."
        else:
            yield (
                f"{game.name}: not shown. {share} is between cells ({seeds}); it may be none, and "
                "then no comparison of cells can show anything."
            )


def _comparisons(analysis: Analysis) -> Iterator[str]:
    for game in analysis.games:
        for arm in game.arms:
            if arm.difference is None or arm.name in analysis.baselines:
                continue
            yield f"{game.name}: {_beaten(arm)}{_difference(arm.difference.welch)}{_few(arm)}"


def _beaten(arm: Arm) -> str:
    name = (
        f"the {arm.name} cell"
        if len(arm.scores) == 1
        else f"the {len(arm.scores)} {arm.name} cells"
    )
    if not arm.ranks:
        return f"{name}: "
    ranks = list(arm.ranks.values())
    beaten = float(np.mean([rank.beaten for rank in ranks]))
    on_average = " on average" if len(ranks) > 1 else ""
    verb = "beat" if len(ranks) > 1 else "beats"
    text = format(beaten, ".1f").removesuffix(".0")
    return f"{name} {verb} {text} of {ranks[0].cells} random ones{on_average}; "


def _difference(estimate: Estimate) -> str:
    return f"difference of means {_interval(estimate)}: {_outcome(estimate)}."


def _outcome(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "a single training has no interval"
    return {1: "better", -1: "worse", 0: "no difference is shown"}[estimate.sign]


def _few(arm: Arm) -> str:
    if arm.searched and len(arm.scores) == 1:
        return " It is one search: nothing is said about the next one."
    return ""


def _equal_costs(analysis: Analysis) -> Iterator[str]:
    for game in analysis.games:
        for arm in game.arms:
            compared = arm.equal_cost
            # Of one architecture nothing is said: the line's interval does not know its seeds.
            if compared is None or len(arm.scores) == 1 or math.isnan(game.size.low):
                continue
            guess = " (a line through them, drawn on to that size)" if compared.drawn_on else ""
            yield (
                f"{game.name}: among random cells the rank correlation of return and multiply-adds "
                f"is {number(game.size.value)}; {arm.name} minus random ones of as many"
                f"{guess}: {_interval(compared.gain)}: {_outcome(compared.gain)}."
            )


def _equal_times(analysis: Analysis) -> Iterator[str]:
    for game, arm in _searched(analysis):
        times = arm.times
        if times is None:
            continue
        begin = (
            f"{game.name}: in the {minutes(times.search + times.cell)} minutes of a search and its "
            f"cell ({arm.name}) random search tries {times.cells} cells"
        )
        if times.result is None:
            yield f"{begin}; too few have two finished trainings yet."
            continue
        gain = times.result.gain
        outcome = {1: "it pays", -1: "it does not pay", 0: "not shown"}[gain.sign]
        yield (
            f"{begin}, of which the best is expected to score {number(times.result.best)}; the "
            f"found cells' mean is {_interval(gain)} above it: {outcome}."
        )


def _baselines(analysis: Analysis) -> Iterator[str]:
    for game, arm in _searched(analysis):
        # Where there are no random cells, the first baseline is what all are compared with already.
        for baseline in (name for name in analysis.baselines if name != analysis.reference):
            other = game.arm(baseline)
            if other is not None:
                found = welch_difference(arm.scores.values, other.scores.values)
                yield f"{game.name}: {_sized(arm)} beside {_sized(other)}: {_difference(found)}"


def _sized(arm: Arm) -> str:
    return f"{arm.name} ({whole(arm.mean('multiply_adds'))} multiply-adds)"


def _trajectories(analysis: Analysis) -> Iterator[str]:
    for game in analysis.games:
        for search, cells in analysis.trajectories(game).items():
            found = analysis.progress(cells)
            if not math.isnan(found.value):
                outcome = {1: "yes", -1: "they become worse", 0: "not shown"}[found.sign]
                yield (
                    f"{game.name}, {search}: rank correlation of step and return "
                    f"{_interval(found)} over {len(cells)} cells: {outcome}."
                )


def _overall(analysis: Analysis) -> Iterator[str]:
    overall = analysis.overall
    if overall is None or len(overall.games) < 2:
        return
    for arm, chance in overall.improvement.items():
        outcome = {1: "above one half", -1: "below one half", 0: "one half is in the interval"}
        shifted = Estimate(chance.value - 0.5, chance.low - 0.5, chance.high - 0.5)
        yield (
            f"A training of {arm} is better than one of {analysis.reference} with probability "
            f"{_interval(chance, percent)}, mean over {len(overall.games)} games: "
            f"{outcome[shifted.sign]}."
        )


def _correlations(analysis: Analysis) -> Iterator[str]:
    for arm, pairs in analysis.pairs.items():
        found = analysis.correlation(arm)
        if not math.isnan(found.value):
            outcome = {1: "yes", -1: "the other way round", 0: "not shown"}[found.sign]
            yield (
                f"{arm}: rank correlation {_interval(found)} over {len(pairs)} searches: {outcome}."
            )


def _spreads(analysis: Analysis) -> Iterator[str]:
    """Where a study has several methods: A2D's claim is that a teacher makes searches alike."""
    for name, arm in analysis.supernets:
        if ":" in arm.name and not math.isnan(arm.spread.low):
            yield (
                f"{name}, {arm.name}: standard deviation of the supernets' returns "
                f"{_interval(arm.spread)} over {len(arm.scores)} searches."
            )


def _fronts(analysis: Analysis) -> Iterator[str]:
    if {"pareto", "model_size"}.isdisjoint(analysis.results.study.kinds):
        return
    for game in analysis.games:
        owner = [arm.name for arm in game.arms for _ in arm.points]
        points = np.concatenate([arm.points for arm in game.arms])
        best = [owner[i] for i in front(*points.T)]
        counted = ", ".join(
            f"{best.count(arm.name)} of {len(arm.points)} {arm.name}" for arm in game.arms
        )
        yield f"{game.name}: {counted}."


def _searched(analysis: Analysis) -> Iterator[tuple[Game, Arm]]:
    for game in analysis.games:
        for arm in game.arms:
            if arm.searched:
                yield game, arm


def _interval(estimate: Estimate, form: Format = number) -> str:
    """An estimate as text: "1.20 (95 % interval 0.30 to 2.10)"."""
    return shown(estimate, form).replace("(", "(95 % interval ", 1)
