"""Procgen's games."""
