"""Archives of named arrays, .npz: no pickle, and bounded memory whoever has written the file.

numpy's own reader allocates what a header asks for before it looks whether that much follows.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from rldarts_tf.checks import shown
from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike, write_bytes
from rldarts_tf.runs.reading import read_bytes

MAX_ARRAY_BYTES = 1 << 31
"""α of Classic at two million records."""

_MAX_ARRAYS = 10_000


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of an uncompressed .npz file that `parse_npz` reads.

    Raises:
      TypeError: an array has dtype object, which only pickle could store.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} has dtype object, which would need pickle")
    buffer = io.BytesIO()
    # Names may contain "/": they are only entries of a zip file.
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_npz(path: PathLike, /, **arrays: np.ndarray) -> None:
    """Writes named arrays as an .npz file; see `npz_bytes`.

    Raises:
      RunError: the file or its directory cannot be written.
      TypeError: an array has dtype object, which only pickle could store.
    """
    write_bytes(path, npz_bytes(arrays))


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file of at most `MAX_ARRAY_BYTES`; see `parse_npz`.

    Raises:
      RunError: it is missing, too large or no such file.
    """
    content = read_bytes(path, MAX_ARRAY_BYTES)
    try:
        return parse_npz(content)
    except ValueError as error:
        raise RunError(f"{str(path)!r} is not a file of arrays: {error}") from None


def parse_npz(content: bytes) -> dict[str, np.ndarray]:
    """Parses an .npz file as `numpy.savez` writes it: neither compressed nor pickled.

    Raises:
      ValueError: it is no such file.
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
    # A damaged archive makes zipfile and numpy raise any of these.
    except (
        ValueError,
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
        raise ValueError(one_line(error)) from None
    return arrays


def _parse_npy(content: bytes) -> np.ndarray:
    """Parses one array, an entry of the archive."""
    stream = io.BytesIO(content)
    npy: Any = np.lib.format  # numpy gives no types for it
    version = npy.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array has a format of version {version}")
    shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("an array has dtype object, which only pickle can load (allow_pickle)")
    # A million dimensions, or a negative one, are no array either.
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError(f"an array has the impossible shape {shown(shape)}")
    left = len(content) - stream.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} and dtype {dtype} has {left} bytes")
    # A copy, which may be written to.
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell()).copy()
    return flat.reshape(shape, order="F" if fortran_order else "C")
