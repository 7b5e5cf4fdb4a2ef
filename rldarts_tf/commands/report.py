"""`report`: one HTML file about one run or several, or about a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from rldarts_tf.errors import ConfigError
from rldarts_tf.runs.paths import RunPaths

HELP = "write one HTML file about runs or about a study, to be opened by a double-click"
EXAMPLES = """
python -m rldarts_tf report runs/starpilot
python -m rldarts_tf report runs/starpilot-0 runs/starpilot-1 runs/micro --output=report.html
python -m rldarts_tf report studies/search_pays
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "run_dirs",
        nargs="+",
        metavar="RUN",
        help="run directories, finished or not; those that differ only in their seed share a line. "
        "Or the root of one study: its tables and figures are written beside the file, too",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file (default: report.html in the first directory)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the report and prints its path."""
    from rldarts_tf.pictures.report import write_report
    from rldarts_tf.studies.report import is_study, write_study_report

    first, *others = arguments.run_dirs
    if is_study(first) and not others:
        print(write_study_report(first, arguments.output))
        return
    for directory in filter(is_study, arguments.run_dirs):
        raise ConfigError(f"run_dirs: the study {directory!r} has a report of its own")
    output = arguments.output or RunPaths(Path(first)).report_path
    write_report(arguments.run_dirs, output)
    print(output)
