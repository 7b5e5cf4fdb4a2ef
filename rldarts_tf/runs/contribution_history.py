"""contributions.npz: what each op of each edge contributes over a search, as a file and an object.

The file is that of `edge_history`, format 1, with

    <c>_contributions  float32 [T, E, |O|]: c of `search.contributions`

It has a record where `SearchSettings.record_contributions` had one measured, and none of step 0
where θ did not exist yet. A search whose numbers overflowed may have some that are not finite.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.files import PathLike
from rldarts_tf.runs.edge_history import EdgeHistory, read_edges, values_of, write_edges

FORMAT = 1
"""The format that `write_contributions` writes."""

_SUFFIX = "_contributions"


def read_contributions(path: PathLike) -> EdgeHistory:
    """Reads a contributions.npz.

    Raises:
      RunError: the file is missing, damaged or of another kind.
    """
    readers = {FORMAT: functools.partial(values_of, suffix=_SUFFIX)}
    return EdgeHistory(**read_edges(path, "a log of contributions", readers, FORMAT))


def write_contributions(
    path: PathLike,
    steps: Sequence[int],
    ops: Mapping[str, Sequence[str]],
    contributions: Mapping[str, np.ndarray],
) -> None:
    """Replaces a contributions.npz in one step; see `EdgeHistory` for the arguments.

    Raises:
      RunError: it cannot be written.
    """
    values = {cell + _SUFFIX: np.asarray(c, np.float32) for cell, c in contributions.items()}
    write_edges(path, FORMAT, steps, ops, values)
