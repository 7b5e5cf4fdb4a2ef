"""What a figure shows of one game: functions that draw on its axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.pictures.curves import has_values, read_band
from rldarts_tf.pictures.figures import GREY, INK, PALETTE
from rldarts_tf.pictures.plotting import draw_band, finish_axes, plain_axes
from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.findings import Game
from rldarts_tf.studies.results import RANDOM
from rldarts_tf.studies.statistics.differences import architecture_means
from rldarts_tf.studies.statistics.pareto import front

MARKERS = "osD^vPX*"
RETURN = "final return"


def colours(analysis: Analysis) -> dict[str, str]:
    """A colour for each arm, the same in all figures."""
    others = [arm for arm in analysis.arms if arm != RANDOM]
    return {RANDOM: GREY, **{arm: PALETTE[k % len(PALETTE)] for k, arm in enumerate(others)}}


def markers(analysis: Analysis) -> dict[str, str]:
    """A marker for each arm, the same in all figures."""
    return {arm: MARKERS[k % len(MARKERS)] for k, arm in enumerate(analysis.arms)}


def draw_scores(analysis: Analysis, game: Game, axes: Any) -> None:
    """Histogram of random cells and every cell as a mark (Figures 9 and 18 of RL-DARTS)."""
    colour_of, marker_of = colours(analysis), markers(analysis)
    rows = [arm for arm in game.arms if arm.name not in analysis.baselines]
    top = 1.0
    for k, arm in enumerate(rows):
        means = architecture_means(arm.scores.values)
        if arm.name == RANDOM:
            bins = min(20, max(5, len(means) // 2))
            counts, _, _ = axes.hist(means, bins=bins, color=GREY, alpha=0.35, zorder=2)
            top = float(max(counts))
        height = np.full(len(means), -0.09 * top * (k + 1))
        is_random = arm.name == RANDOM
        axes.scatter(
            means,
            height,
            s=70 if is_random else 64,
            color=colour_of[arm.name],
            marker="|" if is_random else marker_of[arm.name],
            edgecolors=None if is_random else "white",
            label=f"{arm.name} cells",
            zorder=4,
        )
    for name in analysis.baselines:
        baseline = game.arm(name)
        if baseline is not None:
            mean = float(architecture_means(baseline.scores.values).mean())
            axes.axvline(
                mean,
                color=colour_of[name],
                linestyle=(0, (5, 3)),
                linewidth=1.8,
                label=name,
                zorder=3,
            )
    axes.set_ylim(-0.09 * top * (len(rows) + 1), 1.08 * top)
    counted = game.arm(RANDOM) is not None
    ticks = [tick for tick in axes.get_yticks() if 0 <= tick <= top and tick == round(tick)]
    axes.set_yticks(ticks if counted else [])
    axes.set_ylabel("random cells" if counted else "")
    axes.set_xlabel(RETURN)
    plain_axes(axes)


def draw_curves(analysis: Analysis, game: Game, axes: Any) -> None:
    """Training returns over steps, with a band over the trainings of an arm."""
    colour_of = colours(analysis)
    last = 0
    for arm in game.arms:
        files = [r.curve for r in arm.results if has_values(r.curve, "return_mean")]
        try:
            band = read_band(arm.name, files, "return_mean")
        except RunError:  # no episode has ended in any of them, or at no common step
            continue
        draw_band(axes, arm.name, band, colour_of[arm.name])
        last = max(last, int(band.steps[-1]))
    finish_axes(axes, last)
    axes.set_ylabel("training return")


def draw_costs(analysis: Analysis, game: Game, axes: Any) -> None:
    """Final return against multiply-adds, and the Pareto front."""
    points = np.concatenate([arm.points for arm in game.arms])
    best = points[front(*points.T)]
    axes.step(*best.T, where="post", color=INK, linewidth=1.0, label="not dominated", zorder=1)
    for arm in game.arms:
        axes.scatter(
            *arm.points.T,
            s=22 if arm.name == RANDOM else 64,
            color=colours(analysis)[arm.name],
            marker=markers(analysis)[arm.name],
            edgecolors="white",
            linewidths=0.6,
            label=arm.name,
            zorder=2 if arm.name == RANDOM else 3,
        )
    axes.set_xlabel("multiply-adds, millions")
    axes.set_ylabel(RETURN)
    plain_axes(axes)


def draw_trajectory(analysis: Analysis, game: Game, axes: Any) -> None:
    """Final returns of the cells along searches against the step at which they appeared."""
    last = 0
    for k, (search, cells) in enumerate(analysis.trajectories(game).items()):
        means = [float(np.nanmean(cell.scores)) for cell in cells]
        errors = [float(np.nanstd(cell.scores)) for cell in cells]
        steps = [cell.step for cell in cells]
        colour = PALETTE[k % len(PALETTE)]
        axes.errorbar(
            steps, means, errors, color=colour, marker="o", markersize=5, capsize=3, label=search
        )
        last = max(last, *steps)
    for name in analysis.baselines:
        baseline = game.arm(name)
        if baseline is not None:
            axes.axhline(baseline.mean("final_return"), color=GREY, linestyle="--", label=name)
    finish_axes(axes, last)
    axes.set_xlabel("environment steps of the search")
    axes.set_ylabel(RETURN)
