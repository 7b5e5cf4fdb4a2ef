"""`export`: a trained policy as a SavedModel or a TFLite file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rldarts_tf.commands.inputs import add_policy_arguments
from rldarts_tf.errors import RunError
from rldarts_tf.runs import summary

HELP = "write a trained policy as a SavedModel or TFLite file that runs without this package"
EXAMPLES = """
python -m rldarts_tf export runs/starpilot --output=policy
python -m rldarts_tf export runs/starpilot --stage=search --step=2000000 --output=policy
python -m rldarts_tf export runs/starpilot --format=tflite --output=policy.tflite
"""

_TOLERANCE = 1e-3
_CHECKED = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_policy_arguments(parser)
    parser.add_argument(
        "--format",
        choices=("saved_model", "tflite"),
        default="saved_model",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--output", required=True, help="directory (SavedModel) or file (TFLite) to write"
    )
    parser.add_argument(
        "--no_check",
        action="store_true",
        help=f"do not compare the file with the policy on {_CHECKED} observations of the "
        "environment, for which it must be installed",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the policy, compares it with the live one and prints a table."""
    from rldarts_tf import export
    from rldarts_tf.export import policies

    policy = policies.load_policy(Path(arguments.run_dir), arguments.stage, arguments.step)
    shape = ", ".join(map(str, policy.image_shape))
    rows = [
        ("policy", f"{type(policy.encoder).__name__} at step {policy.step:,}"),
        ("observation", f"{policy.image_dtype.name} [batch, {shape}]"),
    ]

    def check(path: Path) -> None:
        images = policies.observations(policy, _CHECKED)
        difference = export.largest_difference(policy, path, arguments.format, images)
        if not difference < _TOLERANCE:
            raise RunError(
                f"format: {arguments.format!r} differs from the policy by {difference:.3g}"
            )
        rows.append(("largest difference", f"{difference:.2g} on {_CHECKED} observations"))

    if arguments.no_check:
        export.save(policy, arguments.output, arguments.format)
    else:
        export.save(policy, arguments.output, arguments.format, check)
    summary.print_table(arguments.output, rows)
