"""Errors that a user's input can cause.

Launchers and command-line tools catch `RLDartsError`, print its message as one line and exit with
code 2 (`report_error`). Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys


class RLDartsError(ValueError):
    """Bad input: a message of one line that names the field at fault and, if possible, the fix."""


class GenotypeError(RLDartsError):
    """A genotype or its file is not valid."""


class ConfigError(RLDartsError):
    """A flag, a gin setting or an argument is not valid."""


class RunError(RLDartsError):
    """A run directory cannot be used: not writable, damaged, or made with other settings."""


def one_line(error: object, most: int | None = 200) -> str:
    """Returns the message of an error as one line; its class where it has no message.

    Args:
      error: an exception, or a text.
      most: maximum of characters; None for no limit.
    """
    return (" ".join(str(error).split()) or type(error).__name__)[:most]


def report_error(error: object) -> int:
    """Prints "error: ..." as one line on standard error; returns the exit code for bad input, 2."""
    print(f"error: {one_line(error, None)}", file=sys.stderr, flush=True)
    return 2
