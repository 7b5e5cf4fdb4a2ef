"""Manifests: sizes and checksums (SHA-256) of the files of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from rldarts_tf.errors import RunError
from rldarts_tf.files import reason, write_text

_CHUNK_BYTES = 1 << 20
_MAX_BYTES = 1 << 20
"""Limit of what is parsed; a manifest has a line per file."""


def write(path: Path, folder: Path, files: Iterable[Path]) -> None:
    """Writes the manifest of files below a folder, in one step.

    Raises:
      RunError: a file cannot be read, or the manifest cannot be written.
    """
    try:
        entries = {
            file.relative_to(folder).as_posix(): [file.stat().st_size, _hash(file)]
            for file in sorted(files)
        }
    except OSError as error:
        raise RunError(f"{error.filename!r} cannot be read: {reason(error)}") from error
    write_text(path, json.dumps({"sha256": entries}, indent=1) + "\n")


def read(path: Path) -> dict[str, tuple[int, str]]:
    """Reads {name below the folder: (bytes, checksum)}.

    Raises:
      RunError: it is missing, or no manifest.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RunError(f"{path.name} cannot be read: {reason(error)}") from error
    try:
        entries = json.loads(text)["sha256"]
        found = {str(name): (int(size), str(digest)) for name, (size, digest) in entries.items()}
    except (ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(f"{path.name} is damaged") from None
    for name in found:
        # These files are deleted and moved: none may be outside of the folder.
        if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts:
            raise RunError(f"{path.name} is damaged")
    return found


def check(path: Path, folder: Path) -> None:
    """Verifies every file of a manifest.

    Raises:
      RunError: names the first file that is missing, cut short or changed; or the manifest itself.
    """
    for name, (size, digest) in read(path).items():
        file = folder / name
        try:
            actual = file.stat().st_size
            if actual != size:
                raise RunError(f"{name} has {actual:,} bytes, not {size:,}")
            if _hash(file) != digest:
                raise RunError(f"{name} has changed since it was written")
        except FileNotFoundError:
            raise RunError(f"{name} is missing") from None
        except OSError as error:
            raise RunError(f"{name} cannot be read: {reason(error)}") from error


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
