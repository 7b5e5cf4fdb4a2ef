"""Base class of the programs that learn from replay: act, store, sample, learn."""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dm_env
import numpy as np
import tensorflow as tf
from acme import types
from acme.utils import loggers
from typing_extensions import override

from rldarts_tf.agents.gradients import diverged
from rldarts_tf.agents.off_policy.held_out import OffPolicyHeldOut
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.replay import (
    BatchAdder,
    Replay,
    environment_spec,
    learner_steps_due,
)
from rldarts_tf.devices import make_strategy
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search.settling import settled
from rldarts_tf.teaching.distillation import COLUMNS as TAUGHT
from rldarts_tf.teaching.distillation import TERMS, Distillation
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.program import AgentProgram
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.state import part_of, with_prefix

T = TypeVar("T")

COLUMNS = ("learner_steps", "skipped_updates", "replay_size")
"""Metrics of every off-policy program."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """An algorithm's share of `OffPolicyProgram`.

    Attributes:
      learner: not yet connected.
      act: observations [B, ...] -> (actions [B, ...], the network's output), as in training.
      explore: sets the exploration of `act`; called with the environment steps before each action.
      evaluate: like `act`, as in evaluations.
      trackables: TensorFlow objects of a checkpoint beside the learner's, by name.
      n_step: rewards in a return.
      priority_exponent: see `Replay`.
      initial_priority: see `Replay`.
    """

    learner: ReplayLearner
    act: Callable[[Any], tuple[Any, Any]]
    explore: Callable[[int], object]
    evaluate: Callable[[Any], tuple[Any, Any]]
    trackables: Mapping[str, Any]
    n_step: int = 1
    priority_exponent: float | None = None
    initial_priority: float = 1.0


class OffPolicyProgram(AgentProgram):
    """Acts in a batch of environments, each with its own adder; the learner samples from replay.

    A checkpoint holds replay as it is at that moment. What a resumed run lacks are the windows of
    the n-step adders: each environment begins an episode for replay where it stands, so that at
    most n - 1 transitions of each are lost and n - 1 shorter ones come in.

    Args:
      encoder: the encoder, not yet built.
      suite: the environments.
      settings: `num_envs`, `batch_size`, `samples_per_insert`, `min_replay_size`,
        `replay_capacity`, `discount`, `steps_per_update`; fitted to the suite.
      seed: of the run. Reverb's choice of samples cannot be seeded.
      stage_dir: where replay is saved.
      distillation: the teacher, if there is one.
      devices: how many share a learner step.

    Attributes:
      losses: the metrics of the learner, and what else a subclass adds.
      learner: the learner.
    """

    losses: tuple[str, ...]

    def __init__(
        self,
        encoder: Encoder,
        suite: Suite,
        settings: Any,
        seed: int,
        stage_dir: StagePaths,
        distillation: Distillation | None = None,
        devices: int = 1,
    ) -> None:
        self._settings = settings
        self._suite = suite
        self._strategy = make_strategy(devices)
        self.distillation = distillation
        self._replay_dir = stage_dir.replay_dir
        self._step = 0
        self._acted = 0
        self._sampling = False
        self._saved_replay: str | None = None
        self._replay: Replay | None = None
        self._adder: BatchAdder | None = None
        self._log = MeanLogger()
        self.environment = suite.make(settings.num_envs, derived_seed(seed, "environments"))
        try:
            self.environment.reset()
            self._spec = environment_spec(
                self.environment.observation_spec(), self.environment.action_spec()
            )
            encoder.check_size(self._spec.observations.shape)
            self._parts = self._make_parts(encoder, suite, seed)
        except BaseException:
            self.environment.close()
            raise
        self.learner = self._parts.learner
        self.stopwatch = self.learner.stopwatch
        self.trackables = {**self.learner.state, **self._parts.trackables}
        scale = () if self.learner.loss_scale is None else ("loss_scale",)
        taught = TAUGHT if distillation else ()
        self.columns = (*self.losses, *taught, *self.environment.counters(), *COLUMNS, *scale)
        self._act = traced(self._parts.act)
        self._act_evaluating = traced(settled(encoder)(self._parts.evaluate))

    @abc.abstractmethod
    def _make_parts(self, encoder: Encoder, suite: Suite, seed: int) -> Parts:
        """Makes learner and policies; `environment`, `_spec`, `_settings` and `_log` are there."""

    def _rewards(self, rewards: np.ndarray) -> np.ndarray:
        """Scales rewards float32 [B] for learning."""
        return rewards

    @property
    def replay(self) -> Replay:
        """The replay server; there is one after `start`."""
        return _started(self._replay)

    @property
    @override
    def gradient_steps(self) -> int:
        return self.learner.num_steps

    @override
    def start(self) -> None:
        """Starts the replay server, empty or restored from the checkpoint."""
        settings, parts = self._settings, self._parts
        self._replay = Replay(
            self._spec,
            settings.replay_capacity,
            parts.priority_exponent,
            self._replay_dir,
            self._saved_replay,
            parts.initial_priority,
        )
        self.learner.connect(self._replay.sample(settings.batch_size), self._replay.client)
        self._adder = BatchAdder(
            self._replay,
            settings.num_envs,
            parts.n_step,
            settings.discount,
            self.environment.last_is_first,
        )
        self._adder.add_first(self.environment.current_time_step().observation)

    @override
    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        """Steps every environment `steps_per_update` times and makes the learner steps due."""
        before = self._step
        # An update that a stop ended early is completed when the run resumes: rows of metrics and
        # the last step are then those of a run that was never stopped.
        per_update = self._settings.steps_per_update
        for _ in range(per_update - self._acted % per_update):
            self._act_once()
            due = learner_steps_due(self._settings, self._step - self._settings.min_replay_size)
            if self.learner.num_steps < due and not self._sampling:
                # The adders may still hold the first transitions, and sampling would wait for one.
                _started(self._adder).flush()
                self._sampling = True
            while self.learner.num_steps < due:
                self.learner.step()
            if stopping():
                break
        metrics: dict[str, float] = {
            **self._log.take((*self.losses, *TERMS)),
            **({} if self.distillation is None else self.distillation.weights()),
            **self.environment.counters(),
            "learner_steps": self.learner.num_steps,
            "skipped_updates": self.learner.num_skipped,
            "replay_size": self.replay.size,
        }
        if self.learner.loss_scale is not None:
            metrics["loss_scale"] = float(self.learner.loss_scale.value)
        return self._step - before, metrics

    @override
    def evaluation_policy(self, seed: int) -> Policy:
        del seed
        return lambda observations: self._checked(self._act_evaluating(observations))

    @override
    def held_out(self, seed: int) -> OffPolicyHeldOut:
        settings = self._settings
        act = traced(self._held_out_policy(seed))
        return OffPolicyHeldOut(
            self._suite.make(settings.num_envs, derived_seed(seed, "held-out environments")),
            lambda observations: self._checked(act(observations)),
            self._rewards,
            traced(self._held_out_target),
            self.learner.loss_of,
            settings.batch_size,
            self._parts.n_step,
            settings.discount,
        )

    @abc.abstractmethod
    def _held_out_policy(self, seed: int) -> Callable[[Any], tuple[Any, Any]]:
        """Like `Parts.act` at this moment of training, with randomness of its own."""

    @abc.abstractmethod
    def _held_out_target(self, transitions: types.Transition, group: tf.Tensor) -> tf.Tensor:
        """What the learner's network is to predict of a minibatch [M, ...] with this number."""

    @override
    def state(self) -> dict[str, np.ndarray]:
        """State of the environments, counters, and the name of the replay checkpoint."""
        return {
            **with_prefix("environment", self.environment.get_state()),
            "step": np.array(self._step, np.int64),
            "acted": np.array(self._acted, np.int64),
            "replay": np.array(self._saved_replay or ""),
        }

    @override
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.environment.set_state(part_of(state, "environment"))
        self._step = int(state["step"])
        self._acted = int(state["acted"])
        self._saved_replay = str(state["replay"])

    @override
    def before_checkpoint(self) -> Iterable[Path]:
        """Saves replay; the previous replay checkpoint stays until this one is safe."""
        _started(self._adder).flush()
        self._saved_replay = self.replay.save()
        return (self._replay_dir / self._saved_replay).iterdir()

    @override
    def after_checkpoint(self, kept: Collection[Path]) -> None:
        """Deletes replay checkpoints that no kept checkpoint refers to."""
        self.replay.forget_all_but({path.parent.name for path in kept})

    @override
    def close(self) -> None:
        """Closes replay and simulators."""
        try:
            self.learner.disconnect()
            if self._adder is not None:
                self._adder.close()
            if self._replay is not None:
                self._replay.close()
            # The table may take gigabytes, and this object may live longer than it is used.
            self._adder = self._replay = None
        finally:
            self.environment.close()

    def _checked(self, acted: tuple[Any, Any]) -> np.ndarray:
        """Returns the actions of (actions, the network's output).

        Raises:
          RunError: the output is not finite.
        """
        actions, output = acted
        if not np.isfinite(output).all():
            raise diverged("policy's output", "not finite", type(self._settings))
        return np.asarray(actions)

    def _act_once(self) -> None:
        with self.stopwatch.measure("act"):
            self._parts.explore(self._step)
            actions = self._checked(self._act(self.environment.current_time_step().observation))
        with self.stopwatch.measure("simulate"):
            time_step = self.environment.step(actions)
        with self.stopwatch.measure("store"):
            _started(self._adder).add(
                actions,
                self._rewards(time_step.reward),
                time_step.discount,
                time_step.step_type,
                time_step.observation,
            )
        self._acted += 1
        # Where an episode began, the action was ignored.
        self._step += int(np.sum(time_step.step_type != dm_env.StepType.FIRST))


class MeanLogger(loggers.Logger):
    """Accumulates metrics; `take` returns their means."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = collections.defaultdict(list)

    def write(self, data: Mapping[str, Any]) -> None:
        """Takes numbers by name."""
        for name, value in data.items():
            self._values[name].append(float(value))

    def take(self, names: Sequence[str]) -> dict[str, float]:
        """Returns the means since the last call, of the names that were written."""
        means = {name: float(np.mean(self._values[name])) for name in names if name in self._values}
        self._values.clear()
        return means

    def close(self) -> None:
        """There is nothing to close."""


def traced(act: Callable[..., Any]) -> Callable[..., Any]:
    """A policy as a graph; without AutoGraph, which would translate Sonnet and Keras too."""
    return tf.function(act, autograph=False, reduce_retracing=True)


def _started(part: T | None) -> T:
    if part is None:
        raise ValueError("the program has not been started")
    return part
