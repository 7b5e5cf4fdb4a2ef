"""Trains one encoder with one agent in one suite: the loop, what it records, and its settings."""
