"""The order of questions of a perturbation-based discretization, and the cell that follows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rldarts_tf.discretization import Caps, check_caps
from rldarts_tf.genotype import Edge, Genotype
from rldarts_tf.perturbation.decisions import Decision, Question
from rldarts_tf.space import NONE, Space


class Weights(NamedTuple):
    """What replaces the op weights p of a cell type: keep · p + fixed."""

    keep: np.ndarray
    """float32 [E, |O|]: 0 where an op is left out or the edge is decided, else 1."""
    fixed: np.ndarray
    """float32 [E, |O|]: one-hot in the rows of edges whose op is decided, else 0."""


class Selection:
    """The state of a discretization: decisions so far, and the next question.

    First every edge, in random order over all cell types, is given an op: each but `none` is left
    out in turn, without renormalizing the others, and the one that is missed most becomes the
    edge's only one. Then of every node with more than K inputs the one that is missed least is
    deleted, until K are left.

    `none` is no candidate: an edge that chose it would have to be given another op in the end, one
    that nothing was measured for.

    Args:
      space: the search space.
      top_k: K; that of the space if None.
      seed: of the random order.
      caps: how many edges of a cell may be given an op of a kind, counted over all edges, also
        those that are deleted later.

    Raises:
      ConfigError: with the caps some edge would be left without an op.
    """

    def __init__(
        self,
        space: Space,
        top_k: int | None = None,
        seed: int = 0,
        caps: Caps | None = None,
    ) -> None:
        self._space = space
        self._top_k = space.top_k if top_k is None else top_k
        self._caps = caps or {}
        check_caps(space, self._caps)
        self._kept: dict[tuple[str, int, int], str | None] = {}  # None: deleted
        rng = np.random.default_rng(seed)
        all_edges = [(t, *edge) for t in space.cell_types for edge in space.edges]
        self._edges = [all_edges[i] for i in rng.permutation(len(all_edges))]
        crowded = [j for j in range(1, space.num_nodes + 1) if len(space.sources(j)) > self._top_k]
        nodes = [(cell_type, j) for cell_type in space.cell_types for j in crowded]
        self._nodes = [nodes[i] for i in rng.permutation(len(nodes))]

    def question(self) -> Question | None:
        """The next question; None when the cell is complete."""
        for cell_type, source, target in self._edges:
            if (cell_type, source, target) not in self._kept:
                ops = self._allowed(cell_type)
                return Question("op", cell_type, target, tuple((source, op) for op in ops))
        for cell_type, target in self._nodes:
            inputs = self._inputs(cell_type, target)
            if len(inputs) > self._top_k:
                return Question("input", cell_type, target, inputs)
        return None

    def take(self, decision: Decision) -> None:
        """Takes the answer to `question()`.

        Raises:
          ValueError: it answers another one.
        """
        if decision.question != self.question():
            raise ValueError(f"{decision.question} is not the next question")
        source, op = decision.edge
        question = decision.question
        kept = op if question.kind == "op" else None
        self._kept[question.cell_type, source, question.target] = kept

    def weights(self, question: Question | None = None, left_out: int = 0) -> dict[str, Weights]:
        """What replaces p now, per cell type.

        Args:
          question: the present one; None for nothing left out beside what is decided.
          left_out: index of the candidate to leave out.
        """
        found = {}
        for cell_type in self._space.cell_types:
            ops = self._space.ops(cell_type)
            rows = self._space.edges
            keep = np.ones((len(rows), len(ops)), np.float32)
            fixed = np.zeros_like(keep)
            for row, (source, target) in enumerate(rows):
                if (cell_type, source, target) in self._kept:
                    keep[row] = 0
                    op = self._kept[cell_type, source, target]
                    if op is not None:
                        fixed[row, ops.index(op)] = 1
            found[cell_type] = Weights(keep, fixed)
        if question is not None:
            source, op = question.candidates[left_out]
            place = (
                self._space.edges.index((source, question.target)),
                self._space.ops(question.cell_type).index(op),
            )
            for array in found[question.cell_type]:
                array[place] = 0
        return found

    def evaluations_left(self) -> int:
        """How many candidates are still to be left out, an upper bound where ops are capped."""
        left = 0
        for cell_type, source, target in self._edges:
            if (cell_type, source, target) not in self._kept:
                count = len(self._allowed(cell_type))
                left += count if count > 1 else 0
        for cell_type, target in self._nodes:
            deleted = sum(
                self._kept.get((cell_type, source, target), "") is None
                for source in self._space.sources(target)
            )
            inputs = len(self._space.sources(target)) - deleted
            left += sum(range(self._top_k + 1, inputs + 1))
        return left

    def genotype(self, output_mode: str = "concat") -> Genotype:
        """The cell; there is one when there is no question left."""
        cells = {
            cell_type: tuple(
                self._inputs(cell_type, target) for target in range(1, self._space.num_nodes + 1)
            )
            for cell_type in self._space.cell_types
        }
        return Genotype.of(self._space, cells, self._top_k, output_mode)

    def _inputs(self, cell_type: str, target: int) -> tuple[Edge, ...]:
        sources = self._space.sources(target)
        ops = [(source, self._kept[cell_type, source, target]) for source in sources]
        return tuple((source, op) for source, op in ops if op is not None)

    def _allowed(self, cell_type: str) -> tuple[str, ...]:
        """The ops that the next edge of a cell type may be given."""
        given = [op for (of_type, *_), op in self._kept.items() if of_type == cell_type]
        full = frozenset().union(
            *(ops for ops, most in self._caps.values() if sum(op in ops for op in given) >= most)
        )
        return tuple(op for op in self._space.ops(cell_type) if op != NONE and op not in full)
