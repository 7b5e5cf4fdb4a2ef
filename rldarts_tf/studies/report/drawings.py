"""Statistics of a study -> its figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rldarts_tf.pictures import figures
from rldarts_tf.pictures.figures import INK, PALETTE
from rldarts_tf.pictures.plotting import (
    STYLE,
    new_figure,
    num_columns,
    plain_axes,
)
from rldarts_tf.studies.report import panels
from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.captions import heading
from rldarts_tf.studies.report.findings import Game
from rldarts_tf.studies.report.panels import MARKERS, RETURN, colours
from rldarts_tf.studies.statistics.aggregates import profile

_PANEL = (5.2, 3.9)  # inches
_MOST_COLUMNS = 3
_THRESHOLDS = 101
_CHARACTERS_PER_INCH = 8  # of a legend


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with its text.

    Attributes:
      name: of its PNG file.
      title: the line above.
      caption: the text below, with the number of seeds.
      content: of the PNG file.
    """

    name: str
    title: str
    caption: str
    content: bytes


def draw(analysis: Analysis, words: Mapping[str, str]) -> list[Figure]:
    """Draws the figures that there are results for.

    Args:
      analysis: the statistics.
      words: what captions say of the study.
    """
    drawn: list[tuple[str, Any]] = []
    with figures.style(**STYLE):
        if analysis.games:
            drawn.append(("scores", _panels(analysis, analysis.games, panels.draw_scores)))
            drawn.append(("curves", _panels(analysis, analysis.games, panels.draw_curves)))
        if analysis.overall is not None:
            drawn.append(("profiles", _profiles(analysis)))
        if any(len(pairs) > 1 for pairs in analysis.pairs.values()):
            drawn.append(("supernet_and_cell", _supernets(analysis)))
        if analysis.games:
            drawn.append(("cost", _panels(analysis, analysis.games, panels.draw_costs)))
        along = [game for game in analysis.games if analysis.trajectories(game)]
        if along:
            drawn.append(("trajectory", _panels(analysis, along, panels.draw_trajectory)))
        return [
            Figure(name, *heading(name, **words), figures.encode(picture, "png"))
            for name, picture in drawn
        ]


def _panels(
    analysis: Analysis, games: Sequence[Game], draw_game: Callable[[Analysis, Game, Any], None]
) -> Any:
    """A panel for each game, and one legend for all."""
    columns = min(_MOST_COLUMNS, len(games))
    rows = math.ceil(len(games) / columns)
    # A single panel has room to the side, so that the legend fits below.
    width = max(_PANEL[0] * columns, 8.0)
    picture = new_figure((width, _PANEL[1] * rows + 0.6))
    grid = picture.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(games) :]:
        axes.set_visible(False)
    for axes, game in zip(grid, games):
        draw_game(analysis, game, axes)
        axes.set_title(game.name, loc="left", weight="bold")
    _legend(picture, grid[: len(games)])
    return picture


def _legend(picture: Any, grid: Sequence[Any]) -> None:
    """Names what has a label in any of the panels, once."""
    found: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    if not found:
        return  # No training was long enough for a curve.
    columns = num_columns([*found], int(_CHARACTERS_PER_INCH * picture.get_figwidth()))
    picture.legend(found.values(), found, loc="outside lower center", ncols=columns, frameon=False)


def _profiles(analysis: Analysis) -> Any:
    overall = analysis.overall
    assert overall is not None
    values = np.concatenate([t[np.isfinite(t)] for ts in overall.scores.values() for t in ts])
    # The lowest and the highest score are in the picture, whatever an outlier does to its scale.
    margin = 0.03 * (np.ptp(values) or 1.0)
    thresholds = np.linspace(values.min() - margin, values.max() + margin, _THRESHOLDS)
    picture = new_figure((9.0, 5.4))
    axes = picture.subplots()
    for name, tables in overall.scores.items():
        colour = colours(analysis)[name]
        shares, low, high = profile(tables, thresholds)
        axes.plot(thresholds, shares, color=colour, linewidth=2.0, label=name, zorder=3)
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
    axes.set_xlabel(overall.scale.replace("returns", "score τ: returns", 1))
    axes.set_ylabel("share of trainings above τ")
    axes.set_ylim(0, 1.02)
    plain_axes(axes)
    _legend(picture, [axes])
    return picture


def _supernets(analysis: Analysis) -> Any:
    picture = new_figure((9.0, 5.6))
    axes = picture.subplots()
    games = list(dict.fromkeys(pair.game for pairs in analysis.pairs.values() for pair in pairs))
    for marker, (arm, pairs) in zip(MARKERS * len(analysis.pairs), analysis.pairs.items()):
        for game in games:
            own = [(pair.supernet, pair.cell) for pair in pairs if pair.game == game]
            colour = PALETTE[games.index(game) % len(PALETTE)]
            label = game if len(analysis.pairs) == 1 else f"{game}, {arm}"
            if own:
                axes.scatter(
                    *zip(*own), s=64, color=colour, marker=marker, edgecolors="white", label=label
                )
    divided = f" / {analysis.baselines[0]}" if analysis.baselines else ""
    axes.set_xlabel(f"{RETURN} of the supernet{divided}")
    axes.set_ylabel(f"{RETURN} of its cell{divided}")
    if divided:
        axes.axhline(1, color=INK, linewidth=1.0, linestyle=(0, (5, 3)))
    plain_axes(axes)
    _legend(picture, [axes])
    return picture
