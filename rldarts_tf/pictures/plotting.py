"""Plots of runs: returns over environment steps, and how a search came to prefer some ops.

Files are SVG or PNG, 1200 x 700 pixels. Nothing is smoothed. matplotlib is imported only when
something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_bytes
from rldarts_tf.pictures import figures
from rldarts_tf.pictures.curves import Band, evaluation_label, read_band, stage_files, stage_games
from rldarts_tf.pictures.figures import GREY, GRID, INK, PALETTE
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.contribution_history import read_contributions
from rldarts_tf.runs.edge_history import EdgeHistory
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.space import NONE

STYLE = {"font_size": 13.0, "axes_labelsize": 13.0, "axes_titlesize": 14.0}
"""Settings of `figures.style` for plots."""

_SIZE = (12.0, 7.0)  # inches
_DPI = 100
# So few values are single measurements rather than a course: each is marked.
_MARKED_UP_TO = 40
_LINE_STYLES = ("-", "-.", ":")
_REFERENCE_DASHES = ((6, 3), (2, 2), (9, 3, 2, 3))
_LEGEND_CHARACTERS = 105  # that fit in the width of a picture
_Y_LABELS = {
    "return_mean": "mean return, training episodes",
    "eval_train_return_mean": "mean return, evaluation on training levels",
    "eval_test_return_mean": "mean return, evaluation",
}


def plot_run(run_dirs: Sequence[PathLike], output: PathLike, column: str = "return_mean") -> None:
    """Draws a column of every stage of a run, or of several that differ in their seed.

    Args:
      run_dirs: run directories.
      output: the picture, .svg or .png.
      column: column of metrics.csv.

    Raises:
      RunError: an argument is not valid, a file is damaged, or there is nothing to draw.
    """
    figures.format_of(output)
    games = stage_games(run_dirs)
    files = stage_files(run_dirs, column)
    distinct = list(dict.fromkeys(games.values()))
    several = len(distinct) > 1
    name = Path(run_dirs[0]).resolve().name if len(run_dirs) == 1 else None
    title = ", ".join(part for part in (*([] if several else distinct), name) if part)
    # A cell that was searched on some games may have been evaluated on another.
    curves = {f"{s} ({games[s]})" if several and s in games else s: f for s, f in files.items()}
    plot_returns(curves, output, title, column, evaluation_label(run_dirs, column))


def plot_returns(
    curves: Mapping[str, Sequence[PathLike]],
    path: PathLike,
    title: str | None = None,
    column: str = "return_mean",
    ylabel: str | None = None,
    reference: Mapping[str, float] | None = None,
) -> None:
    """Draws a column of metrics.csv over environment steps: per label the mean over its seeds.

    Seeds are interpolated linearly on the union of their steps. Mean and band (one sample standard
    deviation to either side) cover the steps that all seeds of the label have, so that no seed's
    beginning or end makes a jump. Rows where the column is empty or not finite are skipped; of
    rows with equal steps the last one counts.

    Args:
      curves: per label the metrics.csv files of its seeds; one file makes a line without a band.
      path: where the picture goes, *.svg or *.png; replaced in one step.
      title: the line above.
      column: the column to draw.
      ylabel: text at the vertical axis; by default made from the column.
      reference: per label a value, drawn as a dashed horizontal line (say, of a random policy).

    Raises:
      RunError: a file is missing, damaged, or has no value in the column; the seeds of a label
        have no steps in common; the picture's suffix is unknown or it cannot be written.
    """
    file_format = figures.format_of(path)
    content = returns_picture(curves, file_format, title, column, ylabel, reference)
    write_bytes(path, content)


def returns_picture(
    curves: Mapping[str, Sequence[PathLike]],
    file_format: str,
    title: str | None = None,
    column: str = "return_mean",
    ylabel: str | None = None,
    reference: Mapping[str, float] | None = None,
) -> bytes:
    """Returns the content of the file that `plot_returns` writes, "svg" or "png"."""
    if not curves:
        raise RunError("curves: there is nothing to draw")
    bands = {label: read_band(label, files, column) for label, files in curves.items()}
    if ylabel is None:
        ylabel = _Y_LABELS.get(column, column.replace("_", " "))
    with figures.style(**STYLE):
        picture = _returns_figure(bands, title, ylabel, reference or {})
        return figures.encode(picture, file_format)


def plot_search(run_dir: PathLike, output: PathLike) -> None:
    """Draws the op weights of a run's search, and contributions where they were recorded.

    Args:
      run_dir: a run directory.
      output: the picture, .svg or .png.

    Raises:
      RunError: see `plot_op_weights`.
    """
    search = RunPaths(Path(run_dir)).stage("search")
    plot_op_weights(search.alphas_path, output, search.contributions_path)


def plot_op_weights(
    alphas_path: PathLike, path: PathLike, contributions_path: PathLike | None = None
) -> None:
    """Draws the softmax weight of each op, averaged over all edges of a cell, over a search.

    One panel per cell type, as in figure 3 (left) of RL-DARTS, but with the zero op. An op has the
    same colour in all panels. Panels of what ops contribute are below.

    Args:
      alphas_path: the alphas.npz of a search.
      path: where the picture goes, *.svg or *.png; replaced in one step.
      contributions_path: its contributions.npz; no such file: none were recorded.

    Raises:
      RunError: alphas.npz is missing, damaged or without records, or contributions.npz is damaged;
        the picture's suffix is unknown or it cannot be written.
    """
    file_format = figures.format_of(path)
    recorded = contributions_path is not None and Path(contributions_path).exists()
    shown = contributions_path if recorded else None
    write_bytes(path, op_weights_picture(alphas_path, file_format, contributions_path=shown))


def op_weights_picture(
    alphas_path: PathLike,
    file_format: str,
    changes: Sequence[int] = (),
    contributions_path: PathLike | None = None,
) -> bytes:
    """Returns the content of the file that `plot_op_weights` writes, "svg" or "png".

    Args:
      alphas_path: the alphas.npz of a search.
      file_format: "svg" or "png".
      changes: steps that are marked by a line, such as those at which the cell changed.
      contributions_path: the contributions.npz of the search; None for p alone.
    """
    history = read_alphas(alphas_path)
    if not history:
        raise RunError(f"{str(alphas_path)!r} holds no records of α")
    label = "softmax weight, mean over all edges"
    rows = {label: (history.steps, _means(history, history.op_weights()))}
    if contributions_path is not None:
        measured = read_contributions(contributions_path)
        if measured:
            label = "contribution, mean over all edges"
            rows[label] = (measured.steps, _means(measured, measured.values))
    with figures.style(**STYLE):
        return figures.encode(_op_weights_figure(rows, changes), file_format)


def _means(
    history: EdgeHistory, values: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """[T, E, |O|] per cell type -> [T] of each op: every edge counts the same."""
    return {
        cell: dict(zip(history.ops[cell], of_cell.mean(axis=1).T))
        for cell, of_cell in values.items()
    }


def edge_weights_picture(
    op_weights: Mapping[str, np.ndarray],
    ops: Mapping[str, Sequence[str]],
    edges: Sequence[tuple[int, int]],
    label: str = "softmax weight",
) -> bytes:
    """Draws the weight of each op on each edge as a heat map; one panel per cell type.

    Args:
      op_weights: p, per cell type [E, |O|].
      ops: per cell type the names of the ops.
      edges: (i, j) of each row.
      label: what is drawn, if it is something else.

    Returns:
      The content of a PNG file.
    """
    with figures.style(**STYLE):
        return figures.encode(_edge_weights_figure(op_weights, ops, edges, label), "png")


def format_steps(steps: float) -> str:
    """Returns a number of steps in short form: 500, 100K, 2.5M, 25M, 1B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(steps) >= size:
            return f"{steps / size:g}{unit}"
    return f"{steps:g}"


