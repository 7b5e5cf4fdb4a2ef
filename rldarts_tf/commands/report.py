"""`report`: one HTML file about one run or several."""

from __future__ import annotations

import argparse
from pathlib import Path

from rldarts_tf.runs.paths import RunPaths

HELP = "write one HTML file about one run or several, to be opened by a double-click"
EXAMPLES = """
python -m rldarts_tf report runs/starpilot
python -m rldarts_tf report runs/starpilot-0 runs/starpilot-1 runs/micro --output=report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "run_dirs",
        nargs="+",
        metavar="RUN",
        help="run directories, finished or not; those that differ only in their seed share a line",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file (default: report.html in the first directory)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the report and prints its path."""
    from rldarts_tf.pictures.report import write_report

    output = arguments.output or RunPaths(Path(arguments.run_dirs[0])).report_path
    write_report(arguments.run_dirs, output)
    print(output)
