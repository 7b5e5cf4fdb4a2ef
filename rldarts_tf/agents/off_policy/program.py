"""Base class of the programs that learn from replay: act, store, sample, learn."""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
import tensorflow as tf
from acme import specs
from acme.utils import loggers

from rldarts_tf.agents.gradients import diverged
from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.replay import BatchAdder, Replay, learner_steps_due
from rldarts_tf.envs.suite import Environments
from rldarts_tf.runs.checkpoints import part_of
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.program import AgentProgram

COLUMNS = ("learner_steps", "skipped_updates", "replay_size")
"""Metrics of every off-policy program."""


class OffPolicyProgram(AgentProgram):
    """Acts in a batch of environments, each with its own adder; the learner samples from replay.

    A checkpoint holds replay as it is at that moment. What a resumed run lacks are the windows of
    the n-step adders: each environment begins an episode for replay where it stands, so that at
    most n - 1 transitions of each are lost and n - 1 shorter ones come in.

    A subclass makes environments, learner and log, and says how to act.

    Args:
      environment: already reset.
      spec: of one environment.
      learner: not yet connected.
      log: the learner's logger.
      settings: `num_envs`, `batch_size`, `samples_per_insert`, `min_replay_size`,
        `replay_capacity`, `discount`, `steps_per_update`.
      stage_dir: where replay is saved.
      n_step: rewards in a return.
      priority_exponent: see `Replay`.
      initial_priority: see `Replay`.

    Attributes:
      losses: the metrics of the learner, and what else a subclass adds.
    """

    losses: tuple[str, ...]

    def __init__(
        self,
        environment: Environments,
        spec: specs.EnvironmentSpec,
        learner: ReplayLearner,
        log: MeanLogger,
        settings: Any,
        stage_dir: StagePaths,
        *,
        n_step: int,
        priority_exponent: float | None,
        initial_priority: float = 1.0,
    ) -> None:
        self.environment = environment
        self.learner = learner
        self.stopwatch = learner.stopwatch
        scale = () if learner.loss_scale is None else ("loss_scale",)
        self.columns = (*self.losses, *environment.counters(), *COLUMNS, *scale)
        self._spec = spec
        self._log = log
        self._settings = settings
        self._replay_dir = stage_dir.replay_dir
        self._n_step = n_step
        self._priority_exponent = priority_exponent
        self._initial_priority = initial_priority
        self._step = 0
        self._acted = 0
        self._sampling = False
        self._saved_replay: str | None = None
        self._replay: Replay | None = None
        self._adder: BatchAdder | None = None

    @abc.abstractmethod
    def _actions(self, observations: np.ndarray) -> np.ndarray:
        """Acts as in training: [B, ...] -> [B, ...]."""

    def _rewards(self, rewards: np.ndarray) -> np.ndarray:
        """Scales rewards float32 [B] for learning."""
        return rewards

    @property
    def replay(self) -> Replay:
        """The replay server; there is one after `start`."""
        if self._replay is None:
            raise ValueError("the program has not been started")
        return self._replay

    def start(self) -> None:
        """Starts the replay server, empty or restored from the checkpoint."""
        settings = self._settings
        self._replay = Replay(
            self._spec,
            settings.replay_capacity,
            self._priority_exponent,
            self._replay_dir,
            self._saved_replay,
            self._initial_priority,
        )
        self.learner.connect(self._replay.sample(settings.batch_size), self._replay.client)
        self._adder = BatchAdder(
            self._replay,
            settings.num_envs,
            self._n_step,
            settings.discount,
            self.environment.last_is_first,
        )
        self._adder.add_first(self.environment.current_time_step().observation)

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
                self._adder.flush()
                self._sampling = True
            while self.learner.num_steps < due:
                self.learner.step()
            if stopping():
                break
        metrics: dict[str, float] = {
            **self._log.take(self.losses),
            **self.environment.counters(),
            "learner_steps": self.learner.num_steps,
            "skipped_updates": self.learner.num_skipped,
            "replay_size": self.replay.size,
        }
        if self.learner.loss_scale is not None:
            metrics["loss_scale"] = float(self.learner.loss_scale.value)
        return self._step - before, metrics

    def state(self) -> dict[str, np.ndarray]:
        """State of the environments, counters, and the name of the replay checkpoint."""
        return {
            **{f"environment/{k}": v for k, v in self.environment.get_state().items()},
            "step": np.array(self._step, np.int64),
            "acted": np.array(self._acted, np.int64),
            "replay": np.array(self._saved_replay or ""),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self.environment.set_state(part_of(state, "environment"))
        self._step = int(state["step"])
        self._acted = int(state["acted"])
        self._saved_replay = str(state["replay"])

    def before_checkpoint(self) -> Iterable[Path]:
        """Saves replay; the previous replay checkpoint stays until this one is safe."""
        self._adder.flush()
        self._saved_replay = self.replay.save()
        return (self._replay_dir / self._saved_replay).iterdir()

    def after_checkpoint(self, kept: Collection[Path]) -> None:
        """Deletes replay checkpoints that no kept checkpoint refers to."""
        self.replay.forget_all_but({path.parent.name for path in kept})

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

    def _act_once(self) -> None:
        with self.stopwatch.measure("act"):
            actions = self._actions(self.environment.current_time_step().observation)
        with self.stopwatch.measure("simulate"):
            time_step = self.environment.step(actions)
        with self.stopwatch.measure("store"):
            self._adder.add(
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


def traced(act: Callable[..., Any]) -> Callable[[np.ndarray], Any]:
    """A policy as a graph; without AutoGraph, which would translate Sonnet and Keras too."""
    return tf.function(act, autograph=False, reduce_retracing=True)


def checked(actions: Any, values: Any, settings: type) -> np.ndarray:
    """Returns the actions after checking that the policy's output is finite.

    Args:
      actions: [B, ...].
      values: the network's output.
      settings: the class of the algorithm's settings, for the message.

    Raises:
      RunError: it is not.
    """
    if not np.isfinite(values).all():
        raise diverged("policy's output", "not finite", settings)
    return np.asarray(actions)
