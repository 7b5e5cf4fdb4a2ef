"""Reads files that anybody may have written: nothing is executed, and memory is bounded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, reason

MAX_TEXT_BYTES = 1 << 28
"""A table with a million rows is about as large."""


def read_bytes(path: PathLike, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Reads a file of at most `limit` bytes.

    Raises:
      RunError: it is missing, too large or cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            # Not all of the limit at once: Python makes room for what it is asked to read.
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(min(size, limit) + 1)
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be read: {reason(error)}") from error
    except ValueError:  # of open: a null character
        raise RunError(f"{str(path)!r} is no file name") from None
    if len(content) > limit:
        raise RunError(f"{str(path)!r} is larger than {limit:,} bytes")
    return content


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
      ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
