"""Statistics of a study -> its figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.pictures import figures
from rldarts_tf.pictures.curves import has_values, read_band
from rldarts_tf.pictures.figures import GREY, INK, PALETTE
from rldarts_tf.pictures.plotting import STYLE, draw_band, finish_axes, new_figure, plain_axes
from rldarts_tf.studies.report.analysis import Analysis, Arm, Game
from rldarts_tf.studies.report.captions import heading
from rldarts_tf.studies.results import RANDOM
from rldarts_tf.studies.statistics.aggregates import profile
from rldarts_tf.studies.statistics.differences import architecture_means

_PANEL = (5.2, 3.9)  # inches
_MOST_COLUMNS = 3
_MARKERS = "osD^vPX*"
_THRESHOLDS = 101
_RETURN = "final return"


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
            drawn.append(("scores", _panels(analysis, analysis.games, _scores)))
            drawn.append(("curves", _panels(analysis, analysis.games, _curves)))
        if analysis.overall is not None:
            drawn.append(("profiles", _profiles(analysis)))
        if any(len(pairs) > 1 for pairs in analysis.pairs.values()):
            drawn.append(("supernet_and_cell", _supernets(analysis)))
        if analysis.games:
            drawn.append(("cost", _panels(analysis, analysis.games, _costs)))
        return [
            Figure(name, *heading(name, **words), figures.encode(picture, "png"))
            for name, picture in drawn
        ]


def _colours(analysis: Analysis) -> dict[str, str]:
    """A colour for each arm, the same in all figures."""
    others = [arm for arm in analysis.arms if arm != RANDOM]
    return {RANDOM: GREY, **{arm: PALETTE[k % len(PALETTE)] for k, arm in enumerate(others)}}


def _markers(analysis: Analysis) -> dict[str, str]:
    return {arm: _MARKERS[k % len(_MARKERS)] for k, arm in enumerate(analysis.arms)}


def _panels(
    analysis: Analysis, games: Sequence[Game], draw_game: Callable[[Analysis, Game, Any], None]
) -> Any:
    """A panel for each game, and one legend for all."""
    columns = min(_MOST_COLUMNS, len(games))
    rows = math.ceil(len(games) / columns)
    # A single panel has room to the side, so that the legend fits below.
    width = max(_PANEL[0] * columns, 8.0)
    picture = new_figure((width, _PANEL[1] * rows + 0.6))
    panels = picture.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(games) :]:
        axes.set_visible(False)
    for axes, game in zip(panels, games):
        draw_game(analysis, game, axes)
        axes.set_title(game.name, loc="left", weight="bold")
    _legend(picture, panels[: len(games)])
    return picture


def _legend(picture: Any, panels: Sequence[Any]) -> None:
    """Names what has a label in any of the panels, once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    picture.legend(
        found.values(), found, loc="outside lower center", ncols=min(len(found), 6), frameon=False
    )


def _scores(analysis: Analysis, game: Game, axes: Any) -> None:
    """Histogram of random cells and every cell as a mark (Figures 9 and 18 of RL-DARTS)."""
    colours, markers = _colours(analysis), _markers(analysis)
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
            color=colours[arm.name],
            marker="|" if is_random else markers[arm.name],
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
                color=colours[name],
                linestyle=(0, (5, 3)),
                linewidth=1.8,
                label=name,
                zorder=3,
            )
    axes.set_ylim(-0.09 * top * (len(rows) + 1), 1.08 * top)
    ticks = [tick for tick in axes.get_yticks() if 0 <= tick <= top and tick == round(tick)]
    axes.set_yticks(ticks)
    axes.set_ylabel("random cells" if game.arm(RANDOM) else "")
    axes.set_xlabel(_RETURN)
    plain_axes(axes)


def _curves(analysis: Analysis, game: Game, axes: Any) -> None:
    colours = _colours(analysis)
    last = 0
    for arm in game.arms:
        files = [r.curve for r in arm.results if has_values(r.curve, "return_mean")]
        try:
            band = read_band(arm.name, files, "return_mean")
        except RunError:  # no episode has ended in any of them, or at no common step
            continue
        draw_band(axes, arm.name, band, colours[arm.name])
        last = max(last, int(band.steps[-1]))
    finish_axes(axes, last)
    axes.set_ylabel("training return")


def _costs(analysis: Analysis, game: Game, axes: Any) -> None:
    for arm, points in _points(game):
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=22 if arm.name == RANDOM else 64,
            color=_colours(analysis)[arm.name],
            marker=_markers(analysis)[arm.name],
            edgecolors="white",
            linewidths=0.6,
            label=arm.name,
            zorder=2 if arm.name == RANDOM else 3,
        )
    axes.set_xlabel("multiply-adds, millions")
    axes.set_ylabel(_RETURN)
    plain_axes(axes)


def _points(game: Game) -> Iterator[tuple[Arm, np.ndarray]]:
    """Arms, and millions of multiply-adds and mean return of their architectures [k, 2]."""
    for arm in game.arms:
        costs = {r.trial.architecture: r.multiply_adds / 1e6 for r in arm.results}
        means = architecture_means(arm.scores.values)
        yield arm, np.array([[costs[a], m] for a, m in zip(arm.scores.architectures, means)])


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
        colour = _colours(analysis)[name]
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
    for marker, (arm, pairs) in zip(_MARKERS * len(analysis.pairs), analysis.pairs.items()):
        for game in games:
            own = [(pair.supernet, pair.cell) for pair in pairs if pair.game == game]
            colour = PALETTE[games.index(game) % len(PALETTE)]
            label = game if len(analysis.pairs) == 1 else f"{game}, {arm}"
            if own:
                axes.scatter(
                    *zip(*own), s=64, color=colour, marker=marker, edgecolors="white", label=label
                )
    divided = f" / {analysis.baselines[0]}" if analysis.baselines else ""
    axes.set_xlabel(f"{_RETURN} of the supernet{divided}")
    axes.set_ylabel(f"{_RETURN} of its cell{divided}")
    if divided:
        axes.axhline(1, color=INK, linewidth=1.0, linestyle=(0, (5, 3)))
    plain_axes(axes)
    _legend(picture, [axes])
    return picture
