"""`report`: one HTML file about one run or several, or about one study or several."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from rldarts_tf.errors import ConfigError
from rldarts_tf.runs.paths import RunPaths

HELP = "write one HTML file about runs or about studies, to be opened by a double-click"
EXAMPLES = """
python -m rldarts_tf report runs/starpilot
python -m rldarts_tf report runs/starpilot-0 runs/starpilot-1 runs/micro --output=report.html
python -m rldarts_tf report runs/search_pays
python -m rldarts_tf report runs/pays-asterix runs/pays-breakout --output=pays/report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "run_dirs",
        nargs="+",
        metavar="RUN",
        help="run directories, finished or not; those that differ only in their seed share a line. "
        "Or roots of studies, several as if they were one: tables and figures are written beside "
        "the file, too",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file (default: report.html in the first directory; needed for several studies)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the report and prints its path."""
    from rldarts_tf.pictures.report import write_report
    from rldarts_tf.studies.report import is_study, write_study_report

    studies = [*filter(is_study, arguments.run_dirs)]
    if not studies:
        output = arguments.output or RunPaths(Path(arguments.run_dirs[0])).report_path
        write_report(arguments.run_dirs, output)
        print(output)
        return
    for directory in itertools.filterfalse(is_study, arguments.run_dirs):
        raise ConfigError(f"run_dirs: {directory!r} is not a study, as {studies[0]!r} is")
    if len(studies) > 1 and arguments.output is None:
        raise ConfigError("output: name a file, where a report is of several studies")
    print(write_study_report(*studies, output=arguments.output))
