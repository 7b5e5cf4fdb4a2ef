"""Tasks of the DM Control Suite, each simulated in a process of its own, stepped together.

A frame takes tens of milliseconds to draw on a CPU, so it takes processes to draw several at once.
They are started as programs, not forked, and never load TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
from dm_env import specs

from rldarts_tf.checks import check_integer
from rldarts_tf.envs.dm_control.environment import action_repeat_of, check_arguments, prepare
from rldarts_tf.envs.dm_control.worker import BAD_INPUT, RESET, STEP
from rldarts_tf.envs.episodes import EpisodeStatistics, check_settings, state_entry
from rldarts_tf.envs.shared_arrays import SharedArrays
from rldarts_tf.errors import ConfigError, RunError, one_line

MAX_FAILURES = 3
"""Failures in a row that a worker may have; one more ends the run."""

# To import dm_control and load a task takes two seconds, or much longer on a busy machine.
_START_SECONDS = 180.0

# Python finds modules first in the folder where it starts: there this package is, and no file of
# the user's that has the name of another one.
_ROOT = Path(__file__).resolve().parents[3]


class DMControlBatch:
    """Copies of one task that step together, each a `DMControl` in a process of its own.

    Time steps are `dm_env.TimeStep` with arrays, a row per environment, that belong to the caller:
      step_type: int32 [B], the values of `dm_env.StepType`.
      reward: float32 [B], 0 where the step is FIRST.
      discount: float32 [B], 1 where the step is FIRST.
      observation: uint8 or float32 [B, ...]; see `DMControl`.

    Episode boundaries are those of dm_env, for each environment by itself: LAST has the true final
    observation, and the step after it ignores its action and is FIRST of the next episode.

    Failures. Where a worker dies, reports an exception or does not answer in time, one line on
    stderr says so, a new worker takes its place, and the environment's time step is FIRST of a new
    episode; the one that was running does not count in `episodes`. The other environments notice
    nothing. A worker that fails more than `MAX_FAILURES` times without a step between is given up.

    Seeds. Worker i has the seed `worker_seed(seed, i, generation)`, where the generation counts how
    often it was started.

    States. What a task holds cannot be saved. A saved state therefore has the generations, the
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
        domain_name: str,
        task_name: str,
        num_envs: int,
        *,
        seed: int,
        action_repeat: int | None = None,
        frame_stack: int = 3,
        image_size: int = 64,
        observations: str = "pixels",
        timeout: float = 60.0,
    ) -> None:
        """Starts the workers, all at once, and waits until their tasks are loaded.

        Args:
          domain_name: such as "cartpole".
          task_name: such as "swingup".
          num_envs: number of environments, at least 1.
          seed: decides the seeds of all workers, 0 to 2**32 - 1.
          action_repeat: steps of the task with one action; None is that of `ACTION_REPEAT`.
          frame_stack: frames in an observation; not used with states.
          image_size: height and width of frames; not used with states.
          observations: "pixels" or "state".
          timeout: seconds that a worker may take for one step.

        Raises:
          ConfigError: an argument is not valid, or dm_control or a renderer is missing.
          RunError: a worker cannot be started for another reason.
        """
        check_integer("num_envs:", num_envs, least=1)
        if action_repeat is None:
            action_repeat = action_repeat_of(domain_name, task_name)
        self._options = {
            "domain_name": domain_name,
            "task_name": task_name,
            "action_repeat": action_repeat,
            "frame_stack": frame_stack,
            "image_size": image_size,
            "observations": observations,
        }
        check_arguments({**self._options, "seed": seed})
        if not timeout > 0:
            raise ConfigError(f"timeout: must be more than 0, not {timeout}")
        prepare(observations)
        self.episodes = EpisodeStatistics(num_envs)
        self.crashes = 0
        self._seed = seed
        self._timeout = timeout
        self._generation = np.zeros(num_envs, np.int64)
        self._failures_in_a_row = np.zeros(num_envs, np.int64)
        self._time_step: dm_env.TimeStep | None = None
        self._memory = os.memfd_create("rldarts_tf")
        self._workers: list[_Worker | None] = [None] * num_envs
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
        """Task of each environment: "domain/task" for every one."""
        return (self._game,) * self.batch_size

    @property
    def action_repeat(self) -> int:
        """Steps of the task with one action."""
        return self._options["action_repeat"]

    def observation_spec(self) -> specs.Array:
        """Spec of one observation; see `DMControl`."""
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
        crashes = state_entry({"crashes": np.int64(0), **state}, "crashes", np.int64, ())
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
        if not self._end.alive:
            raise RuntimeError("the environments have been closed")

    @property
    def _game(self) -> str:
        return f"{self._options['domain_name']}/{self._options['task_name']}"

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

    def _command(self, command: bytes, indices: Iterable[int]) -> dict[int, _WorkerError]:
        """Has workers do something, all at once, and waits for them; returns what failed."""
        indices = list(indices)
        failures = self._for_each(indices, lambda worker: worker.send(command))
        sent = [index for index in indices if index not in failures]
        deadline = time.monotonic() + self._timeout
        return {**failures, **self._for_each(sent, lambda worker: worker.receive(deadline))}

    def _for_each(
        self, indices: Sequence[int], act: Callable[[_Worker], None]
    ) -> dict[int, _WorkerError]:
        failures = {}
        for index in indices:
            try:
                act(self._workers[index])
            except _WorkerError as failure:
                failures[index] = failure
        return failures

    def _start(
        self, indices: Iterable[int]
    ) -> tuple[list[dict[str, Any]], dict[int, _WorkerError]]:
        """Starts workers, ending those in their place; returns greetings, and what failed."""
        indices = list(indices)
        for index in indices:
            if self._workers[index] is not None:
                self._workers[index].kill()
            seed = worker_seed(self._seed, index, int(self._generation[index]))
            arguments = {
                "environment": {**self._options, "seed": seed},
                "memory": self._memory,
                "num_envs": self.batch_size,
                "index": index,
            }
            self._workers[index] = _Worker(arguments, self._memory)
        deadline = time.monotonic() + max(_START_SECONDS, self._timeout)
        greetings: list[dict[str, Any]] = []
        failures = self._for_each(
            indices, lambda worker: greetings.append(worker.receive_greeting(deadline))
        )
        return greetings, failures

    def _restart(self, indices: Iterable[int]) -> dict[int, _WorkerError]:
        """Starts workers and their first episodes; returns what failed."""
        _, failures = self._start(indices)
        started = [index for index in indices if index not in failures]
        return {**failures, **self._command(RESET, started)}

    def _revive(self, failures: Mapping[int, _WorkerError]) -> None:
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


