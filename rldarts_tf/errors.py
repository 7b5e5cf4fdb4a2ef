"""Errors that a user's input can cause.

Launchers and command-line tools catch `RLDartsError`, print its message as one line and exit with
code 2. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class RLDartsError(ValueError):
    """Bad input: a message of one line that names the field at fault and, if possible, the fix."""


class GenotypeError(RLDartsError):
    """A genotype or its file is not valid."""


class ConfigError(RLDartsError):
    """A flag, a gin setting or an argument is not valid."""


class RunError(RLDartsError):
    """A run directory cannot be used: not writable, damaged, or made with other settings."""
