"""Environments: adapters from image-based simulators to the agent frameworks."""

from rldarts_tf.envs.gym_notice import import_gym_quietly

# Before anything here, or a framework, imports gym.
import_gym_quietly()
