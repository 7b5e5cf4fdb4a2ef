"""Ends a search early, by the rules of `rldarts_tf.search.signals.stopping`."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.ops import parameter_free
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search.signals.hessian import HessianVectorProduct, largest_eigenvalue
from rldarts_tf.search.signals.stopping import EigenvalueRule, ParameterFreeRule, Stop, StoppingRule
from rldarts_tf.training.held_out import HeldOut
from rldarts_tf.training.program import AgentProgram
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.triggers import StepTrigger


class EarlyStopping(Closing):
    """Never stops: that of a training that is no search, or has no rule."""

    columns: tuple[str, ...] = ()
    """Metrics that `after_update` returns; empty between two measurements."""

    stop: Stop | None = None
    """That the search is to stop."""

    def after_update(self, before: int, step: int) -> dict[str, float]:
        """Measures where it is time; returns metrics.

        Args:
          before: environment steps before the update.
          step: and after it.
        """
        del before, step
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        return {}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` returned."""

    @override
    def close(self) -> None:
        pass


def make_early_stopping(
    encoder: Encoder, program: AgentProgram, num_env_steps: int, seed: int
) -> EarlyStopping:
    """The rule that the search method of a supernet asks for.

    Args:
      encoder: that is trained.
      program: what trains it.
      num_env_steps: of the whole search.
      seed: of the run.
    """
    rule = encoder.alpha.search.stop_by if isinstance(encoder, Supernet) else None
    if rule == "eigenvalue":
        return EigenvalueStopping(encoder, program, num_env_steps, seed)
    if rule == "parameter_free":
        return ParameterFreeStopping(encoder, num_env_steps)
    return EarlyStopping()


class MeasuredStopping(EarlyStopping):
    """Measures a signal in equal intervals.

    Args:
      supernet: that is searched with.
      rule: judges the measurements.
      num_env_steps: of the whole search.
    """

    def __init__(self, supernet: Supernet, rule: StoppingRule, num_env_steps: int) -> None:
        self._rule = rule
        interval = num_env_steps / supernet.alpha.search.stop_measurements
        self._trigger = StepTrigger(interval, num_env_steps, at_end=False)

    @abc.abstractmethod
    def _measure(self) -> float:
        """The signal."""

    @override
    def after_update(self, before: int, step: int) -> dict[str, float]:
        if not self._trigger.due(before, step):
            return {}
        value = self._measure()
        self.stop = self._rule.measured(step, value)
        return dict.fromkeys(self.columns, value)

    @override
    def state(self) -> dict[str, np.ndarray]:
        # The rule judges the last measurement anew when it is resumed: a stop is no state.
        return self._rule.state()

    @override
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._rule.set_state(state)
        self.stop = self._rule.judged()


class EigenvalueStopping(MeasuredStopping):
    """Measures the largest eigenvalue of the Hessian by α of the loss of a held-out minibatch.

    Where α has an optimizer of its own the loss has what that one adds, `Alpha.regularization`: so
    has the gradient that the release of Zela et al. differentiates. Its rule is one of ratios,
    which a constant matters to.

    Args:
      supernet: that is searched with.
      program: what trains it.
      num_env_steps: of the whole search.
      seed: of the run.
    """

    columns = ("alpha_eigenvalue",)

    def __init__(
        self, supernet: Supernet, program: AgentProgram, num_env_steps: int, seed: int
    ) -> None:
        search = supernet.alpha.search
        rule = EigenvalueRule(_least(search), search.stop_factor)
        super().__init__(supernet, rule, num_env_steps)
        self._alpha = supernet.alpha
        self._variables = supernet.alpha.trainable_weights
        self._program = program
        self._seed = derived_seed(seed, "held-out experience")
        self._rng = np.random.default_rng(self._seed)
        self._held_out: HeldOut | None = None
        self._product: HessianVectorProduct | None = None
        self._vector: np.ndarray | float = 0.0

    @override
    def _measure(self) -> float:
        if self._held_out is None or self._product is None:
            held_out = self._held_out = self._program.held_out(self._seed)

            def loss(experience: Any) -> tf.Tensor:
                held_out_loss = tf.reduce_mean(held_out.losses(experience))
                return held_out_loss + self._alpha.regularization()

            self._product = HessianVectorProduct(loss, self._variables)
        product, experience = self._product, self._held_out.collect(1)
        # From the last eigenvector, with some of all directions: it changes slowly.
        noise = self._rng.normal(size=product.size)
        start = self._vector + 0.1 * noise / np.linalg.norm(noise)
        value, self._vector = largest_eigenvalue(lambda v: product(v, experience), start)
        return value

    @override
    def close(self) -> None:
        if self._held_out is not None:
            self._held_out.close()


class ParameterFreeStopping(MeasuredStopping):
    """Counts the ops without weights in the present cell: in that of the type that has most.

    The cell is the one without the search's caps, which would hide what is counted.

    Args:
      supernet: that is searched with.
      num_env_steps: of the whole search.
    """

    columns = ("parameter_free_ops",)

    def __init__(self, supernet: Supernet, num_env_steps: int) -> None:
        search = supernet.alpha.search
        rule = ParameterFreeRule(_least(search), search.stop_parameter_free)
        super().__init__(supernet, rule, num_env_steps)
        self._supernet = supernet
        space = supernet.space
        self._ops = parameter_free({op for t in space.cell_types for op in space.ops(t)})

    @override
    def _measure(self) -> float:
        cells = self._supernet.discretize(capped=False).cells.values()
        return float(max(sum(op in self._ops for node in c for _, op in node) for c in cells))


def _least(search: SearchSettings) -> int:
    """Measurements before the first at which a search may stop."""
    return round(search.stop_after * search.stop_measurements)
