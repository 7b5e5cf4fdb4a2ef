"""SAC from Acme's parts.

Names are imported when they are first used, so that settings load no framework.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.agents.sac.agent import SAC, SACNetworks
    from rldarts_tf.agents.sac.learner import SACLearner
    from rldarts_tf.agents.sac.program import SACProgram
    from rldarts_tf.agents.sac.settings import SACSettings

__all__ = ["SAC", "SACLearner", "SACNetworks", "SACProgram", "SACSettings"]

__getattr__ = lazy_names(__name__, ("settings", "learner", "agent", "program"), __all__)
