"""Statistics of a study -> its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.captions import heading
from rldarts_tf.studies.report.findings import Arm
from rldarts_tf.studies.report.tables import (
    Column,
    Table,
    minutes,
    number,
    percent,
    probability,
    whole,
)
from rldarts_tf.studies.results import RANDOM
from rldarts_tf.studies.scores import Scores
from rldarts_tf.studies.statistics.estimates import Estimate

_GAME = Column("environment", "game")
_ARM = Column("arm", "arm")
_COSTS = ("steps", "multiply_adds", "parameters", "seconds")


def tables(analysis: Analysis) -> list[Table]:
    """The tables that have rows; the one of missing trials last."""
    made = (
        _variance(analysis),
        _arms(analysis),
        _differences(analysis),
        _by_game(analysis, "by_game", _difference),
        _by_game(analysis, "by_game_equal_cost", _at_equal_cost),
        _ranks(analysis),
        _equal_time(analysis),
        _overall(analysis),
        _supernets(analysis),
        _time(analysis),
        _missing(analysis),
    )
    return [table for table in made if table.rows]


def words(analysis: Analysis) -> dict[str, str]:
    """What captions say of a study: see `captions.heading`."""
    missing, done = len(analysis.results.missing), len(analysis.results.finished)
    overall = analysis.overall
    return {
        "sizes": _all_sizes(analysis),
        "reference": str(analysis.reference),
        "population": "random cells" if analysis.reference == RANDOM else "cells",
        "games": ", ".join(overall.games) if overall else "",
        "scale": overall.scale if overall else "",
        "unit": f", both divided by that of {analysis.baselines[0]}; without the games where that "
        "is not above 0"
        if analysis.baselines
        else "",
        "missing": str(missing),
        "trials": str(missing + done),
    }


def _sizes(scores: Scores) -> str:
    """How many architectures, and seeds of each: "20 × 3", "18 × 1 to 3"."""
    least, most = scores.per_row
    return f"{len(scores)} × {least}" + (f" to {most}" if most > least else "")


def _all_sizes(analysis: Analysis) -> str:
    texts = []
    for name in analysis.arms:
        found = dict.fromkeys(_sizes(a.scores) for g in analysis.games if (a := g.arm(name)))
        texts.append(f"{name} {' or '.join(found)}")
    return f"Architectures × seeds on a game: {', '.join(texts)}." if texts else ""


def _table(
    analysis: Analysis, name: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]
) -> Table:
    return Table(name, *heading(name, **words(analysis)), columns, rows)


def _variance(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        Column("icc", "ICC (95 % interval)", percent),
        Column("between", "sd between cells", number),
        Column("within", "sd of a training", number),
        Column("reliability", "reliability", percent),
        Column("size", "return and multiply-adds", number),
        Column("cells", "cells", whole),
        Column("runs", "trainings", whole),
    )
    rows = []
    for game in analysis.games:
        found = game.variance
        seeds = round(found.runs / found.cells) if found.cells else 0
        between, within = math.sqrt(max(found.between, 0)), math.sqrt(found.within)
        numbers = (found.icc, between, within, found.reliability(seeds), game.size)
        rows.append((game.name, *numbers, found.cells, found.runs))
    return _table(analysis, "variance", columns, rows)


def _arms(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        _ARM,
        Column("sizes", "architectures × seeds"),
        Column("iqm", "final return (95 % interval)", number),
        Column("spread", "sd between architectures", number),
        Column("training_return", "training return", number),
        Column("steps", "steps", whole),
        Column("multiply_adds", "multiply-adds", whole),
        Column("parameters", "parameters", whole),
        Column("seconds", "minutes per training", minutes),
    )
    rows = [
        (
            *(game.name, arm.name, _sizes(arm.scores), arm.iqm, arm.spread),
            *map(arm.mean, ("training_return", *_COSTS)),
        )
        for game in analysis.games
        for arm in game.arms
    ]
    return _table(analysis, "arms", columns, rows)


def _difference(arm: Arm) -> Estimate | None:
    return arm.difference.welch if arm.difference else None


def _at_equal_cost(arm: Arm) -> Estimate | None:
    return arm.equal_cost.gain if arm.equal_cost else None


def _differences(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        _ARM,
        Column("difference", "difference (Welch)", number),
        Column("bootstrap", "(bootstrap)", number),
        Column("equal_cost", "at equal multiply-adds", number),
        Column("improvement", "probability of improvement", percent),
    )
    rows = [
        (
            *(game.name, arm.name, _difference(arm), arm.difference.bootstrap),
            *(_at_equal_cost(arm), arm.improvement),
        )
        for game in analysis.games
        for arm in game.arms
        if arm.difference is not None
    ]
    return _table(analysis, "differences", columns, rows)


def _by_game(analysis: Analysis, name: str, value: Callable[[Arm], Estimate | None]) -> Table:
    """A row for each arm and a column for each game; no rows where there is one game."""
    columns = (_ARM, *(Column(game.name, game.name, number) for game in analysis.games))
    rows = []
    for arm in analysis.arms if len(analysis.games) > 1 else ():
        of_arm = (game.arm(arm) for game in analysis.games)
        values = [value(found) if found else None for found in of_arm]
        if any(values):
            rows.append((arm, *values))
    return _table(analysis, name, columns, rows)


def _ranks(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        _ARM,
        Column("architecture", "architecture"),
        Column("score", "mean return", number),
        Column("beaten", "random cells beaten", whole),
        Column("cells", "of", whole),
        Column("share", "percentile (95 % interval)", percent),
        Column("p_value", "p", probability),
    )
    rows = [
        (
            *(game.name, arm.name, architecture, float(np.nanmean(row))),
            *(rank.beaten, rank.cells, rank.share, rank.p_value),
        )
        for game in analysis.games
        for arm in game.arms
        for (architecture, rank), row in zip(arm.ranks.items(), arm.scores.values)
    ]
    return _table(analysis, "percentiles", columns, rows)


def _equal_time(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        _ARM,
        Column("search_seconds", "search, minutes", minutes),
        Column("search_steps", "its steps", whole),
        Column("cell_seconds", "its cell", minutes),
        Column("random_seconds", "a random cell", minutes),
        Column("cells", "n", whole),
        Column("best", "best of n", number),
        Column("gain", "gain (95 % interval)", number),
    )
    rows = []
    for game in analysis.games:
        for arm in game.arms:
            times = arm.times
            if times is not None:
                outcome = (times.result.best, times.result.gain) if times.result else (None, None)
                durations = times.search, times.search_steps, times.cell, times.random
                rows.append((game.name, arm.name, *durations, times.cells, *outcome))
    return _table(analysis, "equal_time", columns, rows)


def _overall(analysis: Analysis) -> Table:
    columns = (
        _ARM,
        Column("iqm", "interquartile mean", number),
        Column("improvement", "probability of improvement", percent),
    )
    overall = analysis.overall
    several = overall is not None and len(overall.games) > 1
    iqm = overall.iqm if overall is not None and several else {}
    improvement = overall.improvement if overall is not None else {}
    rows = [(arm, estimate, improvement.get(arm)) for arm, estimate in iqm.items()]
    return _table(analysis, "overall", columns, rows)


def _supernets(analysis: Analysis) -> Table:
    columns = (
        _GAME,
        _ARM,
        Column("iqm", "final return (95 % interval)", number),
        Column("spread", "sd between searches", number),
        Column("searches", "searches", whole),
        Column("steps", "steps", whole),
        Column("multiply_adds", "multiply-adds", whole),
        Column("parameters", "parameters", whole),
        Column("seconds", "minutes per search", minutes),
    )
    rows = [
        (name, arm.name, arm.iqm, arm.spread, len(arm.scores), *map(arm.mean, _COSTS))
        for name, arm in analysis.supernets
    ]
    return _table(analysis, "supernets", columns, rows)


def _time(analysis: Analysis) -> Table:
    from_scratch = [(game.name, arm) for game in analysis.games for arm in game.arms]
    arms = [*from_scratch, *analysis.supernets]
    parts = list(dict.fromkeys(part for _, arm in arms for part in arm.parts()))
    columns = (
        _GAME,
        _ARM,
        Column("seconds", "minutes per training", minutes),
        *(Column(f"seconds_{part}", part, percent) for part in parts),
    )
    rows = []
    for name, arm in arms:
        shares = arm.parts()
        seconds = arm.mean("seconds")
        rows.append((name, arm.name, seconds, *(shares.get(part) for part in parts)))
    return _table(analysis, "time", columns, rows if parts else [])


def _missing(analysis: Analysis) -> Table:
    columns = (Column("trial", "trial"), Column("state", "state"))
    return _table(analysis, "missing", columns, list(analysis.results.missing.items()))
