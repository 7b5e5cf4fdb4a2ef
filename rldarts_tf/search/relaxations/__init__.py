"""Relaxations: how op weights p follow from the logits z = β α.

Each is a class behind the interface of `base.Relaxation`, chosen by `SearchSettings.relaxation`
among the names of `relaxation_registry`;
auxiliary skips, smoothing and edge normalization go around any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rldarts_tf.errors import ConfigError
from rldarts_tf.search.relaxation_registry import kind_of
from rldarts_tf.search.relaxations.around import AuxiliarySkip, Smoothing
from rldarts_tf.search.relaxations.base import Moment, Relaxation, ranked_by
from rldarts_tf.search.relaxations.dirichlet import Dirichlet
from rldarts_tf.search.relaxations.gumbel import HardGumbel
from rldarts_tf.search.relaxations.random_cell import RandomCell
from rldarts_tf.search.relaxations.sigmoid import Sigmoid
from rldarts_tf.search.relaxations.softmax import Softmax
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.space import SKIP_CONNECT, Space

__all__ = [
    "AuxiliarySkip",
    "Dirichlet",
    "HardGumbel",
    "Moment",
    "RandomCell",
    "Relaxation",
    "Sigmoid",
    "Smoothing",
    "Softmax",
    "make_relaxation",
    "ranked_by",
]


def make_relaxation(
    settings: SearchSettings, ops: Sequence[str], space: Space | None = None
) -> Relaxation:
    """The relaxation of a search method.

    Args:
      settings: the search method.
      ops: O of the cell type, in the order of the columns of z.
      space: of the cells; for what draws whole cells alone, which must know nodes and K.

    Raises:
      ConfigError: whole cells are to be drawn, and there is no space; or what is to go around it
        does not go with it, or with the ops.
    """

    def random_cell() -> Relaxation:
        if space is None:
            raise ConfigError("SearchSettings.relaxation = 'random' draws cells of a space")
        return RandomCell(space, ops)

    temperatures = (settings.gumbel_temperature_start, settings.gumbel_temperature_end)
    built_in: dict[str, Callable[[], Relaxation]] = {
        "softmax": Softmax,
        "sigmoid": lambda: Sigmoid(settings.zero_one_penalty),
        "gumbel": lambda: HardGumbel(*temperatures, ops),
        "gumbel_2": lambda: HardGumbel(*temperatures, ops, num_active=2),
        "dirichlet": lambda: Dirichlet(settings.dirichlet_penalty),
        "random": random_cell,
    }
    make = kind_of(settings.relaxation).make
    relaxation = built_in[settings.relaxation]() if make is None else make(settings, ops)
    if settings.smoothing:
        if relaxation.samples:
            raise ConfigError(
                f"{type(settings).__name__}.smoothing must be 0 with relaxation = "
                f"{settings.relaxation!r}, which draws op weights itself"
            )
        relaxation = Smoothing(relaxation, settings.smoothing)
    if settings.auxiliary_skip:
        if SKIP_CONNECT not in ops:
            raise ConfigError(
                f"{type(settings).__name__}.auxiliary_skip must be 0 in a search space without "
                f"{SKIP_CONNECT}, whose weight it is added to, got {settings.auxiliary_skip!r}"
            )
        relaxation = AuxiliarySkip(relaxation, settings.auxiliary_skip, ops)
    return relaxation
