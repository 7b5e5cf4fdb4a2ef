"""Signals that a search goes wrong, and rules by which it stops."""
