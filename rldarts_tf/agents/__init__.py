"""Agents and their training programs: a module each, built from the frameworks' parts."""

from rldarts_tf.envs.gym_notice import import_gym_quietly

# Before the frameworks import gym.
import_gym_quietly()
