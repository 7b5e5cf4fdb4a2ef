"""The training loop of a stage: one encoder, one agent, one stage directory.

Supernet, discrete cell and IMPALA-CNN differ in the encoder alone, and algorithms in the
`AgentProgram` alone: metrics, evaluations, checkpoints and resuming are the same for all.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dm_env
import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.cost import Cost, count_cost
from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.metrics import MetricsWriter
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.early_stopping import make_early_stopping
from rldarts_tf.training.evaluation import Evaluator
from rldarts_tf.training.program import AgentProgram, MakeProgram, StageSettings
from rldarts_tf.training.progress import Progress
from rldarts_tf.training.recorder import make_recorder
from rldarts_tf.training.returns import ReturnTracker
from rldarts_tf.training.state import part_of, with_prefix
from rldarts_tf.training.stopwatch import Stopwatch
from rldarts_tf.training.triggers import StepTrigger, TimeTrigger

_MOST_EMPTY_UPDATES = 100
"""Updates in a row without an environment step, and then there will never be one."""

PARTS = ("evaluate", "save")
"""The parts whose seconds `Training` measures, beside those of the program."""


class Training(Closing):
    """Trains one encoder; resumes from the last checkpoint of its stage directory.

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
        settings.check_gradient_steps(label, encoder)
        suite, training, seed = settings.suite, settings.training, settings.training.seed
        self._end = training.num_env_steps
        tf.keras.utils.set_random_seed(seed)
        if training.devices > 1:
            make_program = functools.partial(make_program, devices=training.devices)
        self._program = make_program(encoder, suite, settings.algorithm, seed, stage_dir)
        self._distillation = self._program.distillation
        self._returns = ReturnTracker(self._program.environment.games, suite.normalized)
        self._evaluator = Evaluator(suite, settings.algorithm.num_envs, seed)
        self._stopwatch = Stopwatch(*PARTS)
        self._evaluation = StepTrigger(training.evaluation_interval, self._end, at_end=False)
        pictures = self._end / training.pictures if training.pictures else 0
        self._pictures = StepTrigger(pictures, self._end, at_end=True)
        self._checkpoint = TimeTrigger(60 * training.checkpoint_minutes)
        self._step = 0
        self._seconds = 0.0
        self._saving_since: float | None = None
        self._early = make_early_stopping(encoder, self._program, self._end, seed)
        self._checkpoints = Checkpoints(
            stage_dir,
            {**self._program.trackables, "program": ArrayState(self._state, self._set_state)},
        )
        try:
            if isinstance(encoder, Supernet):
                encoder.alpha.seed_draws(seed)
            restored = self._checkpoints.restore()
            self._resume_step = self._saved_step = self._step if restored else None
            self._recorder = make_recorder(encoder, stage_dir, self._resume_step, self._observe)
            self._set_progress()
            if not self._done:
                if self._distillation is not None:
                    self._distillation.check_resumed()
                self._program.start()
        except BaseException:
            self._program.close()
            raise

    @property
    def step(self) -> int:
        """Environment steps made so far."""
        return self._step

    @property
    def _done(self) -> bool:
        """Whether there is nothing left to train."""
        return self._step >= self._end or self._early.stop is not None

    @property
    def program(self) -> AgentProgram:
        """The agent."""
        return self._program

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns the stage's entry in summary.json.

        Raises:
          RunError: training has diverged, or a file cannot be written.
        """
        interrupted = False
        if self._resume_step is not None and not self._done:
            self._say(f"goes on at step {self._step:,}{self._new_episodes()}")
        with (
            self._open_metrics() as metrics,
            Progress(self._end, self._label, start_step=self._step) as progress,
        ):
            if self._resume_step is None:
                self._recorder.record(0)
                if self._settings.training.pictures:
                    metrics.write_pictures(0, self._recorder.pictures())
            while not self._done and not interrupted:
                begun, before = time.monotonic(), self._step
                row = self._update()
                # Where a stop came before there was a step, there is nothing new to be recorded.
                if self._step > before:
                    row |= self._recorder.record(self._step)
                    row |= self._early.after_update(before, self._step)
                    if self._pictures.due(before, self._step):
                        metrics.write_pictures(self._step, self._recorder.pictures())
                    if self._evaluation.due(before, self._step):
                        row |= self._evaluate(self._settings.training.evaluation_episodes)
                    row |= self._speed(self._step - before, time.monotonic() - begun)
                    progress.update(self._step, **_shown(row))
                    if math.isfinite(progress.seconds_left):
                        row["seconds_left"] = progress.seconds_left
                    metrics.write(self._step, row)
                interrupted = self._stopping() and not self._done
                if self._checkpoint.due() or interrupted or self._done:
                    self._save()
        if self._early.stop is not None:
            reason, kept = self._early.stop.reason, self._early.stop.step
            self._say(
                f"stopped early at step {self._step:,}: {reason}; the cell of step {kept:,} is kept"
            )
        # The last evaluation may take minutes; the next start makes it.
        interrupted = interrupted or self._stopping()
        final_episodes = self._settings.training.final_evaluation_episodes
        evaluated = {} if interrupted else self._evaluate(final_episodes)
        cost = count_cost(self._encoder, self._program.environment.observation_spec().shape)
        return self._summary(evaluated, cost, interrupted)

    def _say(self, text: str) -> None:
        """Prints a line about this stage."""
        print(f"{self._label}: {text}", file=sys.stderr, flush=True)

    def _new_episodes(self) -> str:
        """What is said of episodes where a run goes on; nothing if those of its checkpoint do."""
        step_type = np.asarray(self._program.environment.current_time_step().step_type)
        if (step_type == dm_env.StepType.FIRST).all():
            return ", with new episodes: those that ran cannot be saved"
        return ""

    @override
    def close(self) -> None:
        self._early.close()
        self._program.close()

    def _open_metrics(self) -> MetricsWriter:
        groups = self._columns()
        return MetricsWriter(
            self._stage_dir,
            [column for columns in groups.values() for column in columns],
            self._resume_step,
            groups={column: group for group, columns in groups.items() for column in columns},
        )

    def _columns(self) -> dict[str, Sequence[str]]:
        """The columns of the table, by the group they are shown in."""
        parts = (*self._program.stopwatch.parts, *self._stopwatch.parts)
        return {
            "returns": self._returns.columns,
            "learning": self._program.columns,
            "speed": ("steps_per_second", "seconds_left", *(f"seconds_{part}" for part in parts)),
            "evaluation": self._evaluator.columns,
            **self._recorder.columns,
            **({"stopping": self._early.columns} if self._early.columns else {}),
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
            self._set_progress()
            if self._step > before or self._stopping():
                return {**self._returns.metrics(), **metrics}
        raise RunError(
            f"no environment step in {_MOST_EMPTY_UPDATES} updates in a row: the environments only "
            "begin episodes"
        )

    def _observe(self) -> np.ndarray:
        """The states in which the environments stand, [B, ...]."""
        return self._program.environment.current_time_step().observation

    def _set_progress(self) -> None:
        """Sets the clocks of the algorithm, of a search and of a distillation."""
        progress = min(self._step / self._end, 1.0)
        if self._distillation is not None:
            training_return = self._returns.metrics()["return_mean"]
            self._distillation.follow(self._step, progress, training_return)
        self._program.set_progress(progress)
        self._encoder.set_progress(progress)

    def _evaluate(self, num_episodes: int) -> dict[str, float]:
        with self._stopwatch.measure("evaluate"):
            return self._evaluator(self._program.evaluation_policy, num_episodes)

    def _speed(self, steps: int, seconds: float) -> dict[str, float]:
        """Metrics of the time that a row took, and of that of a checkpoint before it."""
        self._seconds += seconds
        parts = {**self._program.stopwatch.take(), **self._stopwatch.take()}
        return {
            "steps_per_second": steps / seconds,
            **{f"seconds_{part}": value for part, value in parts.items()},
        }

    def _save(self) -> None:
        """Saves a checkpoint, unless the last one is of this step.

        To write that once more would leave none of it, should the process die then.
        """
        seconds = 0.0
        if self._step != self._saved_step:
            self._saving_since = time.monotonic()
            with self._stopwatch.measure("save"):
                self._recorder.flush()
                files = self._program.before_checkpoint()
                self._program.after_checkpoint(self._checkpoints.save(self._step, files))
            self._saved_step = self._step
            seconds = time.monotonic() - self._saving_since
            self._saving_since = None
            self._seconds += seconds
        self._checkpoint.acted(seconds)

    def _summary(
        self, evaluated: Mapping[str, float], cost: Cost, interrupted: bool
    ) -> dict[str, Any]:
        returns, stop = self._returns.metrics(), self._early.stop
        return {
            "exit_state": "interrupted" if interrupted else "finished",
            "encoder": type(self._encoder).__name__,
            **self._settings.suite.describe(),
            "seed": self._settings.training.seed,
            "env_steps": self._step,
            "gradient_steps": self._program.gradient_steps,
            **{
                name: value
                for name, value in returns.items()
                if name == "episodes" or name.startswith("return_mean")
            },
            **evaluated,
            "wall_time_s": round(self._seconds, 1),
            "env_steps_per_second": round(self._step / self._seconds, 1) if self._seconds else None,
            **dataclasses.asdict(cost),
            **({} if self._distillation is None else self._distillation.describe()),
            **({} if stop is None else {"stopped_early": stop.reason, "kept_step": stop.step}),
        }

    def _state(self) -> dict[str, np.ndarray]:
        seconds = self._seconds
        if self._saving_since is not None:
            # Else a resumed run would lack the time in which replay, the long part, was saved.
            seconds += time.monotonic() - self._saving_since
        return {
            **with_prefix("agent", self._program.state()),
            **with_prefix("returns", self._returns.state()),
            **with_prefix("stopping", self._early.state()),
            **with_prefix(
                "distillation", {} if self._distillation is None else self._distillation.state()
            ),
            "step": np.array(self._step, np.int64),
            "seconds": np.array(seconds, np.float64),
        }

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._program.set_state(part_of(state, "agent"))
        self._returns.set_state(part_of(state, "returns"))
        self._early.set_state(part_of(state, "stopping"))
        if self._distillation is not None:
            self._distillation.set_state(part_of(state, "distillation"))
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
