"""Run -> plots: returns over environment steps, and how a search came to prefer some ops.

    python -m rldarts_tf.pictures.plotting runs/seed0 runs/seed1 --output returns.png

Files are SVG or PNG, 1200 x 700 pixels. Nothing is smoothed. matplotlib is imported only when
something is drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RLDartsError, RunError, report_error
from rldarts_tf.files import PathLike, write_bytes
from rldarts_tf.pictures import drawing
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths, StagePaths
from rldarts_tf.runs.summary import read_summary, short_game
from rldarts_tf.search_space import NONE, edges, num_nodes_of

_FORMATS = (".svg", ".png")
_SIZE = (12.0, 7.0)  # inches
_DPI = 100
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "rldarts_tf",  # equal data make equal files
    "font.size": 13.0,
    "axes.labelsize": 13.0,
    "axes.titlesize": 14.0,
    "text.parse_math": False,  # a $ in the name of a run is a dollar
}
_INK = "#222222"
_GRID = "#e4e4e4"
_GREY = "#8c8c8c"
# So few values are single measurements rather than a course: each is marked.
_MARKED_UP_TO = 40
_LINE_STYLES = ("-", "-.", ":")
_REFERENCE_DASHES = ((6, 3), (2, 2), (9, 3, 2, 3))
_Y_LABELS = {
    "return_mean": "mean return, training episodes",
    "eval_train_return_mean": "mean return, evaluation on training levels",
    "eval_test_return_mean": "mean return, evaluation on unseen levels",
}


class _NoValuesError(RunError):
    """A table is sound, but has nothing of the column."""


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
    file_format = _format_of(path)
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
    """The content of the file that `plot_returns` writes, "svg" or "png"."""
    if not curves:
        raise RunError("curves: there is nothing to draw")
    bands = {label: _band(label, files, column) for label, files in curves.items()}
    if ylabel is None:
        ylabel = _Y_LABELS.get(column, column.replace("_", " "))
    with _matplotlib_style():
        return _content(_returns_figure(bands, title, ylabel, reference or {}), file_format)


def has_values(path: PathLike, column: str) -> bool:
    """Whether a metrics.csv has a value in a column."""
    try:
        _read_curve(path, column)
    except _NoValuesError:
        return False
    return True


def plot_op_weights(alphas_path: PathLike, path: PathLike) -> None:
    """Draws the softmax weight of each op, averaged over all edges of a cell, over a search.

    One panel per cell type, as in figure 3 (left) of RL-DARTS, but with the zero op. An op has the
    same colour in all panels.

    Args:
      alphas_path: the alphas.npz of a search.
      path: where the picture goes, *.svg or *.png; replaced in one step.

    Raises:
      RunError: alphas.npz is missing, damaged or without records; the picture's suffix is unknown
        or it cannot be written.
    """
    write_bytes(path, op_weights_picture(alphas_path, _format_of(path)))


def op_weights_picture(
    alphas_path: PathLike, file_format: str, changes: Sequence[int] = ()
) -> bytes:
    """The content of the file that `plot_op_weights` writes, "svg" or "png".

    Args:
      alphas_path: the alphas.npz of a search.
      file_format: "svg" or "png".
      changes: steps that are marked by a line, such as those at which the cell changed.
    """
    steps, weights = _mean_op_weights(alphas_path)
    with _matplotlib_style():
        return _content(_op_weights_figure(steps, weights, changes), file_format)


def edge_weights_picture(
    op_weights: Mapping[str, np.ndarray], ops: Mapping[str, Sequence[str]]
) -> bytes:
    """Draws the softmax weight of each op on each edge as a heat map; one panel per cell type.

    Args:
      op_weights: p, per cell type [E, |O|]: a row per edge in the order of
        `search_space.edge_row`.
      ops: per cell type the names of the ops.

    Returns:
      The content of a PNG file.
    """
    with _matplotlib_style():
        picture = _edge_weights_figure(op_weights, ops)
        return _content(picture, "png")


def format_steps(steps: float) -> str:
    """Returns a number of steps in short form: 500, 100K, 2.5M, 25M, 1B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(steps) >= size:
            return f"{steps / size:g}{unit}"
    return f"{steps:g}"


