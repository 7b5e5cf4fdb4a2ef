"""The training program of a stage: one encoder, one agent, one stage directory.

Supernet, discrete cell and IMPALA-CNN differ in the encoder alone, and algorithms in the
`AgentProgram` alone: metrics, evaluations, checkpoints and resuming are the same for all.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.cost import count_cost
from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.envs.suite import Environments, Suite
from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.metrics import MetricsWriter
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.evaluation import Policy, evaluate
from rldarts_tf.training.progress import Progress
from rldarts_tf.training.recorder import SearchRecorder
from rldarts_tf.training.returns import ReturnTracker, game_columns, summarize
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.settings import TrainingSettings
from rldarts_tf.training.state import part_of


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """All settings of a stage but those of its encoder."""

    algorithm: Any
    """One of `rldarts_tf.agents.settings.ALGORITHMS`, fitted to the suite."""
    suite: Suite
    training: TrainingSettings


class AgentProgram(abc.ABC):
    """Interface of an agent and its environments, advanced by `Training` update by update.

    Attributes:
      environment: the environments of training; the agent alone steps them.
      columns: the metrics that `advance` returns.
      trackables: TensorFlow objects of a checkpoint, by name; `state` has the rest.
    """

    environment: Environments
    columns: tuple[str, ...]
    trackables: Mapping[str, Any]

    @abc.abstractmethod
    def start(self) -> None:
        """Called once before the first `advance`, and after `set_state` where a run resumes.

        Not called where nothing is left to do but an evaluation.
        """

    @abc.abstractmethod
    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        """Acts and learns for one row of metrics.

        Args:
          stopping: tells whether a stop was asked for; an update that takes long may then end
            early.

        Returns:
          (environment steps made, which may be none where episodes only began; metrics).

        Raises:
          RunError: training has diverged.
        """

    @abc.abstractmethod
    def evaluation_policy(self, seed: int) -> Policy:
        """Returns the policy for an evaluation; it does not touch training's random generators.

        Args:
          seed: of the run; what is drawn follows from it anew with each policy that this returns.
            One of them is used at a time.
        """

    @abc.abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that resuming needs and `trackables` lacks."""

    @abc.abstractmethod
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes background resources; may be called twice."""

    def before_checkpoint(self) -> Iterable[Path]:
        """Called before `state` is taken; returns files of its own that belong to the checkpoint.

        They stand in the stage's `checkpoints_dir`. Most agents have none.
        """
        return ()

    def after_checkpoint(self, kept: Collection[Path]) -> None:  # noqa: B027
        """Called when the checkpoint is safe on disk; no other files than these are needed now."""


_MOST_EMPTY_UPDATES = 100
"""Updates in a row without an environment step, and then there will never be one."""

MakeProgram = Callable[[Encoder, Any, Any, int, StagePaths], AgentProgram]
"""(encoder, not yet built; environments; settings of the algorithm; seed; where files of its own
go) -> program."""


class Training:
    """Trains one encoder; continues from the last checkpoint of its stage directory.

    Args:
      stage_dir: where everything goes.
      label: what the progress display calls the stage.
      encoder: the encoder, not yet built.
      make_program: the algorithm.
      settings: all settings.
      stopping: asked after each update; True ends the training early, with a checkpoint.
    """

    def __init__(
        self,
        stage_dir: StagePaths,
        label: str,
        encoder: Encoder,
        make_program: MakeProgram,
        settings: StageSettings,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stage_dir = stage_dir
        self._label = label
        self._encoder = encoder
        self._settings = settings
        self._stopping = stopping
        self._suite = settings.suite
        seed = settings.training.seed
        tf.keras.utils.set_random_seed(seed)
        self._program = make_program(encoder, self._suite, settings.algorithm, seed, stage_dir)
        environment = self._program.environment
        self._returns = ReturnTracker(environment.games, self._suite.normalized)
        self._step = 0
        self._seconds = 0.0
        self._saving_since: float | None = None
        self._checkpoints = Checkpoints(
            stage_dir,
            {**self._program.trackables, "program": ArrayState(self._state, self._set_state)},
        )
        try:
            self._restored = self._checkpoints.restore()
            self._saved_step = self._step if self._restored else None
            if self._step < settings.training.num_env_steps:
                self._program.start()
        except BaseException:
            self._program.close()
            raise

    @property
    def step(self) -> int:
        """Environment steps made so far."""
        return self._step

    @property
    def _is_search(self) -> bool:
        return isinstance(self._encoder, Supernet)

    @property
    def program(self) -> AgentProgram:
        """The agent."""
        return self._program

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns the stage's entry in summary.json.

        Raises:
          RunError: training has diverged, or a file cannot be written.
        """
        training = self._settings.training
        resume_step = self._step if self._restored else None
        recorder = (
            SearchRecorder(self._stage_dir, self._encoder, resume_step) if self._is_search else None
        )
        cost = count_cost(self._encoder, self._program.environment.observation_spec().shape)
        evaluated: dict[str, float] = {}
        interrupted = False
        saved_at, saving = time.monotonic(), 0.0
        with (
            self._open_metrics(resume_step) as metrics,
            Progress(training.num_env_steps, self._label, start_step=self._step) as progress,
        ):
            if recorder is not None and not self._restored:
                recorder.record(0)
                if training.pictures:
                    metrics.write_pictures(0, recorder.pictures())
            while self._step < training.num_env_steps and not interrupted:
                started, before = time.monotonic(), self._step
                row = self._update()
                # Where a stop came before there was a step, there is nothing new to be recorded.
                if self._step > before:
                    if recorder is not None:
                        row |= recorder.record(self._step)
                        if self._pictures_are_due(before):
                            metrics.write_pictures(self._step, recorder.pictures())
                    if self._evaluation_is_due(before):
                        row |= self._evaluate(training.evaluation_episodes)
                    elapsed = time.monotonic() - started
                    self._seconds += elapsed
                    row["steps_per_second"] = (self._step - before) / elapsed
                    progress.update(self._step, **_shown(row))
                    if math.isfinite(progress.seconds_left):
                        row["seconds_left"] = progress.seconds_left
                    metrics.write(self._step, row)
                interrupted = self._stopping() and self._step < training.num_env_steps
                # What takes long is done more rarely: replay may hold gigabytes.
                interval = 60 * training.checkpoint_minutes
                due = time.monotonic() - saved_at >= max(interval, 20 * saving if interval else 0)
                if due or interrupted or self._step >= training.num_env_steps:
                    saving = self._save(recorder)
                    saved_at = time.monotonic()
        # The last evaluation may take minutes; the next start makes it.
        interrupted = interrupted or self._stopping()
        if not interrupted:
            evaluated = self._evaluate(training.final_evaluation_episodes)
        return self._summary(evaluated, cost, interrupted)

    def close(self) -> None:
        """Closes background resources."""
        self._program.close()

    def _open_metrics(self, resume_step: int | None) -> MetricsWriter:
        groups = self._columns()
        return MetricsWriter(
            self._stage_dir,
            [column for columns in groups.values() for column in columns],
            resume_step,
            groups={column: group for group, columns in groups.items() for column in columns},
        )

    def _columns(self) -> dict[str, Sequence[str]]:
        """The columns of the table, by the group they are shown in."""
        return {
            "returns": self._returns.columns,
            "learning": self._program.columns,
            "speed": ("steps_per_second", "seconds_left"),
            "evaluation": [
                column
                for name in self._suite.evaluation_sets
                for column in (
                    f"eval_{name}_return_mean",
                    f"eval_{name}_return_std",
                    f"eval_{name}_return_mean_normalized",
                    *game_columns(f"eval_{name}_return_mean", self._suite.games),
                )
            ],
            **(SearchRecorder.columns(self._encoder) if self._is_search else {}),
        }

    def _update(self) -> dict[str, float]:
        """Advances the agent until it has made a step, or is to stop; returns the row of metrics.

        An update makes none where all that was done was to begin episodes, those of simulators that
        were replaced among them. Everything that is recorded is recorded once per step.

        Raises:
          RunError: there is no end to such updates.
        """
        before = self._step
        for _ in range(_MOST_EMPTY_UPDATES):
            steps, metrics = self._program.advance(self._stopping)
            self._step += steps
            self._returns.add(self._program.environment.episodes.take())
            if self._step > before or self._stopping():
                return {**self._returns.metrics(), **metrics}
        raise RunError(
            f"no environment step in {_MOST_EMPTY_UPDATES} updates in a row: the environments only "
            "begin episodes"
        )

    def _save(self, recorder: SearchRecorder | None) -> float:
        """Saves a checkpoint; returns the seconds that it took."""
        # To write that of this step once more would leave none of it, should the process die then.
        if self._step == self._saved_step:
            return 0.0
        self._saving_since = time.monotonic()
        if recorder is not None:
            recorder.flush()
        files = self._program.before_checkpoint()
        self._program.after_checkpoint(self._checkpoints.save(self._step, files))
        self._saved_step = self._step
        saving = time.monotonic() - self._saving_since
        self._saving_since = None
        self._seconds += saving
        return saving

    def _evaluation_is_due(self, before: int) -> bool:
        interval = self._settings.training.evaluation_interval
        if not interval or self._step >= self._settings.training.num_env_steps:
            return False
        return self._step // interval > before // interval

    def _pictures_are_due(self, before: int) -> bool:
        training = self._settings.training
        if not training.pictures:
            return False
        interval = training.num_env_steps / training.pictures
        at_end = self._step >= training.num_env_steps
        return at_end or self._step // interval > before // interval

    def _evaluate(self, num_episodes: int) -> dict[str, float]:
        """Plays fresh environments of every set of levels."""
        games = self._suite.games
        num_envs = min(max(num_episodes, len(games)), self._settings.algorithm.num_envs)
        # The same seeds every time: what changes between evaluations is the policy.
        seed = self._settings.training.seed
        environment_seed = derived_seed(seed, "evaluation environments")
        results: dict[str, float] = {}
        for name, overrides in self._suite.evaluation_sets.items():
            environment = self._suite.make(num_envs, environment_seed, **overrides)
            policy = self._program.evaluation_policy(seed)
            try:
                played = evaluate(environment, policy, num_episodes)
            finally:
                environment.close()
            of_episode = np.array(environment.games)[played.environments]
            returns = {game: played.returns[of_episode == game] for game in games}
            means = {game: float(np.mean(values)) for game, values in returns.items()}
            results |= summarize(means, f"eval_{name}_return_mean", self._suite.normalized)
            results[f"eval_{name}_return_std"] = float(np.mean([*map(np.std, returns.values())]))
        return results

    def _summary(
        self, evaluated: Mapping[str, float], cost: Any, interrupted: bool
    ) -> dict[str, Any]:
        returns = self._returns.metrics()
        return {
            "exit_state": "interrupted" if interrupted else "finished",
            "encoder": type(self._encoder).__name__,
            **self._suite.describe(),
            "seed": self._settings.training.seed,
            "env_steps": self._step,
            **{
                name: value
                for name, value in returns.items()
                if name == "episodes" or name.startswith("return_mean")
            },
            **evaluated,
            "wall_time_s": round(self._seconds, 1),
            "env_steps_per_second": round(self._step / self._seconds, 1) if self._seconds else None,
            **dataclasses.asdict(cost),
        }

    def _state(self) -> dict[str, np.ndarray]:
        seconds = self._seconds
        if self._saving_since is not None:
            # Else a resumed run would lack the time in which replay, the long part, was saved.
            seconds += time.monotonic() - self._saving_since
        return {
            **{f"agent/{k}": v for k, v in self._program.state().items()},
            **{f"returns/{k}": v for k, v in self._returns.state().items()},
            "step": np.int64(self._step),
            "seconds": np.float64(seconds),
        }

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._program.set_state(part_of(state, "agent"))
        self._returns.set_state(part_of(state, "returns"))
        self._step = int(state["step"])
        self._seconds = float(state["seconds"])


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    """The numbers on the progress line."""
    names = {
        "return_mean": "return",
        "eval_test_return_mean": "eval",
        "entropy": "entropy",
        "epsilon": "epsilon",
    }
    return {shown: row[name] for name, shown in names.items() if name in row}
