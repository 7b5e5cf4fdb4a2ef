"""Runs -> one HTML file that needs nothing else: no network, no other files, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_text
from rldarts_tf.genotype import Genotype
from rldarts_tf.pictures import drawing, plotting
from rldarts_tf.pictures.curves import has_values
from rldarts_tf.pictures.report import data
from rldarts_tf.pictures.report.rendering import embedded, render
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES

_MOST_CELLS = 18
_LARGEST_VIDEO = 8_000_000  # bytes; a page that is mailed stays smaller than most limits
_COLUMNS = (("return_mean", "training episodes"), ("eval_test_return_mean", "evaluations"))
_STAGE_NAMES = {"search": "supernet", "evaluate": "cell", "baseline": "baseline"}


def write_report(run_dirs: Sequence[PathLike], output: PathLike) -> None:
    """Writes a report of one run or several.

    Runs that differ in nothing but their seed are shown as one line with a band.

    Args:
      run_dirs: run directories, finished or not.
      output: the HTML file; replaced in one step.

    Raises:
      RunError: a directory is no run, is given twice, or the file cannot be written.
    """
    write_text(output, make_page(run_dirs))


def make_page(run_dirs: Sequence[PathLike]) -> str:
    """Returns the content of the file that `write_report` writes."""
    roots = [Path(run_dir) for run_dir in run_dirs]
    if len({root.resolve() for root in roots}) != len(roots):
        raise RunError("a run directory is given twice")
    runs = [data.read_run(root) for root in roots]
    groups = data.group(runs)
    sections = [_group(members) for members in groups]
    rows = [row for section in sections for row in section["rows"]]
    return render(
        __name__,
        "page.html.j2",
        title=", ".join(dict.fromkeys(run.game for run in runs)),
        groups=sections,
        several_games=len({row["game"] for row in rows}) > 1,
        taught=any(row["teacher"] for row in rows),
        differing=data.differing_settings(groups),
        returns=_returns(groups),
        runs=[_run(run) for run in runs],
    )


def _group(members: Sequence[data.Run]) -> dict[str, Any]:
    return {
        "label": _label(members),
        "names": [run.name for run in members],
        "rows": [row for run in members for row in _rows(run)],
    }


def _label(members: Sequence[data.Run]) -> str:
    if len(members) == 1:
        return members[0].name
    return f"{members[0].name} and {len(members) - 1} more"


def _rows(run: data.Run) -> list[dict[str, Any]]:
    """Returns the table of results: a row for each stage that has begun."""
    rows = []
    for stage in TRAINED_STAGES:
        entry = run.results.get(stage)
        if entry is None and stage in run.metrics:
            # It has not ended yet: its metrics are all there is.
            metrics = read_metrics(run.metrics[stage])
            entry = {
                "exit_state": "running or stopped",
                "env_steps": int(metrics["step"][-1]),
                "wall_time_s": float(metrics["wall_time"][-1]),
                "return_mean": float(metrics["return_mean"][-1]),
            }
        if entry is None:
            continue
        rows.append(
            {
                "run": run.name,
                "stage": stage,
                "game": run.games.get(stage, ""),
                "state": entry.get("exit_state", "?"),
                "encoder": entry.get("encoder", ""),
                "teacher": entry.get("teacher", ""),
                "seed": entry.get("seed", ""),
                "steps": _number(entry.get("env_steps"), ",.0f"),
                "return": _number(entry.get("return_mean")),
                "evaluation": _with_deviation(entry, "eval_test_return"),
                "normalized": _number(entry.get("eval_test_return_mean_normalized")),
                "parameters": _number(entry.get("parameters"), ",.0f"),
                "multiply_adds": _number(entry.get("multiply_adds"), ",.0f"),
                "hours": _duration(entry.get("wall_time_s")),
                "speed": _number(entry.get("env_steps_per_second"), ",.1f"),
            }
        )
    return rows


def _returns(groups: Sequence[Sequence[data.Run]]) -> list[dict[str, str]]:
    """Pictures of returns: one per column that has values, a line per group and stage."""
    pictures = []
    for column, what in _COLUMNS:
        curves: dict[str, list[Path]] = {}
        for members in groups:
            for stage in TRAINED_STAGES:
                shown = [
                    run
                    for run in members
                    if stage in run.metrics and has_values(run.metrics[stage], column)
                ]
                if shown:
                    name = _STAGE_NAMES[stage]
                    games = members[0].games
                    if len(set(games.values())) > 1 and stage in games:
                        name = f"{name} ({games[stage]})"
                    label = name if len(groups) == 1 else f"{_label(shown)}: {name}"
                    curves[label] = [run.metrics[stage] for run in shown]
        if curves:
            picture = plotting.returns_picture(curves, "svg", column=column)
            pictures.append({"caption": f"Returns of {what}", "source": embedded(picture)})
    return pictures


def _run(run: data.Run) -> dict[str, Any]:
    """Returns the data of a run's section in the template."""
    weights = None
    if run.alphas is not None:
        changes = [step for step, _ in run.genotypes[1:]]
        picture = plotting.op_weights_picture(run.alphas, "svg", changes, run.contributions)
        weights = embedded(picture)
    evolution = data.spans(run) if run.genotypes and "search" in run.metrics else []
    shown = data.chosen(evolution, _MOST_CELLS)
    last = max((end for _, end, _ in evolution), default=0) or 1
    return {
        "name": run.name,
        "game": run.game,
        "path": str(run.root),
        "problems": run.problems,
        "weights": weights,
        "contributions": run.contributions is not None,
        "num_cells": len(evolution),
        "axis": [
            {"left": 100 * begin / last, "width": 100 * (end - begin) / last, "begin": begin}
            for begin, end, _ in evolution
        ],
        "evolution": [
            {
                "begin": begin,
                "end": end,
                "left": 100 * begin / last,
                "cells": _cells(genotype),
                "text": genotype_text(genotype),
            }
            for begin, end, genotype in shown
        ],
        "heading": "The cell found" if evolution else "The cell",
        "videos": [_video(stage, path) for stage, path in run.videos.items()],
        "cells": _cells(run.genotype) if run.genotype is not None else [],
        "text": genotype_text(run.genotype) if run.genotype is not None else "",
        "settings": list(run.settings.items()),
        "versions": list(run.versions.items()),
    }


def _cells(genotype: Genotype) -> list[dict[str, str]]:
    pictures = drawing.cell_pictures(genotype, "svg")
    return [{"name": name, "source": embedded(content)} for name, content in pictures.items()]


def _video(stage: str, path: Path) -> dict[str, Any]:
    """Returns a video for the template; without its content where that is too large."""
    kind = "video/mp4" if path.suffix == ".mp4" else "image/gif"
    size = path.stat().st_size
    return {
        "name": f"the {_STAGE_NAMES[stage]}'s policy at play",
        "file": f"{path.name} ({_size(size)})",
        "moving": kind.startswith("video"),
        "source": embedded(path.read_bytes(), kind) if size <= _LARGEST_VIDEO else None,
    }


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _number(value: Any, form: str = ",.2f") -> str:
    is_number = isinstance(value, (int, float)) and value == value
    text = format(value, form) if is_number else "–"
    return "0.00" if text == "-0.00" else text


def _with_deviation(entry: Any, name: str) -> str:
    mean, deviation = entry.get(f"{name}_mean"), entry.get(f"{name}_std")
    return _number(mean) if deviation is None else f"{_number(mean)} ± {_number(deviation)}"


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
