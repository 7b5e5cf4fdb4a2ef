"""Search methods: how α becomes op weights, how it is trained, and what regularizes it.

A supernet is given one, `Supernet(..., search=SearchSettings(...))`, and everything else finds it
there. The core of it needs TensorFlow alone; names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.search.contribution import contributions
    from rldarts_tf.search.cost_settings import CostSettings
    from rldarts_tf.search.optimizers import SearchOptimizer, SplitOptimizer, optimizer, supernets
    from rldarts_tf.search.relaxation_registry import register_relaxation
    from rldarts_tf.search.relaxations import Relaxation, make_relaxation
    from rldarts_tf.search.settings import SearchSettings
    from rldarts_tf.search.settling import settled

__all__ = [
    "CostSettings",
    "Relaxation",
    "SearchOptimizer",
    "SearchSettings",
    "SplitOptimizer",
    "contributions",
    "make_relaxation",
    "optimizer",
    "register_relaxation",
    "settled",
    "supernets",
]

__getattr__ = lazy_names(
    __name__,
    (
        *("settings", "cost_settings", "relaxation_registry"),
        *("relaxations", "optimizers", "settling", "contribution"),
    ),
    __all__,
)
