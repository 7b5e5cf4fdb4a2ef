"""Numbers of every op of every edge over the steps of a search: files and one object for them.

Such a file holds

    format        int64 scalar
    step          int64 [T]: environment steps, which grow
    <c>_ops       text [|O|]: the ops of cell type c, in the order of the last axis
    <c>_<suffix>  float [T, E, |O|]: the numbers, a row per edge in the order of `Space.edges`

`alpha_history` and `contribution_history` are the two kinds that there are.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike
from rldarts_tf.runs.npz import read_npz, write_npz

Reader = Callable[[Mapping[str, np.ndarray], str, tuple[int, int]], np.ndarray]
"""(arrays of a file, cell type, (T, |O|)) -> its numbers [T, E, |O|]; raises a ValueError."""

_OPS = "_ops"


@dataclasses.dataclass(frozen=True)
class EdgeHistory:
    """Numbers at T steps of a search.

    Attributes:
      steps: environment steps, int64 [T], growing.
      ops: per cell type the names of the ops, in the order of the last axis of `values`.
      values: per cell type float [T, E, |O|]: a row per edge, in the order of the module.
      num_edges: E, of every cell.
    """

    steps: np.ndarray
    ops: Mapping[str, tuple[str, ...]]
    values: Mapping[str, np.ndarray]
    num_edges: int

    def __len__(self) -> int:
        return len(self.steps)

    def num_records_up_to(self, step: int) -> int:
        """Returns how many records are of this step or an earlier one."""
        return int(np.searchsorted(self.steps, step, side="right"))


def read_edges(
    path: PathLike, what: str, readers: Mapping[int, Reader], oldest: int
) -> dict[str, Any]:
    """Reads such a file.

    Args:
      path: the file.
      what: what it is said not to be, such as "a log of α".
      readers: what reads the numbers of a cell type, by format.
      oldest: the format of a file that names none.

    Returns:
      The fields of an `EdgeHistory`.

    Raises:
      RunError: the file is missing, damaged or of another kind.
    """
    arrays = read_npz(path)
    try:
        return _decoded(arrays, readers, oldest)
    except ValueError as error:
        line = one_line(error)
        raise RunError(f"{str(path)!r} is not {what}: {line}") from None


def write_edges(
    path: PathLike,
    file_format: int,
    steps: Sequence[int],
    ops: Mapping[str, Sequence[str]],
    values: Mapping[str, np.ndarray],
) -> None:
    """Replaces such a file in one step.

    Args:
      path: the file.
      file_format: its format.
      steps: [T].
      ops: per cell type.
      values: by the names of their arrays, <c>_<suffix>.

    Raises:
      RunError: it cannot be written.
    """
    write_npz(
        path,
        format=np.array(file_format, np.int64),
        step=np.array(steps, np.int64),
        **{cell + _OPS: np.array(names, np.str_) for cell, names in ops.items()},
        **values,
    )


def values_of(
    arrays: Mapping[str, np.ndarray], cell: str, sizes: tuple[int, int], suffix: str
) -> np.ndarray:
    """A `Reader` once the suffix is given."""
    values = arrays.get(cell + suffix)
    if (
        values is None
        or values.ndim != 3
        or values.dtype.kind != "f"
        or (values.shape[0], values.shape[2]) != sizes
        or not values.shape[1]
    ):
        raise ValueError(f"the edges of the {cell!r} cell are incomplete")
    return values


def _decoded(
    arrays: Mapping[str, np.ndarray], readers: Mapping[int, Reader], oldest: int
) -> dict[str, Any]:
    """The fields of a history of the arrays of the file.

    Raises:
      ValueError: they are not those of such a file; the message is part of a line.
    """
    steps = arrays.get("step")
    if steps is None or steps.ndim != 1 or steps.dtype.kind != "i":
        raise ValueError("it has no array 'step' of integers")
    if np.any(steps[1:] < steps[:-1]):
        raise ValueError("its steps go back")
    written = arrays.get("format", np.array(oldest))
    if written.shape != () or written.dtype.kind != "i" or int(written) not in readers:
        raise ValueError("its format is unknown: a newer version has written it")
    ops = {
        name[: -len(_OPS)]: _names(array)
        for name, array in arrays.items()
        if name.endswith(_OPS) and array.ndim == 1 and array.dtype.kind == "U" and len(array)
    }
    if not ops:
        raise ValueError("it names no ops")
    read = readers[int(written)]
    values = {cell: read(arrays, cell, (len(steps), len(names))) for cell, names in ops.items()}
    num_edges = {of_cell.shape[1] for of_cell in values.values()}
    if len(num_edges) > 1:
        raise ValueError("its cells have different numbers of nodes")
    return {
        "steps": steps.astype(np.int64),
        "ops": ops,
        "values": values,
        "num_edges": num_edges.pop(),
    }


def _names(array: np.ndarray) -> tuple[str, ...]:
    """Converts text [|O|] to Python's, after a check of its code points: numpy makes none.

    Raises:
      ValueError: one of them is no character.
    """
    codes = array.astype(array.dtype.newbyteorder("=")).view(np.uint32)
    if np.any((codes > sys.maxunicode) | (codes // 0x800 == 0xD800 // 0x800)):
        raise ValueError("the names of its ops are no text")
    return tuple(array.tolist())
