"""PPO from TF-Agents' parts.

Names are imported when they are first used, so that settings load no framework.
"""

from typing import TYPE_CHECKING

from rldarts_tf.lazy import lazy_names

if TYPE_CHECKING:
    from rldarts_tf.agents.ppo.acting import Actor
    from rldarts_tf.agents.ppo.agent import SharedEncoderPPOClipAgent, make_agent
    from rldarts_tf.agents.ppo.learner import Learner
    from rldarts_tf.agents.ppo.program import PPOProgram
    from rldarts_tf.agents.ppo.settings import PPOSettings

__all__ = [
    "Actor",
    "Learner",
    "PPOProgram",
    "PPOSettings",
    "SharedEncoderPPOClipAgent",
    "make_agent",
]

__getattr__ = lazy_names(__name__, ("settings", "agent", "acting", "learner", "program"), __all__)
