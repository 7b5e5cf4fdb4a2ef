"""Errors that a user's input can cause.

Launchers and commands end with one line for whatever escapes them (`report_exception`). Bad input
has exit code 2: an `RLDartsError`, an extra that is not installed, a file that the system refuses.
Anything else is a bug: the line names the file of its traceback, and the code is 1.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from rldarts_tf import extras


class RLDartsError(ValueError):
    """Bad input: a message of one line that names the field at fault and, if possible, the fix.

    Attributes:
      trace: the traceback of what code of the user's own has raised, which a report keeps in a
        file; None: there was no such code.
    """

    trace: str | None = None


_Error = TypeVar("_Error", bound=RLDartsError)


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


@contextlib.contextmanager
def naming(part: str) -> Iterator[None]:
    """Context manager for code of the user's own: whatever it raises becomes one line.

    Args:
      part: which code this is, such as "op 'gelu'".

    Raises:
      ConfigError: the code raised something; another `RLDartsError` passes as it is.
    """
    try:
        yield
    except RLDartsError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}", 300)
        raise ConfigError(f"{part}: {reason}") from error


def of_foreign_code(
    kind: type[_Error], what: str, error: BaseException, trace: str | None = None
) -> _Error:
    """The error that tells in one line what code of the user's own has raised, and where.

    Args:
      kind: its class.
      what: what has failed, such as "the simulator My/Game-v0 failed".
      error: what was raised.
      trace: its traceback; that of `error` if None.
    """
    trace = trace or _traceback(error)
    places = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', trace)
    place = ""
    if places:
        path, line, function = places[-1]
        place = f" ({os.path.basename(path)}:{line}, in {function})"
    told = kind(f"{what}: {one_line(f'{type(error).__name__}: {error}')}{place}")
    told.trace = trace
    return told


def report_exception(error: Exception) -> int:
    """Prints an error as one line on standard error; returns the exit code: 2, for a bug 1."""
    if isinstance(error, RLDartsError):
        kept = "" if error.trace is None else f"; {_keep(error.trace)}"
        return report_error(f"{error}{kept}")
    if isinstance(error, ModuleNotFoundError):
        missing = extras.explanation(error)
        if missing is not None:
            return report_error(missing)
    if isinstance(error, OSError) and error.filename is not None:
        # A path of the user's: too long, not theirs to read, on a disk that is full.
        return report_error(f"{str(error.filename)[:200]!r}: {error.strerror}")
    return report_bug(error)


def report_error(error: object) -> int:
    """Prints "error: ..." as one line on standard error; returns the exit code for bad input, 2."""
    print(f"error: {one_line(error, None)}", file=sys.stderr, flush=True)
    return 2


def report_bug(error: BaseException) -> int:
    """Prints an error that no input should cause as one line on standard error.

    The traceback goes to a temporary file, which the line names.

    Returns:
      The exit code, 1.
    """
    message = f"unexpected {type(error).__name__}: {one_line(error)}; {_keep(_traceback(error))}"
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 1


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _keep(text: str) -> str:
    """Writes a traceback to a temporary file; returns words that say where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            prefix="rldarts_tf-",
            suffix=".traceback.txt",
            delete=False,
        ) as file:
            file.write(text)
    except OSError:
        return f"its traceback:\n{text}"
    return f"the traceback is in {file.name}"


def show_anything() -> None:
    """Lets standard output take what its encoding lacks: escaped, where a path or a text has it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def shorten_tracebacks() -> None:
    """Lets a program end with one line for Ctrl-C, and for a part that is not installed.

    For what is not caught, which is while its modules are imported. The exit codes stay Python's.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr, flush=True)
            return
        missing = extras.explanation(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is None:
            before(kind, error, trace)
        else:
            report_error(missing)

    sys.excepthook = hook
