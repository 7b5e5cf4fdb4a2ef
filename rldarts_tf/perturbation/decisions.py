"""Questions that a discretization asks, and its decisions with what they rest on, as plain data."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rldarts_tf.genotype import Edge

Kind = Literal["op", "input"]


@dataclasses.dataclass(frozen=True)
class Question:
    """Which op an edge keeps ("op"), or which input a node loses next ("input").

    Attributes:
      kind: which of the two.
      cell_type: of the cell.
      target: the node j.
      candidates: (source, op) of each that is left out in turn: the ops of an edge, which have one
        source, or the edges that lead into the node.
    """

    kind: Kind
    cell_type: str
    target: int
    candidates: tuple[Edge, ...]

    def __str__(self) -> str:
        source = f"{self.candidates[0][0]} -> " if self.kind == "op" else ""
        return f"{self.cell_type} {source}{self.target}"


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer to a question.

    Attributes:
      question: what was asked.
      chosen: index of the candidate that is kept ("op") or deleted ("input").
      means: mean value (return, or minus the loss) without each candidate; empty where there was
        one candidate and nothing to compare.
      errors: standard errors of these means.
      margin: by how much the choice is better than the next: the mean of the paired differences
        of the two, at least 0.
      margin_error: its standard error; of pairs, so that what all episodes share cancels out.
    """

    question: Question
    chosen: int
    means: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    margin: float = math.inf
    margin_error: float = 0.0

    @property
    def edge(self) -> Edge:
        """(source, op) of the candidate that was chosen."""
        return self.question.candidates[self.chosen]

    @property
    def within_noise(self) -> bool:
        """Whether another sample might well have decided otherwise: margin <= 2 standard errors."""
        return self.margin <= 2 * self.margin_error

    def to_dict(self) -> dict[str, Any]:
        """JSON data, which `from_dict` reads."""
        return {
            **{name: getattr(self.question, name) for name in ("kind", "cell_type", "target")},
            "candidates": [list(edge) for edge in self.question.candidates],
            "chosen": self.chosen,
            "means": list(self.means),
            "errors": list(self.errors),
            "margin": self.margin if self.means else None,
            "margin_error": self.margin_error,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """Reads what `to_dict` returned.

        Raises:
          KeyError, TypeError, ValueError: it is something else.
        """
        candidates = tuple((int(source), str(op)) for source, op in data["candidates"])
        question = Question(data["kind"], data["cell_type"], int(data["target"]), candidates)
        chosen = range(len(candidates)).index(data["chosen"])
        if not data["means"]:
            return cls(question, chosen)
        means, errors = (tuple(map(float, data[name])) for name in ("means", "errors"))
        if not len(means) == len(errors) == len(candidates):
            raise ValueError("a candidate without a mean")
        return cls(
            question, chosen, means, errors, float(data["margin"]), float(data["margin_error"])
        )


def decide(question: Question, values: Sequence[np.ndarray]) -> Decision:
    """Keeps the op that is missed most, or deletes the input that is missed least.

    Args:
      question: what is asked.
      values: without each candidate, the value of every sample, float [samples]. A sample is the
        same episode or minibatch for all candidates.
    """
    if len(question.candidates) == 1:
        return Decision(question, 0)
    sampled = np.stack(values).astype(np.float64)
    means = sampled.mean(axis=1)
    sign = -1.0 if question.kind == "op" else 1.0
    # Stable: of equals the one that stands first, as in Algorithm 4.
    chosen, following = np.argsort(-sign * means, kind="stable")[:2]
    differences = sign * (sampled[chosen] - sampled[following])
    return Decision(
        question,
        int(chosen),
        tuple(means.tolist()),
        tuple(standard_error(row) for row in sampled),
        float(differences.mean()),
        standard_error(differences),
    )


def standard_error(samples: np.ndarray) -> float:
    """Standard error of the mean of independent samples [n]; 0 for a single one."""
    if len(samples) < 2:
        return 0.0
    return float(np.std(samples, ddof=1) / math.sqrt(len(samples)))


COLUMNS = (
    "decision", "kind", "cell_type", "source", "target", "op", "mean_without", "standard_error",
    "chosen", "margin", "margin_error", "within_noise",
)  # fmt: skip


def table(decisions: Sequence[Decision]) -> str:
    """All decisions as CSV, a row per candidate; the margin stands in the row of the chosen one."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number, decision in enumerate(decisions):
        question = decision.question
        for place, (source, op) in enumerate(question.candidates):
            measured = (decision.means[place], decision.errors[place]) if decision.means else ("",)
            chosen = place == decision.chosen
            margin = (decision.margin, decision.margin_error, int(decision.within_noise))
            rows.writerow(
                [
                    number,
                    question.kind,
                    question.cell_type,
                    source,
                    question.target,
                    op,
                    *(measured if decision.means else ("", "")),
                    int(chosen),
                    *(margin if chosen and decision.means else ("", "", "")),
                ]
            )
    return stream.getvalue()
