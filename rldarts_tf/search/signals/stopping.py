"""Rules by which a search stops early; each keeps the cell of before."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from typing_extensions import override


class Stop(NamedTuple):
    """That a search is to stop."""

    step: int
    """Of the measurement whose cell is kept."""
    reason: str


class StoppingRule(abc.ABC):
    """Looks at a signal from time to time.

    Args:
      least: measurements before the first at which it may stop.
    """

    name: str
    """Of the signal, as messages have it."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._steps: list[int] = []
        self._values: list[float] = []

    def measured(self, step: int, value: float) -> Stop | None:
        """Takes another measurement; whether to stop now.

        Args:
          step: environment steps so far.
          value: of the signal.
        """
        self._steps.append(step)
        self._values.append(value)
        return self.judged()

    def judged(self) -> Stop | None:
        """Whether to stop after the last measurement."""
        if len(self._values) <= self._least:
            return None
        return self._judge(self._steps, self._values)

    @abc.abstractmethod
    def _judge(self, steps: Sequence[int], values: Sequence[float]) -> Stop | None:
        """Whether to stop, after these measurements."""

    def state(self) -> dict[str, np.ndarray]:
        """The measurements so far, for a checkpoint."""
        return {
            "steps": np.array(self._steps, np.int64),
            "values": np.array(self._values, np.float64),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` returned."""
        self._steps, self._values = state["steps"].tolist(), state["values"].tolist()


class EigenvalueRule(StoppingRule):
    """Stops when the largest eigenvalue of the α-Hessian rises (Zela et al. 2020, section 5).

    With λ̄ the mean over the latest 5 measurements: when λ̄_t / λ̄_{t-4} > 1.3. The cell of
    measurement t - 4, before the rise, is kept. Means that are not positive say nothing.

    Args:
      least: see `StoppingRule`; Zela et al. have 10 of 50 epochs.
      factor: 1.3.
      window: measurements in a mean.
      lag: measurements between the two means.
    """

    name = "largest eigenvalue of the α-Hessian"

    def __init__(self, least: int, factor: float = 1.3, window: int = 5, lag: int = 4) -> None:
        super().__init__(max(least, lag))
        self._factor = factor
        self._window = window
        self._lag = lag

    @override
    def _judge(self, steps: Sequence[int], values: Sequence[float]) -> Stop | None:
        end = len(values) - self._lag
        before = float(np.mean(values[max(end - self._window, 0) : end]))
        now = float(np.mean(values[-self._window :]))
        if not (before > 0 and now / before > self._factor):
            return None
        return Stop(
            steps[end - 1],
            f"the {self.name} has risen from {before:.3g} to {now:.3g}, by more than a factor of "
            f"{self._factor:g} within {self._lag} measurements",
        )


class ParameterFreeRule(StoppingRule):
    """Stops when a cell has too many ops without weights (skips: DARTS+, Liang et al. 2019).

    The cell of the last measurement that had no more is kept, of the one before where none had.

    Args:
      least: see `StoppingRule`.
      most: edges of a cell that may have such an op.
    """

    name = "number of ops without weights in a cell"

    def __init__(self, least: int, most: int = 2) -> None:
        super().__init__(least)
        self._most = most

    @override
    def _judge(self, steps: Sequence[int], values: Sequence[float]) -> Stop | None:
        if values[-1] <= self._most or len(steps) < 2:
            return None
        within = [step for step, value in zip(steps, values) if value <= self._most]
        kept = (within or steps[:-1])[-1]
        return Stop(kept, f"the {self.name} is {values[-1]:g}, more than {self._most}")