# --- data ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Band:
    """Seeds on one grid: steps [T], mean [T], standard deviation [T] (None for one seed)."""

    steps: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None
    num_seeds: int
    cut: bool  # a seed goes on after the last step that all seeds have


def _read_curve(path: PathLike, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps [T], strictly growing, and finite values [T], T >= 1."""
    table = read_metrics(path)
    if column not in table:
        raise _NoValuesError(
            f"{str(path)!r} has no column {column!r}; it has {', '.join(table) or 'none at all'}"
        )
    finite = np.isfinite(table[column])
    steps, values = table["step"][finite], table[column][finite].astype(np.float64)
    if not len(steps):
        raise _NoValuesError(f"{str(path)!r} has no value in column {column!r}")
    # unique keeps the first of equal entries: reversed, that is the last row.
    steps, rows = np.unique(steps[::-1], return_index=True)
    return steps, values[::-1][rows]


def _band(label: str, files: Sequence[PathLike], column: str) -> _Band:
    seeds = [_read_curve(file, column) for file in files]
    if not seeds:
        raise RunError(f"curves: {label!r} has no files")
    first = max(steps[0] for steps, _ in seeds)
    last = min(steps[-1] for steps, _ in seeds)
    if first > last:
        raise RunError(f"curves: the files of {label!r} have no range of steps in common")
    grid = np.unique(np.concatenate([steps for steps, _ in seeds]))
    grid = grid[(first <= grid) & (grid <= last)]
    values = np.stack([np.interp(grid, steps, column_values) for steps, column_values in seeds])
    return _Band(
        steps=grid,
        mean=values.mean(axis=0),
        deviation=values.std(axis=0, ddof=1) if len(seeds) > 1 else None,
        num_seeds=len(seeds),
        cut=any(steps[-1] > last for steps, _ in seeds),
    )


def _mean_op_weights(
    alphas_path: PathLike,
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Returns steps [T] and, per cell type and op, the mean weight over all edges [T]."""
    history = read_alphas(alphas_path)
    if not history:
        raise RunError(f"{str(alphas_path)!r} holds no records of α")
    weights = {
        # [T, E, |O|] -> [T] of each op: every edge counts the same.
        cell: dict(zip(history.ops[cell], p.mean(axis=1).T))
        for cell, p in history.op_weights().items()
    }
    return history.steps, weights


# --- pictures -----------------------------------------------------------------------------------


def _returns_figure(
    bands: Mapping[str, _Band],
    title: str | None,
    ylabel: str,
    reference: Mapping[str, float],
) -> Any:
    picture = _new_figure()
    axes = picture.subplots()
    palette = drawing._PALETTE
    for k, (label, band) in enumerate(bands.items()):
        colour = palette[k % len(palette)]
        seeds = f" ({band.num_seeds} seeds)" if band.num_seeds > 1 else ""
        axes.plot(
            band.steps,
            band.mean,
            color=colour,
            linewidth=2.0,
            linestyle=_LINE_STYLES[k // len(palette) % len(_LINE_STYLES)],
            marker=_marker(band.steps),
            markersize=5,
            label=label + seeds,
            zorder=3,
        )
        if band.deviation is not None:
            axes.fill_between(
                band.steps,
                band.mean - band.deviation,
                band.mean + band.deviation,
                color=colour,
                alpha=0.18,
                linewidth=0,
                zorder=2,
            )
    for k, (label, value) in enumerate(reference.items()):
        axes.axhline(
            value,
            color=_INK if k % 2 == 0 else _GREY,
            linewidth=1.5,
            linestyle=(0, _REFERENCE_DASHES[k % len(_REFERENCE_DASHES)]),
            label=f"{label}: {value:.3g}",
            zorder=2.5,
        )
    _finish_axes(axes, max(int(band.steps[-1]) for band in bands.values()))
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left", weight="bold", wrap=True)

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
        ncols=_num_columns(labels, width=105),
        frameon=False,
        title="; ".join(notes),
        handlelength=2.6,
    )
    legend.get_title().set(color="#5a5a5a", fontsize=11)
    return picture


def _op_weights_figure(
    steps: np.ndarray,
    weights: Mapping[str, Mapping[str, np.ndarray]],
    changes: Sequence[int] = (),
) -> Any:
    picture = _new_figure()
    panels = picture.subplots(1, len(weights), sharey=True, squeeze=False)[0]
    colours = drawing.op_colours({cell: list(ops) for cell, ops in weights.items()})
    for axes, (cell, ops) in zip(panels, weights.items()):
        for step in changes:
            axes.axvline(step, color=_GREY, linewidth=0.8, alpha=0.5, zorder=1)
        for op, values in ops.items():
            axes.plot(
                steps,
                values,
                color=_GREY if op == NONE else colours[op],
                linestyle=(0, (5, 3)) if op == NONE else "-",
                linewidth=1.8 if op == NONE else 2.2,
                marker=_marker(steps),
                markersize=4,
                label=op,
                zorder=2 if op == NONE else 3,
            )
        _finish_axes(axes, int(steps[-1]))
        axes.set_title(f"{cell} cell", loc="left", weight="bold")
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=_num_columns(list(ops), width=105 // len(weights)),
            frameon=False,
            handlelength=2.2,
        )
    panels[0].set_ylim(bottom=0.0)
    panels[0].set_ylabel("softmax weight, mean over all edges")
    return picture


def _edge_weights_figure(
    op_weights: Mapping[str, np.ndarray], ops: Mapping[str, Sequence[str]]
) -> Any:
    most = max(map(len, op_weights.values()))
    picture = _new_figure((5.5 * len(op_weights) + 1.0, 0.42 * most + 2.2))
    panels = picture.subplots(1, len(op_weights), squeeze=False)[0]
    for axes, (cell, weights) in zip(panels, op_weights.items()):
        rows = edges(num_nodes_of(len(weights)))
        image = axes.imshow(weights, vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
        for row, column in np.ndindex(*weights.shape):
            weight = weights[row, column]
            ink = "white" if weight > 0.6 else _INK
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", color=ink, size=11)
        axes.set_yticks(range(len(rows)), [f"{i or 'input'} → {j}" for i, j in rows])
        axes.set_xticks(range(len(ops[cell])), ops[cell], rotation=30, ha="right")
        axes.tick_params(length=0)
        # Lines where the next node begins.
        for row, (source, _) in enumerate(rows):
            if row and source == 0:
                axes.axhline(row - 0.5, color=_GREY, linewidth=1.0)
        axes.set_title(f"{cell} cell", loc="left", weight="bold")
    picture.colorbar(image, ax=list(panels), label="softmax weight")
    return picture


def _new_figure(size: tuple[float, float] = _SIZE) -> Any:
    from matplotlib import figure

    # Not pyplot: no window system, no global state.
    picture: Any = figure.Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    picture.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    return picture


def _finish_axes(axes: Any, last_step: int) -> None:
    from matplotlib import ticker

    # A little room, so that the last marker is whole.
    axes.set_xlim(0, max(last_step, 1) * 1.01)
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda step, _: format_steps(step)))
    axes.set_xlabel("environment steps")
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _marker(steps: np.ndarray) -> str:
    return "o" if len(steps) <= _MARKED_UP_TO else ""


