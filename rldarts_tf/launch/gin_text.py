"""The text of gin files, piece by piece between their includes; nothing in it is executed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gin import config_parser

from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.runs.configs import read_config, references, statements
from rldarts_tf.shipped import shipped_folder

GIN = shipped_folder("gin")
"""Where files are looked up that are named without a path."""


def pieces(file: str) -> Iterator[tuple[str, str]]:
    """Yields a file and what it includes as (where a text is from, text), in order.

    An included file is looked up beside the one that includes it, then as `file` is: from the
    working directory, then in gin/. Line numbers of a text are those of its file.

    Raises:
      ConfigError: a file is missing, includes itself or is no text, or would run code.
    """
    path = _find(file, ())
    if path is None:
        raise ConfigError(f"gin_file: {file!r} is neither a path nor in {GIN}")
    return _pieces(path, f"gin_file {file!r}", ())


def binding(text: str) -> tuple[str, str]:
    """Returns a binding of the command line as (where it is from, text).

    Raises:
      ConfigError: it would run code.
    """
    source = f"gin_bindings {text!r}"
    # gin says better what is no configuration.
    with contextlib.suppress(RunError):
        for statement in statements(text, source):
            if isinstance(statement, config_parser.IncludeStatement):
                raise ConfigError(f"{source}: name the file by --gin_file")
            _refuse_code(source, statement)
    return source, text


def _find(name: str, folders: tuple[Path, ...]) -> Path | None:
    places = (folder / name for folder in (*folders, Path(), GIN))
    return next((path for path in places if path.is_file()), None)


def _refuse_code(source: str, statement: Any) -> None:
    """Settings are values: neither an import nor a reference to a function."""
    if isinstance(statement, config_parser.ImportStatement):
        raise ConfigError(f"{source}: import {statement.module}: imports are not allowed")
    for reference in references(getattr(statement, "value", None)):
        raise ConfigError(
            f"{source}: {reference}: references are not allowed, give the value itself"
        )


def _pieces(path: Path, source: str, outer: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    real = os.path.realpath(path)
    if real in outer:
        raise ConfigError(f"{source}: includes itself")
    try:
        text = read_config(path)
    except RunError as error:
        raise ConfigError(f"{source}: {error}") from None
    lines = text.splitlines(keepends=True)
    begun = 0
    # gin, which reads the rest as well, says better what is no configuration.
    with contextlib.suppress(RunError):
        for statement in statements(text, source):
            _refuse_code(source, statement)
            if isinstance(statement, config_parser.IncludeStatement):
                line, name = statement.location.line_num - 1, statement.filename
                yield source, "\n" * begun + "".join(lines[begun:line])
                begun = line + 1
                included = _find(name, (path.parent,))
                if included is None:
                    raise ConfigError(
                        f"{source}: include {name!r}: is neither beside it nor a path nor in {GIN}"
                    )
                yield from _pieces(included, f"{source}: include {name!r}", (*outer, real))
    yield source, "\n" * begun + "".join(lines[begun:])
