"""alphas.npz: the logits z = β α of a search over time, as a file and as one object.

The file holds

    format       int64 scalar, 2
    step         int64 [T]: environment steps, which grow
    <c>_ops      text [|O|]: the ops of cell type c, in the order of the last axis
    <c>_logits   float64 [T, E, |O|]: z, a row per edge in the order of `Space.edges`

z rather than softmax(z): in float32 the weights of a search that has converged are exactly 1, and
the order of its edges is lost. float64, because the product of two float32 numbers is exact in it.
(α and β apart would take half the space, but would not hold a log that an older version began.)

Format 1, which has no entry `format`, holds softmax(z) instead: `<c>_node_<j>` float32 [T, j, |O|]
for each node j. It is read as log p, which differs from z by a constant per edge; where p is 0,
as less than the logarithm of any float32.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike
from rldarts_tf.runs.npz import read_npz, write_npz
from rldarts_tf.space import Space

FORMAT = 2
"""The format that `write_alphas` writes."""

_OPS, _LOGITS = "_ops", "_logits"

_NO_NODE = np.zeros(())

# Between 0 and the smallest number that float32 has.
_LOG_OF_ZERO = math.log(2.0**-150)


@dataclasses.dataclass(frozen=True)
class AlphaHistory:
    """z = β α at T steps of a search.

    Attributes:
      steps: environment steps, int64 [T], growing.
      ops: per cell type the names of the ops, in the order of the last axis of `logits`.
      logits: per cell type z, float64 [T, E, |O|]: a row per edge, in the order of the module.
      num_edges: E, of every cell.
    """

    steps: np.ndarray
    ops: Mapping[str, tuple[str, ...]]
    logits: Mapping[str, np.ndarray]
    num_edges: int

    def __len__(self) -> int:
        return len(self.steps)

    def at(self, step: int | None = None) -> tuple[int, dict[str, np.ndarray]]:
        """Returns the last record, or the last one up to a step.

        Returns:
          (its step; per cell type z, float64 [E, |O|]), as `discretization.discretize` takes it.

        Raises:
          RunError: there is none.
        """
        row = len(self) - 1 if step is None else self.num_records_up_to(step) - 1
        if not len(self):
            raise RunError("the log of α is empty")
        if row < 0:
            first = self.steps[0]
            raise RunError(f"the log of α begins at step {first}: nothing is up to step {step}")
        return int(self.steps[row]), {cell: logits[row] for cell, logits in self.logits.items()}

    def check(self, space: Space) -> None:
        """Checks that α belongs to a search space: cell types, ops and their order, edges.

        Raises:
          RunError: it belongs to another one; the message says what differs.
        """
        if set(self.ops) != set(space.cell_types):
            raise RunError(
                f"α is of other cells than search space {space.name!r} has "
                f"({', '.join(space.cell_types)}): {', '.join(self.ops)}"
            )
        for cell, names in self.ops.items():
            if names != space.ops(cell):
                raise RunError(
                    f"α is of other ops than search space {space.name!r} has for {cell} cells "
                    f"({', '.join(space.ops(cell))}): {', '.join(names)}"
                )
        if self.num_edges != len(space.edges):
            raise RunError(
                f"α is of other cells than search space {space.name!r} has "
                f"(of {space.num_nodes} nodes, {len(space.edges)} edges): of {self.num_edges} edges"
            )

    def num_records_up_to(self, step: int) -> int:
        """Returns how many records are of this step or an earlier one."""
        return int(np.searchsorted(self.steps, step, side="right"))

    def op_weights(self) -> dict[str, np.ndarray]:
        """Returns p = softmax(z): per cell type float64 [T, E, |O|]."""
        return {cell: _softmax(logits) for cell, logits in self.logits.items()}


def read_alphas(path: PathLike) -> AlphaHistory:
    """Reads an alphas.npz of format 1 or 2.

    Raises:
      RunError: the file is missing, damaged or of another kind.
    """
    arrays = read_npz(path)
    try:
        return _decoded(arrays)
    except ValueError as error:
        line = one_line(error)
        raise RunError(f"{str(path)!r} is not a log of α: {line}") from None


def write_alphas(
    path: PathLike,
    steps: Sequence[int],
    ops: Mapping[str, Sequence[str]],
    logits: Mapping[str, np.ndarray],
) -> None:
    """Replaces an alphas.npz in one step; see `AlphaHistory` for the arguments.

    Raises:
      RunError: it cannot be written.
    """
    write_npz(
        path,
        format=np.array(FORMAT, np.int64),
        step=np.array(steps, np.int64),
        **{cell + _OPS: np.array(names, np.str_) for cell, names in ops.items()},
        **{cell + _LOGITS: np.asarray(z, np.float64) for cell, z in logits.items()},
    )


def _decoded(arrays: Mapping[str, np.ndarray]) -> AlphaHistory:
    """Decodes the arrays of the file.

    Raises:
      ValueError: they are not those of an alphas.npz; the message is part of a line.
    """
    steps = arrays.get("step")
    if steps is None or steps.ndim != 1 or steps.dtype.kind != "i":
        raise ValueError("it has no array 'step' of integers")
    if np.any(steps[1:] < steps[:-1]):
        raise ValueError("its steps go back")
    written = arrays.get("format", np.array(1))
    if written.shape != () or written.dtype.kind != "i" or int(written) not in (1, FORMAT):
        raise ValueError("its format is unknown: a newer version has written it")
    ops = {
        name[: -len(_OPS)]: _names(array)
        for name, array in arrays.items()
        if name.endswith(_OPS) and array.ndim == 1 and array.dtype.kind == "U" and len(array)
    }
    if not ops:
        raise ValueError("it names no ops")
    read = _logits_of_weights if int(written) == 1 else _logits_of
    logits = {}
    for cell, names in ops.items():
        logits[cell] = read(arrays, cell, (len(steps), len(names)))
        if not np.all(np.isfinite(logits[cell])):
            raise ValueError(f"the values of the {cell!r} cell are not finite, or negative weights")
    num_edges = {z.shape[1] for z in logits.values()}
    if len(num_edges) > 1:
        raise ValueError("its cells have different numbers of nodes")
    return AlphaHistory(steps.astype(np.int64), ops, logits, num_edges.pop())


def _names(array: np.ndarray) -> tuple[str, ...]:
    """Converts text [|O|] to Python's, after a check of its code points: numpy makes none.

    Raises:
      ValueError: one of them is no character.
    """
    codes = array.astype(array.dtype.newbyteorder("=")).view(np.uint32)
    if np.any((codes > sys.maxunicode) | (codes // 0x800 == 0xD800 // 0x800)):
        raise ValueError("the names of its ops are no text")
    return tuple(array.tolist())


def _logits_of(arrays: Mapping[str, np.ndarray], cell: str, sizes: tuple[int, int]) -> np.ndarray:
    """Returns z of a cell type from a file of format 2; `sizes` are T and |O|."""
    z = arrays.get(cell + _LOGITS)
    if (
        z is None
        or z.ndim != 3
        or z.dtype.kind != "f"
        or (z.shape[0], z.shape[2]) != sizes
        or not z.shape[1]
    ):
        raise ValueError(f"the edges of the {cell!r} cell are incomplete")
    return z.astype(np.float64, copy=False)


def _logits_of_weights(
    arrays: Mapping[str, np.ndarray], cell: str, sizes: tuple[int, int]
) -> np.ndarray:
    """Returns z = log p of a cell type from a file of format 1; `sizes` are T and |O|."""
    prefix = f"{cell}_node_"
    count = sum(name.startswith(prefix) for name in arrays)
    nodes = [arrays.get(f"{prefix}{j}", _NO_NODE) for j in range(1, count + 1)]
    if not nodes or not all(
        p.dtype.kind == "f" and p.shape == (sizes[0], j, sizes[1])
        for j, p in enumerate(nodes, start=1)
    ):
        raise ValueError(f"the nodes of the {cell!r} cell are incomplete")
    z = np.concatenate(nodes, axis=1, dtype=np.float64, casting="same_kind")
    zero = z == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        np.log(z, out=z)  # NaN for what is negative
    z[zero] = _LOG_OF_ZERO
    return z


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis. Makes one copy only: a log may be large."""
    p = logits - logits.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    return p
