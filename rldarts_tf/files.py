"""Files that are either the old ones or the complete new ones, whenever the process dies.

The bytes go to a temporary file in the same directory, are forced to disk, and then take the final
name in one step (POSIX rename). When the system refuses, the old file is still in place.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Union

from rldarts_tf.errors import RunError, one_line

PathLike = Union[str, "os.PathLike[str]"]

# Distinctive, so that leftovers of a killed process can be told from anybody else's files.
TEMPORARY_SUFFIX = ".rldarts-partial"


def write_text(path: PathLike, text: str, /) -> None:
    """Writes `text` as UTF-8 to `path`; see `write_bytes`.

    Raises:
      RunError: the file or its directory cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: PathLike, data: bytes, /) -> None:
    """Writes `data` to `path`, replacing the file in one step; missing directories are created.

    Raises:
      RunError: the file or its directory cannot be written; one line that names the file.
    """
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    except OSError as error:
        raise RunError(f"{os.fspath(path)!r} cannot be written: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Returns the system's words for `error`, in one line and without the file name."""
    return error.strerror or one_line(error, None)


def replace(path: PathLike, data: bytes, /) -> None:
    """Writes `data` to `path`, whose directory exists, replacing the file in one step.

    Raises:
      OSError: the file cannot be written.
    """
    # A link keeps pointing where its owner made it point: the file behind it is replaced.
    target = Path(os.path.realpath(path))
    # The name's end is enough to recognise it, and a long name plus suffix could be too long.
    temporary = target.parent / f".{target.name[-32:]}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    # os.open, not tempfile: the file must get the permissions that the user's umask asks for.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The new name itself is on disk only once the directory is.
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
