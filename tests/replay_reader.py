"""Reads everything that a replay table holds, which Reverb itself only offers to sample."""

from __future__ import annotations

from typing import Any

from rldarts_tf.agents.off_policy.replay import TABLE, Replay


def read_items(replay: Replay) -> dict[int, tuple[float, tuple[Any, ...]]]:
    """Key -> (priority, (observation, action, return, discount, next observation)).

    What was drawn gets priority 0, so that the rest is drawn next; in the end all priorities are
    what they were.
    """
    items: dict[int, tuple[float, tuple[Any, ...]]] = {}
    size = replay.size
    for _ in range(1000):
        if len(items) == size:
            break
        for sample in replay.client.sample(TABLE, size, emit_timesteps=False):
            items.setdefault(sample.info.key, (sample.info.priority, tuple(sample.data)))
        replay.client.mutate_priorities(TABLE, dict.fromkeys(items, 0.0))
    assert len(items) == size == replay.size, "the table changed, or an item is never drawn"
    replay.client.mutate_priorities(TABLE, {key: priority for key, (priority, _) in items.items()})
    return items
