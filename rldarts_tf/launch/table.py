"""The table of a stage in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def rows(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of a stage's table: (what, value).

    Args:
      entry: the stage's entry in summary.json.
    """

    def number(key: str, form: str = ",.2f") -> str:
        value = entry.get(key)
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return "-" if missing else format(value, form)

    # Entries of earlier versions have no variant, and no words for their evaluations.
    variant = entry.get("variant", entry.get("distribution_mode"))
    lines = [
        (
            "encoder",
            f"{entry['encoder']}, {number('parameters', ',d')} parameters, "
            f"{number('multiply_adds', ',d')} multiply-adds",
        ),
        ("game", f"{entry['game']}{f' ({variant})' if variant else ''}, seed {entry['seed']}"),
        (
            "environment steps",
            f"{number('env_steps', ',d')} in {number('wall_time_s', ',.0f')} s "
            f"({number('env_steps_per_second', ',.0f')} per second)",
        ),
        (
            "training return",
            f"{number('return_mean')} (normalized "
            f"{number('return_mean_normalized')}; last 100 of {number('episodes', ',d')} episodes)",
        ),
    ]
    if "teacher" in entry:
        cost = number("teacher_seconds_per_step", ".2g")
        lines.append(("teacher", f"{entry['teacher']}; {cost} s per environment step"))
    if "stopped_early" in entry:
        kept = number("kept_step", ",d")
        lines.append(("stopped early", f"{entry['stopped_early']}; step {kept} is kept"))
    evaluations = entry.get("evaluations", {"test": "evaluation", "train": "training levels"})
    for name, shown in evaluations.items():
        key = f"eval_{name}_return"
        if f"{key}_mean" in entry:
            lines.append(
                (
                    f"return, {shown}",
                    f"{number(key + '_mean')} ± {number(key + '_std')} "
                    f"(normalized {number(key + '_mean_normalized')})",
                )
            )
    return lines
