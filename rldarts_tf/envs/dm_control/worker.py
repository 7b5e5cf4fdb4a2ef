"""Simulates one `DMControl` in a process of its own, for `DMControlBatch`.

    python -m rldarts_tf.envs.dm_control.worker ARGUMENTS

See `rldarts_tf.envs.pool.worker` for the protocol.
"""

from __future__ import annotations

from typing import Any

from rldarts_tf.envs.dm_control import rendering
from rldarts_tf.envs.dm_control.environment import DMControl
from rldarts_tf.envs.pool import worker


def make(**arguments: Any) -> DMControl:
    """Makes the environment; its parent has found a renderer that works."""
    rendering.trust_renderer()
    rendering.keep_contexts()
    return DMControl(**arguments)


if __name__ == "__main__":
    worker.run(make)
