"""Filters the notices that compiled libraries (XLA, Reverb) write to stderr at any log level."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Reverb's notes, Abseil's of severity "info", and Abseil's complaint that it was not set up.
_NOTICE = re.compile(rb"\[reverb/|I\d{4} |WARNING: All log messages before absl::InitializeLog\(\)")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Context manager: holds back what any thread writes to stderr, and drops the notices.

    The rest is written when the context ends; all of it, if it ends with an exception.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if failed or not _NOTICE.match(line):
                    os.write(2, line)
