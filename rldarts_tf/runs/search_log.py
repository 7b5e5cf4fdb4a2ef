"""Logs of a search: α and contributions over time, and every distinct genotype on the way.

All logs take `resume_step`, the step of the restored checkpoint: later entries are dropped, since
those steps are taken again. None means that nothing was restored and the log begins anew.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, reason, write_text
from rldarts_tf.runs.alpha_history import read_alphas, write_alphas
from rldarts_tf.runs.contribution_history import read_contributions, write_contributions
from rldarts_tf.runs.edge_history import EdgeHistory
from rldarts_tf.runs.reading import parse_json, read_bytes


class EdgeLog(abc.ABC):
    """Collects numbers of every op of every edge in memory; `flush` replaces the file in one step.

    A flush writes the whole file (Classic: about 9 MB per 10,000 records of α), so call it with the
    checkpoints rather than with every record.

    Attributes:
      kind: what the numbers are called.
      dtype: theirs.
    """

    kind: str
    dtype: type[np.floating[Any]]

    def __init__(
        self,
        path: PathLike,
        ops: Mapping[str, Sequence[str]],
        num_edges: int,
        resume_step: int | None = None,
    ) -> None:
        """Starts or continues a log. One that an older version began is converted.

        Args:
          path: the .npz file.
          ops: per cell type the op names, in the order of α's columns.
          num_edges: E, the edges of a cell.
          resume_step: see the module.

        Raises:
          RunError: the file to continue is damaged or belongs to another search space, or it
              cannot be replaced.
        """
        self._path = Path(path)
        self._ops = {cell: tuple(names) for cell, names in ops.items()}
        self._num_edges = int(num_edges)
        self._steps: list[int] = []
        self._values: dict[str, list[np.ndarray]] = {cell: [] for cell in self._ops}
        self._dirty = False
        if self._path.exists():
            if resume_step is not None:
                self._load(resume_step)
            # Always written anew: without what was dropped, and in the present format.
            self._dirty = True
            self.flush()

    def __len__(self) -> int:
        return len(self._steps)

    @abc.abstractmethod
    def _read(self) -> EdgeHistory:
        """The file's content."""

    @abc.abstractmethod
    def _write(self, values: Mapping[str, np.ndarray]) -> None:
        """Replaces the file; values are [T, E, |O|] per cell type."""

    def record(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Adds what there is at `step`; it reaches the file with the next `flush`.

        Args:
          step: environment steps so far; larger than at the record before.
          values: per cell type [E, |O|].

        Raises:
          ValueError: cell types or shapes are not those of the search space, or the step does not
              grow.
        """
        if self._steps and step <= self._steps[-1]:
            raise ValueError(f"step {step} does not come after step {self._steps[-1]}")
        if set(values) != set(self._ops):
            raise ValueError(f"{self.kind} has cells {sorted(values)}, not {sorted(self._ops)}")
        # Copies: the caller may reuse its arrays.
        arrays = {cell: np.array(of_cell, self.dtype) for cell, of_cell in values.items()}
        for cell, array in arrays.items():
            shape = (self._num_edges, len(self._ops[cell]))
            if array.shape != shape:
                raise ValueError(f"{self.kind}[{cell!r}]: shape {array.shape}, not {shape}")
        for cell, array in arrays.items():
            self._values[cell].append(array)
        self._steps.append(int(step))
        self._dirty = True

    def flush(self) -> None:
        """Writes the file if something was recorded since the last flush.

        Raises:
          RunError: the file cannot be written.
        """
        if not self._dirty:
            return
        # reshape: a log without records still has the right shape.
        values = {
            cell: np.array(records, self.dtype).reshape(-1, self._num_edges, len(self._ops[cell]))
            for cell, records in self._values.items()
        }
        self._write(values)
        self._dirty = False

    def _load(self, resume_step: int) -> None:
        """Loads the records up to `resume_step`."""
        history = self._read()
        if (history.ops, history.num_edges) != (self._ops, self._num_edges):
            raise RunError(f"{str(self._path)!r} belongs to another search space")
        kept = history.num_records_up_to(resume_step)
        self._steps = history.steps[:kept].tolist()
        for cell, records in self._values.items():
            records.extend(history.values[cell][:kept])


class AlphaLog(EdgeLog):
    """z = β α, as of `Alpha.numpy_logits`: alphas.npz, see `alpha_history`."""

    kind, dtype = "logits", np.float64

    @override
    def _read(self) -> EdgeHistory:
        return read_alphas(self._path)

    @override
    def _write(self, values: Mapping[str, np.ndarray]) -> None:
        write_alphas(self._path, self._steps, self._ops, values)


class ContributionLog(EdgeLog):
    """c of `search.contributions`: contributions.npz, see `contribution_history`."""

    kind, dtype = "contributions", np.float32

    @override
    def _read(self) -> EdgeHistory:
        return read_contributions(self._path)

    @override
    def _write(self, values: Mapping[str, np.ndarray]) -> None:
        write_contributions(self._path, self._steps, self._ops, values)


class GenotypeLog:
    """One JSON line, {"step": ..., "genotype": ...}, per genotype that differs from all before.

    Attributes:
      last_step: the step at which the last of them appeared; None if there is none.
    """

    def __init__(self, path: PathLike, resume_step: int | None = None) -> None:
        """Starts or continues a log.

        Args:
          path: the .jsonl file.
          resume_step: see the module.

        Raises:
          RunError: the file to continue is damaged before its last line, or cannot be written.
        """
        self._path = Path(path)
        entries: list[tuple[int, Any]] = []
        if resume_step is not None and self._path.exists():
            entries = [e for e in read_genotypes(self._path) if e[0] <= resume_step]
        self._seen = {_canonical(genotype) for _, genotype in entries}
        self.last_step = entries[-1][0] if entries else None
        # Always written anew: this also cuts off a line that a killed process left incomplete.
        write_text(self._path, "".join(_json_line(*entry) for entry in entries))

    def __len__(self) -> int:
        """Returns how many distinct genotypes there were."""
        return len(self._seen)

    def record(self, step: int, genotype: Mapping[str, Any]) -> bool:
        """Appends `genotype` if it is new, and says whether it was.

        Args:
          step: environment steps so far.
          genotype: plain JSON data.

        Raises:
          RunError: the line cannot be written.
        """
        canonical = _canonical(genotype)
        if canonical in self._seen:
            return False
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(_json_line(step, genotype))
        except OSError as error:
            raise RunError(f"{str(self._path)!r} cannot be written: {reason(error)}") from error
        self._seen.add(canonical)
        self.last_step = int(step)
        return True


def read_genotypes(path: PathLike) -> list[tuple[int, dict[str, Any]]]:
    """Reads the (step, genotype) pairs of a `GenotypeLog`; an incomplete last line is left out.

    Raises:
      RunError: the file is missing, or damaged before its last line.
    """
    lines = read_bytes(path).decode("utf-8", "replace").split("\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines):
            break  # after the last line break: nothing, or a line cut short
        try:
            entry = parse_json(line)
            entries.append((int(entry["step"]), dict(entry["genotype"])))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            if number == len(lines) - 1:
                break
            raise RunError(f"{str(path)!r} is damaged in line {number}: {error}") from error
    return entries


def _canonical(genotype: Any) -> str:
    """Returns the same text for equal genotypes of a log, which are all of one search space."""
    told = {key: value for key, value in genotype.items() if key != "format_version"}
    # Version 1 of the format has the name of the space, later ones its definition.
    if isinstance(told.get("search_space"), Mapping):
        told["search_space"] = told["search_space"].get("name")
    # Through JSON, so that tuples and lists, and any order of keys, are the same genotype.
    return json.dumps(told, sort_keys=True, allow_nan=False)


def _json_line(step: int, genotype: Any) -> str:
    return json.dumps({"step": int(step), "genotype": genotype}, allow_nan=False) + "\n"
