"""Rainbow from Acme's parts.

Names are imported when they are first used, so that settings load no framework.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.agents.rainbow.agent import Rainbow
    from rldarts_tf.agents.rainbow.exploration import EpsilonGreedy
    from rldarts_tf.agents.rainbow.learner import RainbowLearner, make_learner
    from rldarts_tf.agents.rainbow.networks import make_network
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

__getattr__ = lazy_names(
    __name__, ("settings", "networks", "exploration", "learner", "agent", "program"), __all__
)