def new_figure(size: tuple[float, float] = _SIZE) -> Any:
    """Returns a figure of width and height in inches whose axes make room for all texts."""
    picture = figures.new_figure(*size, _DPI, layout="constrained")
    picture.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    return picture


def plain_axes(axes: Any) -> None:
    """Gives axes a pale grid behind the lines, and no frame at the top and on the right."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _returns_figure(
    bands: Mapping[str, Band], title: str | None, ylabel: str, reference: Mapping[str, float]
) -> Any:
    picture = new_figure()
    axes = picture.subplots()
    for k, (label, band) in enumerate(bands.items()):
        seeds = f" ({band.num_seeds} seeds)" if band.num_seeds > 1 else ""
        style = _LINE_STYLES[k // len(PALETTE) % len(_LINE_STYLES)]
        draw_band(axes, label + seeds, band, PALETTE[k % len(PALETTE)], style)
    for k, (label, value) in enumerate(reference.items()):
        axes.axhline(
            value,
            color=INK if k % 2 == 0 else GREY,
            linewidth=1.5,
            linestyle=(0, _REFERENCE_DASHES[k % len(_REFERENCE_DASHES)]),
            label=f"{label}: {value:.3g}",
            zorder=2.5,
        )
    finish_axes(axes, max(int(band.steps[-1]) for band in bands.values()))
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left", weight="bold", wrap=True)
    _add_legend(picture, axes, bands)
    return picture


def draw_band(axes: Any, label: str, band: Band, colour: str, linestyle: str = "-") -> None:
    """Draws a line, and the deviation of its seeds around it."""
    axes.plot(
        band.steps,
        band.mean,
        color=colour,
        linewidth=2.0,
        linestyle=linestyle,
        marker=_marker(band.steps),
        markersize=5,
        label=label,
        zorder=3,
    )
    if band.deviation is not None:
        low, high = band.mean - band.deviation, band.mean + band.deviation
        axes.fill_between(band.steps, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)


def _add_legend(picture: Any, axes: Any, bands: Mapping[str, Band]) -> None:
    """Names the lines below the axes, and says what the bands are."""
    notes = []
    if any(band.deviation is not None for band in bands.values()):
        notes.append("mean and one standard deviation over seeds")
    if any(band.cut for band in bands.values()):
        notes.append("up to the last step that all seeds of a line have")
    lines, labels = axes.get_legend_handles_labels()
    legend = picture.legend(
        lines,
        labels,
        loc="outside lower center",
        ncols=num_columns(labels, _LEGEND_CHARACTERS),
        frameon=False,
        title="; ".join(notes),
        handlelength=2.6,
    )
    legend.get_title().set(color="#5a5a5a", fontsize=11)


def _op_weights_figure(
    rows: Mapping[str, tuple[np.ndarray, Mapping[str, Mapping[str, np.ndarray]]]],
    changes: Sequence[int],
) -> Any:
    """A row of panels by the label of its axis: (steps, values of each op by cell type)."""
    width, height = _SIZE
    picture = new_figure((width, height * len(rows)))
    most = max(len(weights) for _, weights in rows.values())
    grid = picture.subplots(len(rows), most, sharey="row", squeeze=False)
    for panels, (label, (steps, weights)) in zip(grid, rows.items()):
        _draw_ops(panels, steps, weights, changes)
        panels[0].set_ylim(bottom=0.0)
        panels[0].set_ylabel(label)
    return picture


def _draw_ops(
    panels: Sequence[Any],
    steps: np.ndarray,
    weights: Mapping[str, Mapping[str, np.ndarray]],
    changes: Sequence[int],
) -> None:
    """Draws a line for each op; a panel per cell type."""
    colours = figures.op_colours({cell: list(ops) for cell, ops in weights.items()})
    for axes, (cell, ops) in zip(panels, weights.items()):
        for step in changes:
            axes.axvline(step, color=GREY, linewidth=0.8, alpha=0.5, zorder=1)
        for op, values in ops.items():
            axes.plot(
                steps,
                values,
                color=GREY if op == NONE else colours[op],
                linestyle=(0, (5, 3)) if op == NONE else "-",
                linewidth=1.8 if op == NONE else 2.2,
                marker=_marker(steps),
                markersize=4,
                label=op,
                zorder=2 if op == NONE else 3,
            )
        finish_axes(axes, int(steps[-1]))
        axes.set_title(f"{cell} cell", loc="left", weight="bold")
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=num_columns(list(ops), _LEGEND_CHARACTERS // len(weights)),
            frameon=False,
            handlelength=2.2,
        )


def _edge_weights_figure(
    op_weights: Mapping[str, np.ndarray],
    ops: Mapping[str, Sequence[str]],
    edges: Sequence[tuple[int, int]],
    label: str,
) -> Any:
    most = max(map(len, op_weights.values()))
    picture = new_figure((5.5 * len(op_weights) + 1.0, 0.42 * most + 2.2))
    panels = picture.subplots(1, len(op_weights), squeeze=False)[0]
    for axes, (cell, weights) in zip(panels, op_weights.items()):
        image = axes.imshow(
            weights, vmin=0.0, vmax=max(1.0, weights.max()), cmap="Blues", aspect="auto"
        )
        for row, column in np.ndindex(*weights.shape):
            weight = weights[row, column]
            ink = "white" if weight > 0.6 else INK
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=ink, size=11)
        axes.set_yticks(range(len(edges)), [f"{i or 'input'} → {j}" for i, j in edges])
        axes.set_xticks(range(len(ops[cell])), ops[cell], rotation=30, ha="right")
        axes.tick_params(length=0)
        # Lines where the next node begins.
        for row, ((_, before), (_, target)) in enumerate(zip(edges, edges[1:]), start=1):
            if target != before:
                axes.axhline(row - 0.5, color=GREY, linewidth=1.0)
        axes.set_title(f"{cell} cell", loc="left", weight="bold")
    picture.colorbar(image, ax=list(panels), label=label)
    return picture


def finish_axes(axes: Any, last_step: int) -> None:
    """Gives axes of environment steps their range, ticks, label and grid."""
    from matplotlib import ticker

    # A little room, so that the last marker is whole.
    axes.set_xlim(0, max(last_step, 1) * 1.01)
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda step, _: format_steps(step)))
    axes.set_xlabel("environment steps")
    plain_axes(axes)


def _marker(steps: np.ndarray) -> str:
    return "o" if len(steps) <= _MARKED_UP_TO else ""


def num_columns(labels: Sequence[str], width: int) -> int:
    """Returns how many columns a legend of about `width` characters can have."""
    widest = max(len(label) for label in labels) + 6  # the line before the text
    possible = max(1, min(len(labels), width // widest, 5))
    rows = math.ceil(len(labels) / possible)
    return math.ceil(len(labels) / rows)  # no column more than these rows need
