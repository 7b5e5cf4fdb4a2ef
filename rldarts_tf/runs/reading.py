"""Reads files that anybody may have written: nothing is executed, and memory is bounded.

Every function raises `RunError`, with one line, for whatever it is given.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike, reason

MAX_TEXT_BYTES = 1 << 28
"""A table with a million rows is about as large."""

MAX_ARRAY_BYTES = 1 << 31
"""α of Classic at two million records."""

_MAX_ARRAYS = 10_000


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


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file; see `parse_npz`.

    Raises:
      RunError: it is missing, too large or no such file.
    """
    content = read_bytes(path, MAX_ARRAY_BYTES)
    try:
        return parse_npz(content)
    except ValueError as error:
        raise RunError(f"{str(path)!r} is not a file of arrays: {error}") from None


def parse_npz(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file as `numpy.savez` writes it: neither compressed nor pickled.

    numpy's own reader allocates what a header asks for before it looks whether that much follows.

    Raises:
      ValueError: it is none.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > _MAX_ARRAYS:
                raise ValueError("it has too many entries")
            # Entries that overlap, or that are compressed, could be far larger than the file.
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("its entries are larger than itself")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"its entry {member.filename!r} is compressed")
                name = member.filename[: -len(".npy")]
                if not member.filename.endswith(".npy") or name in arrays:
                    raise ValueError(f"its entry {member.filename!r} is not expected")
                arrays[name] = _parse_npy(archive.read(member))
    except ValueError as error:
        raise ValueError(one_line(error)) from None
    # A damaged archive makes zipfile and numpy raise any of these.
    except (
        zipfile.BadZipFile,
        LookupError,
        AttributeError,
        TypeError,
        EOFError,
        OSError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
        MemoryError,
    ) as error:
        line = one_line(error)
        raise ValueError(line) from None
    return arrays


def _parse_npy(content: bytes) -> np.ndarray:
    """One array."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array has a format of version {version}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("an array has dtype object, which only pickle can load (allow_pickle)")
    # A million dimensions, or a negative one, are no array either.
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError("an array has a shape that is none")
    left = len(content) - stream.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} and dtype {dtype} has {left} bytes")
    # A copy, which may be written to.
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell()).copy()
    return flat.reshape(shape, order="F" if fortran_order else "C")
