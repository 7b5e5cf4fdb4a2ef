"""Keeps what compiled libraries write to stderr from the terminal.

XLA and Reverb write notices there that heed no log level; in a launcher stderr is for progress and
errors.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Within this context nothing that is written to stderr arrives, from any thread.

    For calls that take moments: errors still come as exceptions.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
