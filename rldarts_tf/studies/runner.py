"""Runs the trials of a study: each to its end, those that wait for others after them."""

from __future__ import annotations

import concurrent.futures
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence

from rldarts_tf.checks import check_choice
from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike, write_text
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.studies.display import Display
from rldarts_tf.studies.engines import Engine
from rldarts_tf.studies.plans import PLANS, planned
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.studies.running import FINISHED, STOPPED, Task
from rldarts_tf.studies.settings import StudySettings, changed_setting
from rldarts_tf.studies.trials import Study, StudyPaths, Trial

ATTEMPTS = 2
"""How often a trial that fails is run before the study goes on without it."""
_POLL_S = 1.0


def run_study(
    settings: StudySettings,
    root_dir: PathLike,
    engine: Engine,
    threads: int,
    stopping: Callable[[], bool] = lambda: False,
    display: Display | None = None,
) -> bool:
    """Runs a study, or what is left of it.

    Args:
      settings: the study. Where the directory has it already, they are the same or have grown.
      root_dir: the study's directory; this process alone runs it.
      engine: where trials run.
      threads: of each trial.
      stopping: asked all the time; True stops all trials with checkpoints.
      display: shows trials and events.

    Returns:
      Whether all trials are finished; False if the study was stopped.

    Raises:
      ConfigError: the settings are not valid.
      RunError: the directory holds another study or is in use; or trials have failed.
    """
    check_choice("StudySettings.kind", settings.kind, PLANS)
    with RunDirectory(root_dir) as directory:
        runner = Runner(settings, StudyPaths(directory.root), engine, threads, display)
        runner.run(stopping)
    return runner.report()


class Runner:
    """The trials of a study and how far they are.

    Args:
      settings: the study.
      paths: of its directory, which nobody else writes to.
      engine: where trials run.
      threads: of each trial.
      display: shows trials and events; None for one of its own.

    Raises:
      ConfigError: the settings are not valid.
      RunError: the directory holds another study.
    """

    def __init__(
        self,
        settings: StudySettings,
        paths: StudyPaths,
        engine: Engine,
        threads: int,
        display: Display | None = None,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._engine = engine
        self._threads = threads
        known = known_trials(settings, paths)
        self._maker = TrialMaker(settings, paths.root, known)
        self._trials: dict[str, Trial] = {}
        self._finished: set[str] = set()
        self._failed: dict[str, str] = {}
        self._attempts: Counter[str] = Counter()
        self._running: dict[concurrent.futures.Future[str], Trial] = {}
        self._stopped = False
        self._plan()
        self._check_same(known)
        self._save()
        self._display = display or Display(settings.kind, paths)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Runs trials until all have ended or it is time to stop."""
        self._write_failures()
        with self._display:
            self._show()
            try:
                while self._submit() or self._running:
                    done, _ = concurrent.futures.wait(
                        self._running, _POLL_S, concurrent.futures.FIRST_COMPLETED
                    )
                    for future in done:
                        self._end(self._running.pop(future), future)
                    if stopping() and not self._stopped:
                        self._stopped = True
                        self._engine.stop()
                    self._show()
            finally:
                self._engine.close()

    def report(self) -> bool:
        """Whether all trials are finished; False if they were stopped.

        Raises:
          RunError: trials have failed.
        """
        if self._failed:
            name = next(iter(self._failed))
            waiting = len(self._trials) - len(self._finished) - len(self._failed)
            others = f", {waiting} others were not run" if waiting else ""
            raise RunError(
                f"{len(self._failed)} of {len(self._trials)} trials failed{others}: {name}: "
                f"{self._failed[name]} (log: {self._paths.log_path(self._trials[name])}); "
                "the same command tries them again"
            )
        return len(self._finished) == len(self._trials)

    def _plan(self) -> None:
        """Asks for the trials, and writes them down if there are more than before."""
        trials = planned(self._maker)
        if trials.keys() == self._trials.keys():
            return
        for name in trials.keys() - self._trials.keys():
            if self._paths.state(trials[name]) == "finished":
                self._finished.add(name)
        self._trials = trials

    def _check_same(self, known: Sequence[Trial]) -> None:
        """Raises a RunError if trials that there are would be trained in another way now."""
        for trial in known:
            if self._trials.get(trial.name) != trial:
                raise RunError(
                    f"root_dir {str(self._paths.root)!r}: this version of rldarts_tf makes another "
                    f"trial of {trial.name!r} than {self._paths.study_path.name} has; use another "
                    "root_dir or the old version"
                )

    def _save(self) -> None:
        study = Study(self._settings.kind, self._settings.plain(), tuple(self._trials.values()))
        study.save(self._paths.root)

    def _submit(self) -> bool:
        """Starts the trials that can start; whether there are any."""
        begun = {trial.name for trial in self._running.values()}
        submitted = False
        for name, trial in self._trials.items():
            if self._stopped or not self._engine.free(len(self._running)):
                break
            if name in begun or name in self._finished or name in self._failed:
                continue
            if set(trial.needs) <= self._finished:
                resumed = self._paths.state(trial) == "interrupted"
                self._display.event(trial, "resumed" if resumed else "started")
                task = Task(str(self._paths.root), trial, self._threads, os.getcwd())
                self._running[self._engine.submit(task)] = trial
                submitted = True
        return submitted

    def _end(self, trial: Trial, future: concurrent.futures.Future[str]) -> None:
        """Takes note of a trial that has ended."""
        try:
            outcome = future.result()
        except Exception as error:  # of an engine, or of the system
            outcome = one_line(error)
        if outcome == FINISHED:
            self._finished.add(trial.name)
            self._failed.pop(trial.name, None)
            self._display.event(trial, "finished")
            before = len(self._trials)
            self._plan()
            if len(self._trials) > before:
                self._save()
        elif outcome == STOPPED or self._stopped:
            self._display.event(trial, "stopped")
        else:
            self._attempts[trial.name] += 1
            again = self._attempts[trial.name] < ATTEMPTS
            log = self._paths.log_path(trial)
            self._display.event(
                trial, f"failed{', once more' if again else ''}: {outcome} (log: {log})"
            )
            if not again:
                self._failed[trial.name] = outcome
                self._write_failures()

    def _write_failures(self) -> None:
        if self._failed or self._paths.failures_path.exists():
            write_text(self._paths.failures_path, json.dumps(self._failed, indent=1) + "\n")

    def _show(self) -> None:
        self._display.show(
            [*self._trials.values()],
            self._finished,
            {trial.name for trial in self._running.values()},
            self._failed,
        )


def known_trials(settings: StudySettings, paths: StudyPaths) -> tuple[Trial, ...]:
    """The trials that a directory has already.

    Raises:
      RunError: they are of other settings.
    """
    if not paths.study_path.exists():
        return ()
    study = Study.load(paths.root)
    changed = changed_setting(study.settings, settings.plain())
    if changed is not None:
        raise RunError(
            f"root_dir {str(paths.root)!r} holds a study with other settings: {changed}; "
            "use another root_dir or the old setting"
        )
    return study.trials
