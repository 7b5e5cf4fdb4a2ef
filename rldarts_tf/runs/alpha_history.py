"""alphas.npz: the logits z = β α of a search over time, as a file and as one object.

The file is that of `edge_history`, format 2, with

    <c>_logits   float64 [T, E, |O|]: z

z rather than softmax(z): in float32 the weights of a search that has converged are exactly 1, and
the order of its edges is lost. float64, because the product of two float32 numbers is exact in it.
(α and β apart would take half the space, but would not hold a log that an older version began.)

Format 1, which has no entry `format`, holds softmax(z) instead: `<c>_node_<j>` float32 [T, j, |O|]
for each node j. It is read as log p, which differs from z by a constant per edge; where p is 0,
as less than the logarithm of any float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike
from rldarts_tf.runs.edge_history import EdgeHistory, Reader, read_edges, values_of, write_edges
from rldarts_tf.space import Space

FORMAT = 2
"""The format that `write_alphas` writes."""

_LOGITS = "_logits"

_NO_NODE = np.zeros(())

# Between 0 and the smallest number that float32 has.
_LOG_OF_ZERO = math.log(2.0**-150)


class AlphaHistory(EdgeHistory):
    """z = β α at T steps of a search: `values`, float64."""

    @property
    def logits(self) -> Mapping[str, np.ndarray]:
        """Per cell type z, float64 [T, E, |O|]: `values`."""
        return self.values

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

    def op_weights(self) -> dict[str, np.ndarray]:
        """Returns p = softmax(z): per cell type float64 [T, E, |O|]."""
        return {cell: _softmax(logits) for cell, logits in self.logits.items()}


def read_alphas(path: PathLike) -> AlphaHistory:
    """Reads an alphas.npz of format 1 or 2.

    Raises:
      RunError: the file is missing, damaged or of another kind.
    """
    current = functools.partial(values_of, suffix=_LOGITS)
    readers = {1: _finite(_logits_of_weights), FORMAT: _finite(current)}
    return AlphaHistory(**read_edges(path, "a log of α", readers, oldest=1))


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
    values = {cell + _LOGITS: np.asarray(z, np.float64) for cell, z in logits.items()}
    write_edges(path, FORMAT, steps, ops, values)


def _finite(read: Reader) -> Reader:
    """A reader that refuses what no α can be."""

    def checked(arrays: Mapping[str, np.ndarray], cell: str, sizes: tuple[int, int]) -> np.ndarray:
        z = read(arrays, cell, sizes).astype(np.float64, copy=False)
        if not np.all(np.isfinite(z)):
            raise ValueError(f"the values of the {cell!r} cell are not finite, or negative weights")
        return z

    return checked


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
