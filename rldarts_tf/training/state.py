"""The state of several parts as one dictionary of arrays, with keys `<part>/<name>`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def part_of(state: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """Returns the entries `<part>/<name>` of a state, as `<name>`."""
    prefix = f"{part}/"
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
