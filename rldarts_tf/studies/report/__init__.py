"""Studies -> a report: one HTML page, the same in Markdown, tables as CSV, figures as PNG."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_bytes, write_text
from rldarts_tf.pictures.report.rendering import embedded, render
from rldarts_tf.studies.report import contents, drawings
from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.scaling import short_names
from rldarts_tf.studies.report.tables import Table
from rldarts_tf.studies.report.verdicts import Verdict, verdicts
from rldarts_tf.studies.results import StudyResults, read_joined
from rldarts_tf.studies.trials import StudyPaths

# Table or figure: their order on the page, the variance between cells first, because a game without
# any cannot show anything.
_ORDER = (
    "variance",
    "arms",
    "scores",
    "trajectory",
    "differences",
    "by_game",
    "by_game_equal_cost",
    "percentiles",
    "equal_time",
    "overall",
    "profiles",
    "curves",
    "cost",
    "supernets",
    "supernet_and_cell",
    "time",
    "missing",
)


_Part = Union[Table, drawings.Figure]


def is_study(directory: PathLike) -> bool:
    """Whether a directory is the root of a study."""
    return StudyPaths(Path(directory)).study_path.exists()


def write_study_report(*roots: PathLike, output: PathLike | None = None) -> Path:
    """Writes the report of a study, finished or not, or of several as if they were one.

    Args:
      *roots: of the study; of several, where each has environments, cells or seeds of its own.
      output: the HTML file; by default report.html in the (first) root. Beside it go report.md (its
        name with .md), a CSV file for each table and a PNG file for each figure.

    Returns:
      The HTML file.

    Raises:
      RunError: there is no study, two have the same trial, a library is missing, or a file cannot
        be written.
    """
    page = Path(output) if output is not None else StudyPaths(Path(roots[0])).report_path
    results = read_joined(roots)
    try:
        import scipy  # noqa: F401 - all statistics need it: said once, here
    except ImportError as error:
        raise RunError(
            "no report of a study: install scipy (pip install rldarts_tf[studies])"
        ) from error
    analysis = Analysis(results)
    tables = contents.tables(analysis)
    figures = drawings.draw(analysis, contents.words(analysis))
    answers = verdicts(analysis)
    for table in tables:
        write_text(page.with_name(f"{table.name}.csv"), table.csv())
    for figure in figures:
        write_bytes(page.with_name(f"{figure.name}.png"), figure.content)
    parts: Sequence[_Part] = sorted((*tables, *figures), key=lambda part: _ORDER.index(part.name))
    write_text(page.with_suffix(".md"), _markdown(results, answers, parts))
    write_text(page, _html(results, answers, parts))
    return page


def _html(results: StudyResults, answers: Sequence[Verdict], parts: Sequence[_Part]) -> str:
    shown = []
    for part in parts:
        values: dict[str, Any] = {"name": part.name, "title": part.title, "caption": part.caption}
        if isinstance(part, Table):
            numeric = [column.form is not None for column in part.columns]
            values["source"] = None
            values["columns"] = list(zip((column.title for column in part.columns), numeric))
            values["rows"] = [list(zip(row, numeric)) for row in part.texts()]
        else:
            values["source"] = embedded(part.content, "image/png")
        shown.append(values)
    return render(
        __name__,
        "study.html.j2",
        title=_title(results),
        study=results.study.name,
        done=len(results.finished),
        trials=len(results.study.trials),
        missing=len(results.missing),
        verdicts=[dataclasses.asdict(answer) for answer in answers],
        parts=shown,
        settings=list(results.study.settings.items()),
    )


def _markdown(results: StudyResults, answers: Sequence[Verdict], parts: Sequence[_Part]) -> str:
    done, trials = len(results.finished), len(results.study.trials)
    blocks = [f"# {_title(results)}", f"Study {results.study.name}, {done} of {trials} trials."]
    for answer in answers:
        blocks.append(f"**{answer.question}**")
        blocks.append("\n".join(f"* {sentence}" for sentence in answer.answers))
    for part in parts:
        picture = f"![{part.title}]({part.name}.png)"
        shown = part.markdown().rstrip() if isinstance(part, Table) else picture
        blocks += [f"## {part.title}", shown, part.caption]
    return "\n\n".join(blocks) + "\n"


def _title(results: StudyResults) -> str:
    environments = dict.fromkeys(trial.environment for trial in results.study.trials)
    return f"{results.study.name}: {', '.join(short_names([*environments]).values())}"