def worker_seed(seed: int, index: int, generation: int) -> int:
    """The seed of the task that a worker simulates.

    Args:
      seed: of the batch.
      index: of the environment in it.
      generation: how many workers were started for this environment before.
    """
    return int(np.random.SeedSequence([seed, index, generation]).generate_state(1)[0])


class _WorkerError(Exception):
    """A worker has failed; the message says how.

    Args:
      message: one line.
      bad_input: the arguments were at fault.
    """

    def __init__(self, message: str, bad_input: bool = False) -> None:
        super().__init__(message)
        self.bad_input = bad_input

    def error(self, prefix: str) -> ConfigError | RunError:
        """Message for the user."""
        return ConfigError(str(self)) if self.bad_input else RunError(f"{prefix}{self}")


class _Worker:
    """A process of `dm_control_worker`.

    Args:
      arguments: see `dm_control_worker.main`.
      memory: the file that it inherits.
    """

    def __init__(self, arguments: Mapping[str, Any], memory: int) -> None:
        # A file rather than a pipe: nobody has to read it for the worker to go on.
        self._errors = os.memfd_create("errors")
        # Inherited: Ctrl-C must not end the worker in the moment before it ignores SIGINT itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rldarts_tf.envs.dm_control.worker",
                    json.dumps(arguments),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(memory,),
                bufsize=0,
                cwd=_ROOT,
                env=_environment(),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._answers = select.poll()
        self._answers.register(self._process.stdout, select.POLLIN)
        self._started = time.monotonic()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, command: bytes) -> None:
        """Sends a command of one byte."""
        self._started = time.monotonic()
        try:
            self._process.stdin.write(command)
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, deadline: float) -> None:
        """Waits, until a time of `time.monotonic`, for the answer of one byte."""
        self._read(1, deadline)

    def receive_greeting(self, deadline: float) -> dict[str, Any]:
        """Waits for the line that says that the task is loaded."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(4096, deadline)
        return json.loads(line)

    def kill(self) -> None:
        """Ends the process, whatever it is doing. May be called twice."""
        if self._process.stdin.closed:
            return
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        os.close(self._errors)

    def _read(self, size: int, deadline: float) -> bytes:
        left = max(deadline - time.monotonic(), 0.0)
        if not self._answers.poll(1000 * left):
            seconds = time.monotonic() - self._started
            raise _WorkerError(f"no answer within {seconds:.3g} s{self._last_words()}")
        answer = self._process.stdout.read(size)
        if not answer:
            raise self._death()
        return answer

    def _death(self) -> _WorkerError:
        """Describes a process that has closed its end of the pipes."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return _WorkerError(f"closed its pipes{self._last_words()}")
        if code == BAD_INPUT:
            return _WorkerError(self._last_words()[2:], bad_input=True)
        if code < 0:
            return _WorkerError(f"ended by {signal.Signals(-code).name}{self._last_words()}")
        return _WorkerError(f"ended with exit code {code}{self._last_words()}")

    def _last_words(self) -> str:
        """The last line on its stderr after a colon, or nothing."""
        size = os.fstat(self._errors).st_size
        text = os.pread(self._errors, 8192, max(size - 8192, 0)).decode("utf-8", "replace")
        lines = text.strip().splitlines()
        return f": {one_line(lines[-1], None)}" if lines else ""


def _environment() -> dict[str, str]:
    """The environment variables of a worker."""
    environment = dict(os.environ)
    # Mesa's own threads gain nothing on so small a frame, and every worker would start its own.
    environment.setdefault("LP_NUM_THREADS", "0")
    return environment


def _end_all(workers: Sequence[_Worker | None], memory: int) -> None:
    """Ends all workers of a batch and gives their memory back."""
    for worker in workers:
        if worker is not None:
            worker.kill()
    os.close(memory)
