"""Settings of every algorithm; each stands beside its agent."""

from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.agents.sac.settings import SACSettings

ALGORITHMS = (PPOSettings, RainbowSettings, SACSettings)

RETIRED = {kind.__name__: kind.retired for kind in ALGORITHMS}

__all__ = ["ALGORITHMS", "RETIRED", "PPOSettings", "RainbowSettings", "SACSettings"]
