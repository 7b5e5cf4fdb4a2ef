"""Shared by agents that learn from replay: Reverb, learner, loop and program."""
