"""Makes vector environments of Gymnasium, and steps them in time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rldarts_tf import extras
from rldarts_tf.closing import check_open
from rldarts_tf.envs.gymnasium.registry import find_spec, load_gymnasium
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.watchdog import Watchdog
from rldarts_tf.errors import ConfigError, RunError, of_foreign_code, one_line


def make_vector(settings: GymnasiumSettings, num_envs: int) -> Any:
    """Makes a `gymnasium.vector.VectorEnv`.

    Gymnasium's own begin the next episode in the step after the last one (NEXT_STEP); what an
    environment's own does is for it to say.

    Raises:
      ConfigError: there is no such environment, or it cannot be made so.
    """
    gymnasium = load_gymnasium()
    from rldarts_tf.envs.gymnasium.wrapping import wrappers_of

    spec = find_spec(settings.env)
    wrapping = wrappers_of(settings)
    mode = settings.vectorization
    if mode == "auto":
        mode = "vector_entry_point" if spec.vector_entry_point and not wrapping else "sync"
    elif mode == "vector_entry_point" and wrapping:
        raise ConfigError(
            f"{', '.join(wrapping)}: not with vectorization = 'vector_entry_point', which makes "
            "environments that nothing can be put around; kwargs are its arguments"
        )
    wrappers = [*wrapping.values()]
    options = dict(settings.kwargs or {})
    if settings.max_episode_steps is not None:
        options["max_episode_steps"] = settings.max_episode_steps
    if settings.render:
        options["render_mode"] = "rgb_array"
    vector_kwargs: dict[str, Any] = {}
    if mode != "vector_entry_point":
        # Ours are checked by what they return. Nobody keeps the array that they write into.
        options.setdefault("disable_env_checker", True)
        vector_kwargs["copy"] = False
    if mode == "async":
        wrappers.insert(0, _leave_signals(os.getpid()))
    try:
        with Watchdog(settings.step_timeout, f"the constructor of {settings.env}"):
            return gymnasium.make_vec(
                settings.env,
                num_envs,
                vectorization_mode=mode,
                vector_kwargs=vector_kwargs,
                wrappers=wrappers,
                **options,
            )
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # of the environment's own code
        missing = extras.explanation_of(error)
        if missing is not None:
            raise ConfigError(f"env: {settings.env} cannot be made: {missing}") from error
        if "max_episode_steps" in options and mode == "vector_entry_point":
            raise ConfigError(
                f"max_episode_steps: {settings.env} has a vector constructor that may not take it "
                f"({one_line(error)}); kwargs are its arguments"
            ) from error
        what = f"env: {settings.env} cannot be made"
        raise of_foreign_code(ConfigError, what, error) from error


def _leave_signals(parent: int) -> Callable[[Any], Any]:
    """A wrapper that wraps nothing, but gives signals their default meaning in a forked process.

    What the launcher does with them is inherited: its processes would outlive `terminate`. SIGINT,
    which Ctrl-C sends to all of them, is for the launcher alone.
    """

    def leave(env: Any) -> Any:
        if os.getpid() != parent:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return env

    return leave


class Stepper:
    """Calls a vector environment; what goes wrong there is one line, and what hangs ends.

    A step that does not return in time ends the environments' processes where they have their own,
    and this process where they have not (see `Watchdog`).

    Args:
      vector: the vector environment.
      name: for messages, such as the id.
      timeout: seconds.
    """

    def __init__(self, vector: Any, name: str, timeout: float) -> None:
        self._vector = vector
        self._name = name
        self._timeout = timeout
        self._async = isinstance(vector, load_gymnasium().vector.AsyncVectorEnv)
        self._guard: Any = (
            contextlib.nullcontext() if self._async else Watchdog(timeout, f"the simulator {name}")
        )

    def reset(self, seed: int | None) -> Any:
        """Begins new episodes; returns the observations."""
        with self._watched():
            if self._async:
                self._vector.reset_async(seed=seed)
                return self._vector.reset_wait(self._timeout)[0]
            return self._vector.reset(seed=seed)[0]

    def step(self, actions: np.ndarray, finish: Callable[[Any], Any]) -> Any:
        """Steps all environments; returns what `finish` makes of what they returned."""
        with self._watched():
            if self._async:
                self._vector.step_async(actions)
                return finish(self._vector.step_wait(self._timeout))
            return finish(self._vector.step(actions))

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        check_open(not self._vector.closed)
        traces: list[str] = []
        try:
            with self._guard, _heard(traces) if self._async else contextlib.nullcontext():
                yield
        except BaseException as error:
            # An answer that was not waited for would be taken for the next one.
            self._kill()
            # An environment may try to exit; Ctrl-C is none of its own.
            if not isinstance(error, (Exception, SystemExit)):
                raise
            raise self._failure(error, traces) from error

    def _failure(self, error: BaseException, traces: Sequence[str]) -> RunError:
        """The error to end with.

        Args:
          error: what was raised.
          traces: the tracebacks of processes that have failed.
        """
        what = f"the simulator {self._name} failed"
        if isinstance(error, (EOFError, ConnectionError)):
            return RunError(f"{what}: one of its processes has ended")
        if isinstance(error, multiprocessing.TimeoutError):
            return RunError(f"{what}: no answer within {self._timeout:g} s")
        # Gymnasium raises the error of a process as an argument of another one of its class.
        if self._async and error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        return of_foreign_code(RunError, what, error, traces[-1] if traces else None)

    def _kill(self) -> None:
        """Ends the environments' processes, whatever they are doing; of the others nothing more."""
        if self._vector.closed:
            return
        if not self._async:
            with contextlib.suppress(Exception, SystemExit):  # of the environment's own code
                self._vector.close()
            self._vector.closed = True
            return
        for process in self._vector.processes:
            process.kill()
            process.join()
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        self._vector.closed = True

    def close(self) -> None:
        """Closes the environments. May be called twice."""
        if self._vector.closed:
            return
        try:
            self._vector.close()
        except (Exception, SystemExit):
            # Of the environment's own code, when nothing is wanted of it any more.
            self._kill()


@contextlib.contextmanager
def _heard(traces: list[str]) -> Iterator[None]:
    """Collects the tracebacks of processes, which Gymnasium would write, of errors it also raises.

    Args:
      traces: they are added to it.
    """
    logger = load_gymnasium().logger
    before = logger.error

    def hear(message: str, *arguments: Any) -> None:
        if message.startswith("Traceback"):
            traces.append(message)

    logger.error = hear
    try:
        yield
    finally:
        logger.error = before
