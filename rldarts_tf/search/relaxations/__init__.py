"""Relaxations: how op weights p follow from the logits z = β α.

Each is a class behind the interface of `base.Relaxation`, chosen by `SearchSettings.relaxation`;
auxiliary skips, smoothing and edge normalization go around any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rldarts_tf.search.relaxations.around import AuxiliarySkip, Smoothing
from rldarts_tf.search.relaxations.base import Moment, Relaxation, ranked_by
from rldarts_tf.search.relaxations.dirichlet import Dirichlet
from rldarts_tf.search.relaxations.gumbel import HardGumbel
from rldarts_tf.search.relaxations.sigmoid import Sigmoid
from rldarts_tf.search.relaxations.softmax import Softmax
from rldarts_tf.search.settings import SearchSettings

__all__ = [
    "AuxiliarySkip",
    "Dirichlet",
    "HardGumbel",
    "Moment",
    "Relaxation",
    "Sigmoid",
    "Smoothing",
    "Softmax",
    "make_relaxation",
    "ranked_by",
]


def make_relaxation(settings: SearchSettings, ops: Sequence[str]) -> Relaxation:
    """The relaxation of a search method.

    Args:
      settings: the search method.
      ops: O of the cell type, in the order of the columns of z.
    """
    temperatures = (settings.gumbel_temperature_start, settings.gumbel_temperature_end)
    kinds: dict[str, Callable[[], Relaxation]] = {
        "softmax": Softmax,
        "sigmoid": lambda: Sigmoid(settings.zero_one_penalty),
        "gumbel": lambda: HardGumbel(*temperatures, ops),
        "gumbel_2": lambda: HardGumbel(*temperatures, ops, num_active=2),
        "dirichlet": lambda: Dirichlet(settings.dirichlet_penalty),
    }
    relaxation = kinds[settings.relaxation]()
    if settings.smoothing:
        relaxation = Smoothing(relaxation, settings.smoothing)
    if settings.auxiliary_skip:
        relaxation = AuxiliarySkip(relaxation, settings.auxiliary_skip, ops)
    return relaxation
