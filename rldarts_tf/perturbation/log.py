"""The decisions of a discretization on disk: it goes on from them, and shows what they rest on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rldarts_tf.errors import RunError
from rldarts_tf.files import write_text
from rldarts_tf.perturbation.decisions import Decision, table
from rldarts_tf.runs.reading import parse_json, read_bytes

_FORMAT = 1
_MAX_BYTES = 1 << 24

References = dict[str, tuple[float, float]]
"""Mean value and its standard error, of the supernet ("supernet") and of what is left ("cell")."""


class DecisionLog:
    """`decisions.json`, which is read again, and `decisions.csv`, a row per candidate.

    Both are replaced in one step after each decision.

    Args:
      folder: where they are.
      settings: what the decisions depend on, as JSON takes it.

    Raises:
      RunError: the folder holds decisions that were made with other settings, or cannot be read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._json, self._csv = folder / "decisions.json", folder / "decisions.csv"
        self._settings = dict(settings)
        self._decisions: list[Decision] = []
        self.references: References = {}
        if self._json.exists():
            self._read()

    @property
    def decisions(self) -> Sequence[Decision]:
        """The decisions so far, in order."""
        return self._decisions

    def add(self, decision: Decision) -> None:
        """Writes another decision."""
        self._decisions.append(decision)
        self.write()

    def write(self) -> None:
        """Writes both files."""
        content = {
            "format": _FORMAT,
            "settings": self._settings,
            "references": self.references,
            "decisions": [decision.to_dict() for decision in self._decisions],
        }
        write_text(self._csv, table(self._decisions))
        write_text(self._json, json.dumps(content, indent=1) + "\n")

    def _read(self) -> None:
        try:
            content = parse_json(read_bytes(self._json, _MAX_BYTES))
            settings = dict(content["settings"])
            references = {
                name: (float(m), float(e)) for name, (m, e) in dict(content["references"]).items()
            }
            decisions = [Decision.from_dict(entry) for entry in content["decisions"]]
            if content["format"] != _FORMAT:
                raise ValueError("another format")
        except RunError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError):
            raise RunError(f"{str(self._json)!r} holds no decisions of a discretization") from None
        check_same_settings(self._json, settings, self._settings)
        self._decisions, self.references = decisions, references


def check_same_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a RunError that names the first setting in which a file differs from now."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old != new:
            raise RunError(
                f"{str(path)!r} was made with other settings: {name}: {old!r} -> {new!r}; go on "
                "with the old ones, or give another --work_dir"
            )
