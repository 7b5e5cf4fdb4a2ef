"""Writes archives of arrays."""

from __future__ import annotations

import io

import numpy as np

from rldarts_tf.files import PathLike, write_bytes


def write_npz(path: PathLike, /, **arrays: np.ndarray) -> None:
    """Writes named arrays as an uncompressed .npz that reads back without pickle.

    Raises:
      RunError: the file or its directory cannot be written.
      TypeError: an array has dtype object, which only pickle could store.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} has dtype object, which would need pickle")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
