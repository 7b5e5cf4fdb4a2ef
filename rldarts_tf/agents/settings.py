"""Settings of every algorithm; each stands beside its agent."""

from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.agents.sac.settings import SACSettings

__all__ = ["PPOSettings", "RainbowSettings", "SACSettings"]
