"""Relaxations by name: those of `search/relaxations/`, and a user's own.

What settings ask of them is said here, since it must be known without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rldarts_tf.checks import check_choice
from rldarts_tf.errors import ConfigError

MakeRelaxation = Callable[[Any, Sequence[str]], Any]
"""(`SearchSettings`, O of a cell type in the order of the columns of z) -> its `Relaxation`."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a name stands for.

    Attributes:
      make: makes the relaxation; None for those of the package, which `make_relaxation` knows.
      sums_to_one: whether op weights of an edge are shares.
      is_softmax: whether their mean is softmax(z), or ranks ops and edges as that does.
      trains_alpha: whether p depends on z at all.
      penalty: the setting that is its weight where it has a penalty of α; None where it has none.
      is_twice_differentiable: whether a loss has second derivatives by α, as the eigenvalue asks.
    """

    make: MakeRelaxation | None = None
    sums_to_one: bool = True
    is_softmax: bool = True
    trains_alpha: bool = True
    penalty: str | None = None
    is_twice_differentiable: bool = True


_REGISTRY: dict[str, Kind] = {
    "softmax": Kind(),
    "sigmoid": Kind(sums_to_one=False, is_softmax=False, penalty="zero_one_penalty"),
    "gumbel": Kind(),
    "gumbel_2": Kind(),
    # TensorFlow has no second derivative of a gamma's samples.
    "dirichlet": Kind(is_softmax=False, penalty="dirichlet_penalty", is_twice_differentiable=False),
    "random": Kind(sums_to_one=False, is_softmax=False, trains_alpha=False),
}


def register_relaxation(
    name: str,
    make: MakeRelaxation,
    *,
    sums_to_one: bool = True,
    is_softmax: bool = False,
    has_penalty: bool = False,
    is_twice_differentiable: bool = True,
) -> None:
    """Makes a relaxation known by a name, for `SearchSettings.relaxation`.

    Args:
      name: what it is called there.
      make: (settings, ops) -> a `Relaxation`; called once per cell type, with its ops in the order
        of the columns of z.
      sums_to_one: whether op weights of an edge are shares.
      is_softmax: whether their mean is softmax(z), or ranks ops and edges as that does: then a
        progressive search may leave out ops, and z alone tells the cell.
      has_penalty: whether it has a penalty of α, which then must have an optimizer of its own.
      is_twice_differentiable: whether a loss has second derivatives by α; without them the rule
        that stops by the eigenvalue is refused.

    Raises:
      ConfigError: the name is taken.
    """
    if name in _REGISTRY:
        raise ConfigError(f"a relaxation named {name!r} is registered already")
    # Such a penalty has no weight among the settings but the choice of the relaxation.
    penalty = "relaxation" if has_penalty else None
    _REGISTRY[name] = Kind(
        make,
        sums_to_one,
        is_softmax,
        penalty=penalty,
        is_twice_differentiable=is_twice_differentiable,
    )


def check_relaxation(field: str, value: Any) -> Any:
    """Returns a name that is known.

    Raises:
      ConfigError: it is not; the message lists those that are.
    """
    try:
        return check_choice(field, value, tuple(_REGISTRY))
    except ConfigError as error:
        raise ConfigError(f"{error}; --import=MODULE brings others") from None


def kind_of(name: str) -> Kind:
    """What a name that has been checked stands for."""
    return _REGISTRY[name]
