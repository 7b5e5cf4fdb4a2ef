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


def stacked(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of scores [architectures, seeds] one below the other, filled up with NaN."""
    columns = max((table.shape[1] for table in tables), default=0)
    empty = np.empty((0, columns))
    filled = (
        np.pad(table, ((0, 0), (0, columns - table.shape[1])), constant_values=np.nan)
        for table in tables
    )
    return np.concatenate([empty, *filled])
