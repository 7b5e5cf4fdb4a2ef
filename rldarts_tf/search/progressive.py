"""Progressive searches: rules by which a search leaves out edges and ops as it goes.

Each is a class behind the interface of `Rule`, chosen by `SearchSettings.progressive`; each cell
type has a rule of its own. What is kept of z is bool [E, |O|]. A row of it says all of an edge: the
ops that are kept share its softmax; where there is one the edge is fixed to it, or closed if it is
`none`.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from rldarts_tf.errors import ConfigError
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.space import NONE, Space

# Differences between scores that float64 rounds away.
_NO_SPREAD = 1e-12


class Rule(abc.ABC):
    """What a search decides, and when.

    Of D decisions number d = 0 to D - 1 falls due at the progress t_d = t_0 + (1 - t_0) d / D, so
    that θ is left as much time after the last one as between two.

    Args:
      first: t_0.
      number: D.
    """

    def __init__(self, first: float, number: int) -> None:
        self._moments = first + (1 - first) * np.arange(number) / number

    def due(self, progress: float) -> int:
        """How many decisions are due by then."""
        # In float32, as the clock of a search, 2 / 3 is 1 / 3 + 1 / 3.
        return int(np.sum(self._moments.astype(np.float32) <= np.float32(progress)))

    @abc.abstractmethod
    def kept(self, z: np.ndarray, kept: np.ndarray, progress: float) -> np.ndarray:
        """What is kept once all decisions that are due have been made; those made before stand.

        Args:
          z: the logits β α, float64 [E, |O|]; of ops that are not kept they are not looked at.
          kept: what is kept so far, bool [E, |O|].
          progress: of the search, 0 to 1.

        Returns:
          bool [E, |O|], True nowhere but where `kept` is; the same where nothing is due.
        """


class FixedEdges(Rule):
    """The most certain edge is fixed to its best op (Li et al. 2020, "SGAS", arXiv:1912.00195).

    A decision takes the undecided edge with the highest score (criterion 1)

        S_EI = Σ_{o != none} p_o,   q_o = p_o / S_EI,   S_SC = 1 - H(q) / log |q|,
        S = norm(S_EI) · norm(S_SC),

    norm: to 0 for the lowest and 1 for the highest of the undecided edges. It is fixed to the op
    with the largest q. Where a node has K fixed inputs the others are closed. Ties go to the lower
    edge, and to the op that stands first. After Σ_j min(K, inputs of j) decisions all is decided.

    Args:
      first: t_0.
      space: the search space.
      cell_type: the cell type.
    """

    def __init__(self, first: float, space: Space, cell_type: str) -> None:
        ops = space.ops(cell_type)
        self._none = np.array([op == NONE for op in ops])
        self._targets = np.array([target for _, target in space.edges])
        self._top_k = space.top_k
        inputs = np.bincount(self._targets)
        super().__init__(first, int(np.minimum(inputs, self._top_k).sum()))

    @override
    def kept(self, z: np.ndarray, kept: np.ndarray, progress: float) -> np.ndarray:
        kept = kept.copy()
        for _ in range(self._fixed(kept).sum(), self.due(progress)):
            undecided = np.flatnonzero(kept.sum(axis=1) > 1)
            log_p = _log_softmax(z[undecided])[:, ~self._none]
            edge = undecided[np.argmax(certainty_scores(log_p))]
            best = np.argmax(np.where(self._none, -np.inf, z[edge]))
            kept[edge] = np.arange(len(self._none)) == best
            of_node = self._targets == self._targets[edge]
            if self._fixed(kept)[of_node].sum() == self._top_k:
                kept[of_node & ~self._fixed(kept)] = self._none
        return kept

    def _fixed(self, kept: np.ndarray) -> np.ndarray:
        """Which edges are fixed to an op, bool [E]."""
        return (kept.sum(axis=1) == 1) & ~kept[:, self._none].any(axis=1)


def certainty_scores(log_p: np.ndarray) -> np.ndarray:
    """S, of SGAS' criterion 1: see `FixedEdges`.

    Args:
      log_p: logs of op weights without that of `none`, float64 [E, |q|], |q| >= 2.

    Returns:
      float64 [E], 0 to 1.
    """
    log_importance = np.logaddexp.reduce(log_p, axis=1)
    log_q = log_p - log_importance[:, None]
    entropy = -np.sum(np.exp(log_q) * log_q, axis=1)
    return _normalized(np.exp(log_importance)) * _normalized(1 - entropy / np.log(log_p.shape[1]))


class FewerOps(Rule):
    """The weakest ops of every edge leave (Chen et al. 2019, "P-DARTS", arXiv:1904.12760).

    After decision d each edge has at most `numbers[d]` ops, those with the largest p; `none` is one
    of them. Among equals the op that stands first stays.

    Args:
      first: t_0.
      numbers: ops that are left, falling.
    """

    def __init__(self, first: float, numbers: Sequence[int]) -> None:
        super().__init__(first, len(numbers))
        self._numbers = tuple(numbers)

    @override
    def kept(self, z: np.ndarray, kept: np.ndarray, progress: float) -> np.ndarray:
        due = self.due(progress)
        if not due:
            return kept
        order = np.argsort(-np.where(kept, z, -np.inf), axis=1, kind="stable")
        left = np.zeros_like(kept)
        np.put_along_axis(left, order[:, : self._numbers[due - 1]], True, axis=1)
        return left & kept


def make_rule(settings: SearchSettings, space: Space, cell_type: str) -> Rule:
    """The rule of a progressive search for a cell type.

    Raises:
      ConfigError: no op would ever leave.
    """
    if settings.progressive == "edges":
        return FixedEdges(settings.progressive_from, space, cell_type)
    last, present = settings.progressive_ops[-1], len(space.ops(cell_type))
    if last >= present:
        raise ConfigError(
            f"SearchSettings.progressive_ops must end below the {present} ops that {cell_type} "
            f"cells of {space.name!r} have, got {last}"
        )
    return FewerOps(settings.progressive_from, settings.progressive_ops)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


def _normalized(values: np.ndarray) -> np.ndarray:
    """Min-max normalization; all 1 where the values do not differ."""
    spread = np.ptp(values)
    if spread < _NO_SPREAD:
        return np.ones_like(values)
    return (values - values.min()) / spread
