"""Scores of a study as arrays: a row per architecture, a column per seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of an arm in an environment.

    Attributes:
      architectures: ids of the rows.
      seeds: of the columns.
      values: float64 [architectures, seeds], NaN where there is no result.
    """

    architectures: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def per_row(self) -> tuple[int, int]:
        """The least and the largest number of seeds of an architecture."""
        counts = np.sum(np.isfinite(self.values), axis=1)
        return int(counts.min()), int(counts.max())


def stacked(tables: Sequence[Scores]) -> np.ndarray:
    """Scores one below the other, [architectures, seeds], a column per seed of any of them."""
    seeds = sorted({seed for table in tables for seed in table.seeds})
    rows = [np.full((len(table), len(seeds)), np.nan) for table in tables]
    for row, table in zip(rows, tables):
        row[:, [seeds.index(seed) for seed in table.seeds]] = table.values
    return np.concatenate([np.empty((0, len(seeds))), *rows])