def _num_columns(labels: Sequence[str], width: int) -> int:
    """How many columns a legend of about `width` characters can have."""
    widest = max(len(label) for label in labels) + 6  # the line before the text
    possible = max(1, min(len(labels), width // widest, 5))
    rows = math.ceil(len(labels) / possible)
    return math.ceil(len(labels) / rows)  # no column more than these rows need


def _format_of(path: PathLike) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise RunError(f"picture {str(path)!r}: its name must end in {' or '.join(_FORMATS)}")
    return suffix[1:]


def _matplotlib_style() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RunError(
            "plots cannot be drawn: install matplotlib (pip install rldarts_tf[report])"
        ) from error
    return matplotlib.rc_context(_STYLE)


def _content(picture: Any, file_format: str) -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if file_format == "svg" else {}
    picture.savefig(buffer, format=file_format, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


# --- command line -------------------------------------------------------------------------------


def _stage_files(run_dirs: Sequence[str], column: str) -> dict[str, list[Path]]:
    """Returns per stage the tables that have values in `column`, one per run."""
    found: dict[str, list[Path]] = {}
    without: list[_NoValuesError] = []
    seen = set()
    for run_dir in run_dirs:
        root = Path(run_dir)
        if not root.is_dir():
            raise RunError(f"run directory {run_dir!r} does not exist")
        if root.resolve() in seen:
            raise RunError(f"run directory {run_dir!r} is given twice")
        seen.add(root.resolve())
        any_table = StagePaths(Path("*")).metrics_path
        tables = sorted(root.glob(str(any_table)))
        if not tables:
            raise RunError(f"run directory {run_dir!r} has no stage with a {any_table.name}")
        for table in tables:
            try:
                _read_curve(table, column)
            except _NoValuesError as error:
                without.append(error)
            else:
                found.setdefault(table.parent.name, []).append(table)
    if not found:
        raise without[0]
    # A stage may not have begun to measure: worth a word, no reason to show nothing.
    for reason in without:
        print(f"left out: {reason}", file=sys.stderr)
    known = [stage for stage in TRAINED_STAGES if stage in found]
    return {stage: found[stage] for stage in [*known, *sorted(set(found).difference(known))]}


def _games(run_dirs: Sequence[str]) -> dict[str, str]:
    """The game of each stage, as far as summaries tell; the same in all runs."""
    found: dict[str, tuple[str, str]] = {}
    for run_dir in run_dirs:
        path = RunPaths(Path(run_dir)).summary_path
        if not path.exists():
            continue
        for stage, entry in read_summary(path)["stages"].items():
            if not isinstance(entry, dict) or not isinstance(entry.get("game"), str):
                continue
            game, other = found.setdefault(stage, (entry["game"], run_dir))
            if game != entry["game"]:
                raise RunError(
                    f"the runs are of different games: {game} ({other}), {entry['game']} "
                    f"({run_dir}); draw each game by itself"
                )
    return {stage: short_game(game) for stage, (game, _) in found.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rldarts_tf.pictures.plotting",
        description="Draws the returns of training runs over environment steps, one line per "
        "stage. Several run directories are seeds of the same experiment: the line is their mean, "
        "the band one standard deviation.",
        epilog="example:\n  python -m rldarts_tf.pictures.plotting runs/starpilot-0 "
        "runs/starpilot-1 --output returns.png\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="a run's --root_dir")
    parser.add_argument("--output", required=True, metavar="FILE", help="the picture, .png or .svg")
    parser.add_argument(
        "--column",
        default="return_mean",
        help="column of metrics.csv, e.g. eval_test_return_mean (default: %(default)s)",
    )
    return parser


def plot_run(run_dirs: Sequence[str], output: PathLike, column: str = "return_mean") -> None:
    """Draws a column of every stage of a run, or of several that differ in their seed.

    Args:
      run_dirs: run directories.
      output: the picture, .svg or .png.
      column: of metrics.csv.

    Raises:
      RLDartsError: an argument is not valid, a file is damaged, or there is nothing to draw.
    """
    _format_of(output)
    games = _games(run_dirs)
    files = _stage_files(run_dirs, column)
    distinct = list(dict.fromkeys(games.values()))
    several = len(distinct) > 1
    name = Path(run_dirs[0]).resolve().name if len(run_dirs) == 1 else None
    title = ", ".join(part for part in (*([] if several else distinct), name) if part)
    # A cell that was searched on some games may have been evaluated on another.
    curves = {f"{s} ({games[s]})" if several and s in games else s: f for s, f in files.items()}
    plot_returns(curves, output, title=title, column=column)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws what the command line asks for.

    Returns:
      The exit code: 0, or 2 for bad input, after one line on standard error.
    """
    arguments = _parser().parse_args(argv)
    try:
        plot_run(arguments.run_dirs, arguments.output, arguments.column)
    except RLDartsError as error:
        return report_error(error)
    print(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
