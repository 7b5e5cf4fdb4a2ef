"""What a study would run, before it does."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from rldarts_tf.checks import check_choice
from rldarts_tf.files import PathLike
from rldarts_tf.studies.plans import PLANS, planned
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.studies.runner import known_trials
from rldarts_tf.studies.settings import StudySettings
from rldarts_tf.studies.trials import StudyPaths


def preview(settings: StudySettings, root_dir: PathLike) -> str:
    """The trials of a study by environment and arm, as text; nothing is written.

    Those that follow from results (cells along a search, the best of a ranking) are not known yet.

    Args:
      settings: the study.
      root_dir: its directory, in which trials may be finished already; need not exist.

    Raises:
      ConfigError: the settings are not valid.
      RunError: the directory holds another study.
    """
    check_choice("StudySettings.kind", settings.kind, PLANS)
    paths = StudyPaths(Path(root_dir))
    # Whoever makes trials writes the random cells down.
    with tempfile.TemporaryDirectory() as folder:
        maker = TrialMaker(settings, Path(folder), known_trials(settings, paths))
        trials = planned(maker).values()
    waiting = [trial for trial in trials if paths.state(trial) != "finished"]
    groups = Counter((trial.environment, trial.arm, trial.own_steps) for trial in trials)
    lines = [
        f"{environment}  {arm}: {number} x {f'{steps:,} steps' if steps else 'a cell read off'}"
        for (environment, arm, steps), number in groups.items()
    ]
    steps = sum(trial.own_steps for trial in waiting)
    total = f"{len(trials)} trials, of which {len(trials) - len(waiting)} are finished"
    return "\n".join([*lines, f"{settings.kind}: {total}; {steps:,} environment steps are left"])
