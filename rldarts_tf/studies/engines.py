"""Where trials run: the processes of this machine, or a Ray cluster.

An engine turns a task into a `concurrent.futures.Future` of the text that `run_trial` returns.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Protocol

from rldarts_tf.errors import ConfigError
from rldarts_tf.studies.running import Start, Task, run_trial, start_process


class Engine(Protocol):
    """Runs trials."""

    def submit(self, task: Task) -> concurrent.futures.Future[str]:
        """Starts a trial as soon as there is room for it."""

    def free(self, running: int) -> bool:
        """Whether another trial would start at once, while so many run."""

    def stop(self) -> None:
        """Stops all trials with checkpoints; their futures then end."""

    def close(self) -> None:
        """Releases what the engine holds; no trial runs any more."""


class LocalEngine:
    """Some trials at a time as processes of this machine.

    Args:
      processes: how many.
      start: starts the process of a command.
    """

    def __init__(self, processes: int, start: Start = start_process) -> None:
        self._processes = processes
        self._start = start
        self._stopping = threading.Event()
        # Of the threads that wait for processes; the kernel signals a child when its thread ends,
        # so they live as long as the pool.
        self._pool = concurrent.futures.ThreadPoolExecutor(processes)

    def submit(self, task: Task) -> concurrent.futures.Future[str]:
        """See `Engine`."""
        return self._pool.submit(run_trial, task, self._stopping.is_set, self._start)

    def free(self, running: int) -> bool:
        """See `Engine`."""
        return running < self._processes

    def stop(self) -> None:
        """See `Engine`."""
        self._stopping.set()

    def close(self) -> None:
        """See `Engine`."""
        self._stopping.set()
        self._pool.shutdown()


class RayEngine:
    """Trials as tasks of a Ray cluster, whose machines share the study's directory.

    Ray decides where and when a trial runs. One whose machine has died is run again elsewhere, from
    its last checkpoint.

    Args:
      address: of the cluster, as `ray.init` takes it; None starts one on this machine.
      threads: CPUs of a trial.
      gpus: GPUs of a trial; a fraction shares one.
      start: starts the process of a command, on the machine of the trial.

    Raises:
      ConfigError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(
        self,
        address: str | None,
        threads: int,
        gpus: float = 0,
        start: Start = start_process,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "engine: ray is not installed; it is the extra 'ray' of rldarts_tf"
            ) from None
        self._ray = ray
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"ray_address: {address!r}: {error}") from None
        # -1: a machine may die as often as it likes. A trial that fails returns a text instead.
        remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=-1)
        self._run = remote(run_trial)
        self._start = start
        self._submitted: list[object] = []

    def submit(self, task: Task) -> concurrent.futures.Future[str]:
        """See `Engine`."""
        run = self._run.options(name=task.trial.name)
        reference = run.remote(task, start=self._start)
        self._submitted.append(reference)
        return reference.future()

    def free(self, running: int) -> bool:
        """See `Engine`: Ray itself has a queue."""
        del running
        return True

    def stop(self) -> None:
        """See `Engine`."""
        for reference in self._submitted:
            self._ray.cancel(reference)

    def close(self) -> None:
        """See `Engine`."""
        self.stop()
        self._ray.shutdown()
