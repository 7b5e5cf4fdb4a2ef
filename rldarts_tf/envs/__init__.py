"""Environments: adapters from image-based simulators to the agent frameworks."""
