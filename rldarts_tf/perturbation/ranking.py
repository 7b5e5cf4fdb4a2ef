"""The cells that were scored on inherited weights, on disk: best first, and never scored twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rldarts_tf.errors import GenotypeError, RunError
from rldarts_tf.files import write_text
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.decisions import standard_error
from rldarts_tf.perturbation.log import check_same_settings
from rldarts_tf.runs.reading import parse_json, read_bytes

_FORMAT = 1
_MAX_BYTES = 1 << 26


class Scored(NamedTuple):
    """A cell with its mean value and the standard error of that."""

    genotype: Genotype
    mean: float
    error: float


class Ranking:
    """`ranking.json`: settings and all cells that were scored, in the order of scoring.

    Args:
      folder: where it is.
      settings: what the scores depend on, as JSON takes it.
      measure: a cell -> the values of its samples [samples].

    Raises:
      RunError: the folder holds a ranking of other settings, or one that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        measure: Callable[[Genotype], np.ndarray],
    ) -> None:
        self._path = folder / "ranking.json"
        self._settings = dict(settings)
        self._measure = measure
        self._scored: dict[Genotype, Scored] = {}
        if self._path.exists():
            self._read()

    @property
    def best(self) -> list[Scored]:
        """All cells, the best first; of equals the one that was scored first."""
        return sorted(self._scored.values(), key=lambda scored: -scored.mean)

    def __call__(self, genotype: Genotype) -> float:
        """The mean value of a cell, which is measured and written if it is a new one."""
        if genotype not in self._scored:
            samples = self._measure(genotype)
            self._scored[genotype] = Scored(
                genotype, float(samples.mean()), standard_error(samples)
            )
            self._write()
        return self._scored[genotype].mean

    def __len__(self) -> int:
        """Distinct cells so far."""
        return len(self._scored)

    def _write(self) -> None:
        cells = [
            {"mean": mean, "error": error, "genotype": genotype.to_dict()}
            for genotype, mean, error in self._scored.values()
        ]
        content = {"format": _FORMAT, "settings": self._settings, "cells": cells}
        write_text(self._path, json.dumps(content) + "\n")

    def _read(self) -> None:
        try:
            content = parse_json(read_bytes(self._path, _MAX_BYTES))
            settings = dict(content["settings"])
            scored = [
                Scored(Genotype.from_dict(e["genotype"]), float(e["mean"]), float(e["error"]))
                for e in content["cells"]
            ]
            if content["format"] != _FORMAT:
                raise ValueError("another format")
        except GenotypeError as error:
            raise RunError(f"{str(self._path)!r}: {error}") from None
        except RunError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError):
            raise RunError(f"{str(self._path)!r} holds no ranking of cells") from None
        check_same_settings(self._path, settings, self._settings)
        self._scored = {entry.genotype: entry for entry in scored}
