"""Imports the user's modules that a command line names, for what they register."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from rldarts_tf.errors import ConfigError, one_line

IMPORT_HELP = (
    "Module to import first, for the ops, search spaces, relaxations and environments that it "
    "registers; may be repeated. It is looked up in the working directory too. Its code is run: "
    "name only what you trust."
)


def import_modules(names: Sequence[str]) -> None:
    """Imports modules by their dotted names, also those in the working directory.

    Raises:
      ConfigError: one cannot be imported, for whatever reason; names it and the reason.
    """
    folder = os.getcwd()
    if names and "" not in sys.path and folder not in sys.path:
        # Last: no file of the working directory takes the place of an installed module.
        sys.path.append(folder)
    for name in names:
        try:
            importlib.import_module(name)
        # Code of the user's own may raise anything, and may try to exit.
        except (Exception, SystemExit) as error:
            reason = one_line(f"{type(error).__name__}: {error}", 300)
            raise ConfigError(f"import: {name!r} cannot be imported: {reason}") from None
