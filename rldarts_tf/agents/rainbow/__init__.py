"""Rainbow from Acme's parts.

Names are imported when they are first used, so that settings load no framework.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.agents.rainbow.agent import (
        EpsilonGreedy,
        Rainbow,
        RainbowLearner,
        make_learner,
        make_network,
    )
    from rldarts_tf.agents.rainbow.program import RainbowProgram
    from rldarts_tf.agents.rainbow.settings import RainbowSettings

__all__ = [
    "EpsilonGreedy",
    "Rainbow",
    "RainbowLearner",
    "RainbowProgram",
    "RainbowSettings",
    "make_learner",
    "make_network",
]

__getattr__ = lazy_names(__name__, ("settings", "agent", "program"), __all__)
