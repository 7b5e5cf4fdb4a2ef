"""Caps on ops without weights, which win where nothing holds them (docs/discretization.md)."""

from __future__ import annotations

from rldarts_tf.discretization import Cap
from rldarts_tf.ops import parameter_free
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.space import SKIP_CONNECT, Space


def make_caps(
    space: Space, max_skips: int | None = None, max_parameter_free: int | None = None
) -> dict[str, Cap]:
    """The caps of a search space, as `discretize` takes them; None for no cap.

    Args:
      space: the search space.
      max_skips: edges of a cell that may have skip_connect.
      max_parameter_free: edges of a cell that may have an op without weights, skips included.

    Raises:
      ConfigError: an op of the space is not registered.
    """
    caps = {}
    if max_skips is not None:
        caps["max_skips"] = Cap(frozenset([SKIP_CONNECT]), max_skips)
    if max_parameter_free is not None:
        ops = {op for cell_type in space.cell_types for op in space.ops(cell_type)}
        caps["max_parameter_free"] = Cap(parameter_free(ops), max_parameter_free)
    return caps


def caps_of(
    search: SearchSettings,
    space: Space,
    max_skips: int | None = None,
    max_parameter_free: int | None = None,
) -> dict[str, Cap]:
    """The caps of a search method; those that are given stand in their place. See `make_caps`."""
    return make_caps(
        space,
        search.max_skips if max_skips is None else max_skips,
        search.max_parameter_free if max_parameter_free is None else max_parameter_free,
    )
