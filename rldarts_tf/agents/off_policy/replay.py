"""Prioritized replay of n-step transitions on a Reverb server in this process.

Sources: Schaul et al. 2016 (priorities); Acme's NStepTransitionAdder (what a transition is).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
import reverb
import tensorflow as tf
from acme import datasets, specs
from acme.adders import reverb as adders

from rldarts_tf.acme_compat import ReverbClient
from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import reason
from rldarts_tf.runs.quiet import quiet_stderr

TABLE = adders.DEFAULT_PRIORITY_TABLE

_SAVING = "saving"


class Replay:
    """A Reverb server with one table of transitions.

    Frames are stored once, as they come (uint8) and compressed, however many transitions they
    belong to. When the table is full, the oldest transition goes first.

    Args:
      environment_spec: of one environment.
      capacity: transitions that it holds.
      priority_exponent: of the sampling probability, P(i) = p_i^exponent / Σ_k p_k^exponent; None:
        all are sampled alike.
      checkpoints_dir: where checkpoints of the table go; None for none.
      checkpoint: name of the one to begin with; None: to begin empty.
      initial_priority: of a new transition until somebody gives it another, p_i above.

    Raises:
      RunError: the checkpoint is missing or cannot be read.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        capacity: int,
        priority_exponent: float | None,
        checkpoints_dir: str | os.PathLike[str] | None = None,
        checkpoint: str | None = None,
        initial_priority: float = 1.0,
    ) -> None:
        self._initial_priority = float(initial_priority)
        self._checkpoints_dir = None if checkpoints_dir is None else Path(checkpoints_dir)
        checkpointer = None
        if self._checkpoints_dir is not None:
            self._prepare_folder(checkpoint)
            # When Reverb has saved a checkpoint, it deletes all others in its folder: that one is
            # apart. There is nothing to load from it; the fallback is what is loaded.
            checkpointer = reverb.checkpointers.DefaultCheckpointer(
                str(self._checkpoints_dir / _SAVING),
                fallback_checkpoint_path=checkpoint and str(self._checkpoints_dir / checkpoint),
            )
        table = reverb.Table(
            name=TABLE,
            sampler=(
                reverb.selectors.Uniform()
                if priority_exponent is None
                else reverb.selectors.Prioritized(priority_exponent)
            ),
            remover=reverb.selectors.Fifo(),
            max_size=capacity,
            # No rate limiting: the program decides how often to learn.
            rate_limiter=reverb.rate_limiters.MinSize(1),
            signature=adders.NStepTransitionAdder.signature(environment_spec),
        )
        try:
            with quiet_stderr():
                self._server = reverb.Server([table], port=None, checkpointer=checkpointer)
        except (RuntimeError, ValueError) as error:
            line = one_line(error)
            raise RunError(f"replay checkpoint {checkpoint!r} cannot be read: {line}") from error
        self.address = f"localhost:{self._server.port}"
        self.client: Any = ReverbClient(self.address)
        if checkpoint is not None and not self.size:
            # Reverb takes files that are missing or cut off at their beginning for empty ones.
            self.close()
            raise RunError(f"replay checkpoint {checkpoint!r} cannot be read: it holds nothing")

    @property
    def size(self) -> int:
        """Transitions in the table."""
        return self.client.server_info()[TABLE].current_size

    def adder(self, n_step: int, discount: float) -> adders.NStepTransitionAdder:
        """Acme's adder for one environment."""
        return adders.NStepTransitionAdder(
            self.client,
            n_step=n_step,
            discount=discount,
            priority_fns={TABLE: lambda transition: self._initial_priority},
        )

    def sample(self, batch_size: int) -> Iterator[reverb.ReplaySample]:
        """Batches of (keys and probabilities, `acme.types.Transition`), for ever.

        Sampling begins with the first batch that is asked for; the table must hold something then.
        """
        # Few batches are fetched ahead: their priorities are those of the moment of fetching.
        # Nothing in there has to be converted, which would take longer than all the rest.
        make = tf.autograph.experimental.do_not_convert(datasets.make_reverb_dataset)
        dataset = make(
            self.address,
            batch_size=batch_size,
            prefetch_size=1,
            num_parallel_calls=1,
            max_in_flight_samples_per_worker=batch_size,
        )
        # All its numbers are given. TensorFlow's thread that would tune them sleeps for up to a
        # minute, and an iterator cannot end before it wakes up.
        options = tf.data.Options()
        options.autotune.enabled = False
        with quiet_stderr():
            iterator = iter(dataset.with_options(options))
            first = next(iterator)
        yield first
        yield from iterator

    def save(self) -> str:
        """Writes a checkpoint of the table, beside those that there are; returns its name.

        Raises:
          RunError: it cannot be written, or there is no `checkpoints_dir`.
        """
        folder = self._folder
        try:
            with quiet_stderr():
                path = Path(self.client.checkpoint())
            path.rename(folder / path.name)
            path.parent.rmdir()
            return path.name
        except (RuntimeError, OSError) as error:
            line = one_line(error)
            raise RunError(f"the replay table cannot be saved: {line}") from error

    def forget_all_but(self, checkpoints: Collection[str]) -> None:
        """Deletes all checkpoints but those.

        Raises:
          RunError: the files cannot be changed.
        """
        with self._changing_files():
            for path in self._folder.iterdir():
                if path.name not in checkpoints and path.is_dir():
                    shutil.rmtree(path)

    @property
    def _folder(self) -> Path:
        """The folder of checkpoints.

        Raises:
          RunError: there is none.
        """
        if self._checkpoints_dir is None:
            raise RunError("the replay table cannot be saved: it has no checkpoints_dir")
        return self._checkpoints_dir

    def _prepare_folder(self, checkpoint: str | None) -> None:
        """Refuses to begin without the checkpoint; forgets one that was never finished."""
        folder = self._folder
        # Reverb writes DONE last; it skips a folder without it, and would begin empty.
        if checkpoint is not None and not (folder / checkpoint / "DONE").is_file():
            raise RunError(
                f"replay checkpoint {str(folder / checkpoint)!r} is missing or not complete: the "
                "run cannot resume"
            )
        with self._changing_files():
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / _SAVING).exists():
                shutil.rmtree(folder / _SAVING)

    @contextlib.contextmanager
    def _changing_files(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = str(self._checkpoints_dir)
            raise RunError(f"{folder!r} cannot be changed: {reason(error)}") from error

    def close(self) -> None:
        """Ends the server; iterators and adders must have been dropped. May be called twice."""
        if self._server is not None:
            with quiet_stderr():
                self._server.stop()
            # The memory of the table is free when nothing refers to it any more.
            self._server = self.client = None


class BatchAdder:
    """N-step adders for environments that step together, one adder each.

    Args:
      replay: where the transitions go.
      num_envs: number of environments.
      n_step: rewards in a return.
      discount: γ within a return.
      last_is_first: whether the observation with which an episode ends is the first of the next
        one, as Procgen gives it (no target looks beyond a discount of 0), so that no step is FIRST.
    """

    def __init__(
        self,
        replay: Replay,
        num_envs: int,
        n_step: int,
        discount: float,
        last_is_first: bool = False,
    ) -> None:
        self._make: Any = functools.partial(replay.adder, n_step, discount)
        self._adders = [self._make() for _ in range(num_envs)]
        self._running = [False] * num_envs
        self._last_is_first = last_is_first

    def add_first(self, observations: np.ndarray) -> None:
        """Begins an episode in every environment: [B, ...]."""
        for i, observation in enumerate(observations):
            self._begin(i, observation)

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        discounts: np.ndarray,
        step_types: np.ndarray,
        observations: np.ndarray,
    ) -> None:
        """Adds one step of every environment.

        Args:
          actions: [B, ...].
          rewards: float32 [B].
          discounts: float32 [B], 0 where the episode terminated.
          step_types: int32 [B], `dm_env.StepType` after the step. Where it is FIRST an episode
            begins, and one that was running is given up: its last transition is that before.
          observations: [B, ...], after the step.
        """
        columns = zip(actions, rewards, discounts, step_types, observations)
        for i, (action, reward, discount, step_type, observation) in enumerate(columns):
            if step_type == dm_env.StepType.FIRST:
                self._begin(i, observation)
                continue
            step = dm_env.TimeStep(dm_env.StepType(step_type), reward, discount, observation)
            self._adders[i].add(action, step)
            if step.last():
                self._running[i] = False
                if self._last_is_first:
                    self._begin(i, observation)

    def _begin(self, i: int, observation: np.ndarray) -> None:
        if self._running[i]:
            # Acme's `reset` leaves the open step of Reverb's writer open, and the next one fails.
            self._adders[i] = self._make()
        self._adders[i].add_first(dm_env.restart(observation))
        self._running[i] = True

    def flush(self) -> None:
        """Waits until the table has everything that was added."""
        for adder in self._adders:
            adder._writer.flush()  # Acme has no public way

    def close(self) -> None:
        """Ends the connections."""
        self._adders, self._make = [], None


def learner_steps_due(settings: Any, steps: int) -> int:
    """Learner steps for so many environment steps after the first `min_replay_size`.

    `batch_size` times this are `samples_per_insert` times those.
    """
    return max(int(steps * settings.samples_per_insert // settings.batch_size), 0)


def environment_spec(observation: Any, action: Any) -> specs.EnvironmentSpec:
    """The spec of one environment with float32 rewards and discounts, for Acme.

    Args:
      observation: an object with the shape and dtype of one observation.
      action: the same of one action, with its minimum and maximum.
    """
    shape, dtype = tuple(action.shape), action.dtype
    return specs.EnvironmentSpec(
        observations=specs.Array(tuple(observation.shape), observation.dtype, "observation"),
        actions=specs.BoundedArray(shape, dtype, action.minimum, action.maximum, "action"),
        rewards=specs.Array((), np.float32, "reward"),
        discounts=specs.BoundedArray((), np.float32, 0.0, 1.0, "discount"),
    )
