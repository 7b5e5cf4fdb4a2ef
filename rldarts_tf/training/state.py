"""The state of several parts as one dictionary of arrays, with keys `<part>/<name>`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def with_prefix(part: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a part's state with `<name>` as `<part>/<name>`; the inverse of `part_of`."""
    return {f"{part}/{name}": value for name, value in state.items()}


def part_of(state: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """Returns the entries `<part>/<name>` of a state, as `<name>`."""
    prefix = f"{part}/"
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
