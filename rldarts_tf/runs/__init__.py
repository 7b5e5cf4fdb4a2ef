"""Run directories: layout, lock, checkpoints, metrics, logs of a search, summary."""
