"""Environments that step together, each simulated in a process of its own.

Where a step takes long, as drawing a frame on a CPU does, it takes processes to make several at
once. They are started as programs, not forked, and need not load TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.closing import check_open
from rldarts_tf.envs.episodes import EpisodeStatistics, check_settings, state_entry
from rldarts_tf.envs.pool.process import WorkerError, WorkerProcess
from rldarts_tf.envs.pool.shared_arrays import SharedArrays
from rldarts_tf.envs.pool.worker import RESET, STEP
from rldarts_tf.envs.serial import environment_seed
from rldarts_tf.errors import RunError

MAX_FAILURES = 3
"""Failures in a row that a worker may have; one more ends the run."""

# To import a simulator and load a task takes two seconds, or much longer on a busy machine.
_START_SECONDS = 180.0


class PoolBatch:
    """Copies of one environment of dm_env that step together, each in a process of its own.

    Time steps are those of `rldarts_tf.envs.suite.Environments`, with arrays that belong to the
    caller. Actions are float32 [B, A] in -1 to 1.

    Episode boundaries are those of dm_env, for each environment by itself: LAST has the true final
    observation, and the step after it ignores its action and is FIRST of the next episode.

    Failures. Where a worker dies, reports an exception or does not answer in time, one line on
    stderr says so, a new worker takes its place, and the environment's time step is FIRST of a new
    episode; the one that was running does not count in `episodes`. The other environments notice
    nothing. A worker that fails more than `MAX_FAILURES` times without a step between is given up.

    Seeds. Worker i has the seed `environment_seed(seed, i, generation)`, where the generation
    counts how often it was started.

    States. What a simulator holds cannot be saved. A saved state therefore has the generations, the
    crashes and the finished episodes only: after `set_state` new episodes begin, with seeds that
    were not used before, and those that were running when it was saved are abandoned.

    Attributes:
      episodes: returns and lengths, in raw rewards and steps of this class, updated by `step`.
      crashes: how many workers have been replaced after a failure, also before a saved state that
        was restored.
    """

    last_is_first = False

    def __init__(
        self,
        program: str,
        game: str,
        num_envs: int,
        *,
        seed: int,
        options: Mapping[str, Any],
        timeout: float,
        variables: Mapping[str, str],
    ) -> None:
        """Starts the workers, all at once, and waits until their environments are made.

        Args:
          program: module of the workers, which calls `rldarts_tf.envs.pool.worker.run`.
          game: name of the environment.
          num_envs: number of environments, at least 1.
          seed: decides the seeds of all workers.
          options: arguments of the environment but its seed, as JSON takes them.
          timeout: seconds that a worker may take for one step.
          variables: environment variables of the workers, set unless the user has.

        Raises:
          ConfigError: a worker finds an argument at fault.
          RunError: a worker cannot be started for another reason.
        """
        self._program = program
        self._game = game
        self._options = dict(options)
        self._variables = dict(variables)
        self.episodes = EpisodeStatistics(num_envs)
        self.crashes = 0
        self._seed = seed
        self._timeout = timeout
        self._generation = np.zeros(num_envs, np.int64)
        self._failures_in_a_row = np.zeros(num_envs, np.int64)
        self._time_step: dm_env.TimeStep | None = None
        self._memory = os.memfd_create("rldarts_tf")
        self._workers: list[WorkerProcess | None] = [None] * num_envs
        # A batch that is forgotten, or alive when the program ends, takes its workers along.
        self._end = weakref.finalize(self, _end_all, self._workers, self._memory)
        with self._closed_by_exceptions():
            greetings, failures = self._start(range(num_envs))
            for index, failure in failures.items():
                raise failure.error(f"{self._describe(index)}: ")
            self._greeting = greetings[0]
            self._shared = SharedArrays(self._memory, num_envs, **self._greeting)

    @property
    def batch_size(self) -> int:
        """Number of environments."""
        return len(self._workers)

    @property
    def games(self) -> tuple[str, ...]:
        """Name of each environment: the same for every one."""
        return (self._game,) * self.batch_size

    def observation_spec(self) -> specs.Array:
        """Spec of one observation; see the class."""
        shape = tuple(self._greeting["observation_shape"])
        dtype = np.dtype(self._greeting["observation_dtype"])
        if dtype == np.uint8:
            return specs.BoundedArray(shape, dtype, 0, 255, name="observation")
        return specs.Array(shape, dtype, name="observation")

    def action_spec(self) -> specs.BoundedArray:
        """Spec of one action: float32 [A] in -1 to 1."""
        shape = (self._greeting["action_size"],)
        return specs.BoundedArray(shape, np.float32, -1.0, 1.0, name="action")

    def reset(self) -> dm_env.TimeStep:
        """Starts a new episode in all environments.

        Episodes that were running do not count in `episodes`.
        """
        self._check_open()
        with self._closed_by_exceptions():
            self._revive(self._command(RESET, range(self.batch_size)))
        self.episodes.discard_running()
        return self._take_time_step()

    def step(self, actions: np.ndarray) -> dm_env.TimeStep:
        """Plays one action per environment; resets if there has been no reset.

        Args:
          actions: finite [B, A]; they are clipped to -1 to 1.

        Raises:
          ValueError: the shape is wrong, or a value is not finite. Nothing is then stepped.
          RunError: a worker fails again and again.
        """
        actions = self._checked(actions)
        if self._time_step is None:
            return self.reset()
        self._check_open()
        self._shared.action[:] = actions
        with self._closed_by_exceptions():
            failures = self._command(STEP, range(self.batch_size))
            self._failures_in_a_row[[i not in failures for i in range(self.batch_size)]] = 0
            self._revive(failures)
        time_step = self._take_time_step()
        step_types = time_step.step_type
        self.episodes.add(time_step.reward, step_types == dm_env.StepType.LAST)
        self.episodes.discard_running(step_types == dm_env.StepType.FIRST)
        return time_step

    def current_time_step(self) -> dm_env.TimeStep:
        """The latest time step; that of `reset` if there has been none."""
        return self.reset() if self._time_step is None else self._time_step

    def counters(self) -> dict[str, float]:
        """Returns {"crashes": workers replaced after a failure}."""
        return {"crashes": self.crashes}

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns what can be saved; see the class.

        Returns:
          Arrays that `np.savez` takes: `settings` (what the state must be restored into, JSON
          text), `generation` (int64 [B]), `crashes` (int64 scalar), and the entries of
          `EpisodeStatistics.state`.
        """
        return {
            "settings": np.array(json.dumps(self._options, sort_keys=True)),
            "generation": self._generation.copy(),
            "crashes": np.array(self.crashes, np.int64),
            **self.episodes.state(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Begins new episodes everywhere, after those of `get_state`, here or in another process.

        Raises:
          RunError: the state is incomplete or was taken with other settings. Nothing is then
            changed.
        """
        self._check_open()
        check_settings(state, self._options)
        generation = state_entry(state, "generation", np.int64, (self.batch_size,))
        # States of older versions have no crashes.
        crashes = state_entry({"crashes": np.array(0, np.int64), **state}, "crashes", np.int64, ())
        for name, counts in (("generation", generation), ("crashes", crashes)):
            if counts.min() < 0:
                raise RunError(f"environment state: {name!r} is negative")
        self.episodes.set_state(state)
        self.crashes = int(crashes)
        self.episodes.discard_running()
        self._generation = generation + 1
        with self._closed_by_exceptions():
            self._revive(self._restart(range(self.batch_size)))
        self._take_time_step()

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        self._end()

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions, np.float32)
        shape = (self.batch_size, self._greeting["action_size"])
        if actions.shape != shape:
            raise ValueError(f"actions: must have the shape {shape}, not {actions.shape}")
        if not np.isfinite(actions).all():
            raise ValueError("actions: must be finite, in -1 to 1")
        return actions

    def _check_open(self) -> None:
        check_open(self._end.alive)

    def _describe(self, index: int) -> str:
        return f"environment {index} ({self._game})"

    def _take_time_step(self) -> dm_env.TimeStep:
        """Copies what the workers have written."""
        shared = self._shared
        self._time_step = dm_env.TimeStep(
            shared.step_type.copy(),
            shared.reward.copy(),
            shared.discount.copy(),
            shared.observation.copy(),
        )
        return self._time_step

    @contextlib.contextmanager
    def _closed_by_exceptions(self) -> Iterator[None]:
        """Ends the workers if something goes wrong between a command and its answers.

        A batch that was interrupted there, by Ctrl-C for one, would take old answers for new ones.
        """
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _command(self, command: bytes, indices: Iterable[int]) -> dict[int, WorkerError]:
        """Has workers do something, all at once, and waits for them; returns what failed."""
        indices = list(indices)
        failures = self._for_each(indices, lambda worker: worker.send(command))
        sent = [index for index in indices if index not in failures]
        deadline = time.monotonic() + self._timeout
        return {**failures, **self._for_each(sent, lambda worker: worker.receive(deadline))}

    def _for_each(
        self, indices: Sequence[int], act: Callable[[WorkerProcess], None]
    ) -> dict[int, WorkerError]:
        failures = {}
        for index in indices:
            worker = self._workers[index]
            assert worker is not None, "every command comes after the start"
            try:
                act(worker)
            except WorkerError as failure:
                failures[index] = failure
        return failures

    def _start(self, indices: Iterable[int]) -> tuple[list[dict[str, Any]], dict[int, WorkerError]]:
        """Starts workers, ending those in their place; returns greetings, and what failed."""
        indices = list(indices)
        for index in indices:
            former = self._workers[index]
            if former is not None:
                former.kill()
            seed = environment_seed(self._seed, index, int(self._generation[index]))
            arguments = {
                "environment": {**self._options, "seed": seed},
                "memory": self._memory,
                "num_envs": self.batch_size,
                "index": index,
            }
            self._workers[index] = WorkerProcess(
                self._program, arguments, self._memory, self._variables
            )
        deadline = time.monotonic() + max(_START_SECONDS, self._timeout)
        greetings: list[dict[str, Any]] = []
        failures = self._for_each(
            indices, lambda worker: greetings.append(worker.receive_greeting(deadline))
        )
        return greetings, failures

    def _restart(self, indices: Iterable[int]) -> dict[int, WorkerError]:
        """Starts workers and their first episodes; returns what failed."""
        _, failures = self._start(indices)
        started = [index for index in indices if index not in failures]
        return {**failures, **self._command(RESET, started)}

    def _revive(self, failures: Mapping[int, WorkerError]) -> None:
        """Replaces workers that have failed until their new episodes have begun.

        Raises:
          RunError: one of them has failed too often.
        """
        while failures:
            for index, failure in failures.items():
                self._failures_in_a_row[index] += 1
                if self._failures_in_a_row[index] > MAX_FAILURES:
                    raise RunError(
                        f"{self._describe(index)}: failed {self._failures_in_a_row[index]} times "
                        f"without a step between: {failure}"
                    )
                self.crashes += 1
                self._generation[index] += 1
                print(
                    f"{self._describe(index)}: {failure}; started again, its episode is dropped",
                    file=sys.stderr,
                    flush=True,
                )
            failures = self._restart(list(failures))


def _end_all(workers: Sequence[WorkerProcess | None], memory: int) -> None:
    """Ends all workers of a batch and gives their memory back."""
    for worker in workers:
        if worker is not None:
            worker.kill()
    os.close(memory)
