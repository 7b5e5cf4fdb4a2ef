"""The trained policy of a run as a teacher of another training."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rldarts_tf.agents.registry import Algorithm
from rldarts_tf.errors import ConfigError, RLDartsError, RunError, one_line
from rldarts_tf.export.policies import TrainedStage, read_stage
from rldarts_tf.files import PathLike
from rldarts_tf.runs.npz import parse_npz
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.results import read_results
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.teaching.teacher import Teacher
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.state import part_of

_PREFERRED = ("evaluate", "baseline", "search")

_PROGRAM = "program/.ATTRIBUTES/py_state"
"""The state of `Training` in a checkpoint."""

_UNITS_OF_VALUES = ("reward_clip", "action_repeat")
"""Settings of environments that values depend on."""


def load_teacher(root: PathLike, stage: str | None = None, step: int | None = None) -> Teacher:
    """Loads a teacher from a run directory; nothing in config.gin is executed.

    Args:
      root: the run directory.
      stage: its stage; None: the first of evaluate, baseline and search that is finished.
      step: of the checkpoint; None: the newest.

    Raises:
      RLDartsError: there is no such policy; the message begins with "TeacherSettings.run".
    """
    with _naming_the_setting():
        return _load(*_read(root, stage, step))


def check_teacher(
    root: PathLike,
    stage: str | None,
    step: int | None,
    algorithm: Algorithm,
    student: StageSettings,
    distillation: DistillationSettings,
) -> None:
    """Checks that a teacher can teach a student; makes no network.

    Args:
      root: see `load_teacher`, as `stage` and `step`.
      algorithm: the student's.
      student: its settings.
      distillation: what it is to learn.

    Raises:
      RLDartsError: it cannot; the message begins with "TeacherSettings.run".
    """
    with _naming_the_setting():
        found, _ = _read(root, stage, step)
    teacher = _Side(found.algorithm.name, found.settings, found.suite)
    _check_sides(root, teacher, _side(algorithm, student), distillation)


def check_own_teacher(
    root: PathLike,
    algorithm: Algorithm,
    teacher: StageSettings,
    student: StageSettings,
    distillation: DistillationSettings,
) -> None:
    """Checks that a stage of the same run, not trained yet, will be able to teach another.

    Args:
      root: of the run.
      algorithm: of both.
      teacher: its settings.
      student: the other's.
      distillation: what it is to learn.

    Raises:
      ConfigError: it will not; the message begins with "TeacherSettings.run".
    """
    _check_sides(root, _side(algorithm, teacher), _side(algorithm, student), distillation)


class _Side(NamedTuple):
    """What a teacher and its student are compared by."""

    algorithm: str
    settings: Any
    suite: Any


def _side(algorithm: Algorithm, stage: StageSettings) -> _Side:
    return _Side(algorithm.name, stage.algorithm, stage.suite)


def _check_sides(
    root: PathLike, teacher: _Side, student: _Side, distillation: DistillationSettings
) -> None:
    wrong = _differences(teacher, student, distillation)
    if wrong is not None:
        what, own, others = wrong
        raise ConfigError(
            f"TeacherSettings.run: {str(root)!r} cannot teach this student: its {what} "
            f"{'are' if what.endswith('s') else 'is'} {own}, not {others}"
        )


def _differences(
    teacher: _Side, student: _Side, distillation: DistillationSettings
) -> tuple[str, Any, Any] | None:
    """(what, the teacher's, the student's) of the first thing that must not differ."""

    def pairs() -> Iterator[tuple[str, Any, Any]]:
        mine, own = teacher.suite, student.suite
        yield "algorithm", teacher.algorithm, student.algorithm
        yield "game", ", ".join(mine.games), ", ".join(own.games)
        # Environments may have to be started for these.
        yield "frames", _shown(mine.observation_spec()), _shown(own.observation_spec())
        yield "actions", _shown(mine.action_spec()), _shown(own.action_spec())
        if distillation.critic_weight > 0:
            yield "discount", teacher.settings.discount, student.settings.discount
            for name in _UNITS_OF_VALUES:
                yield name, _unit(mine, name), _unit(own, name)

    return next((pair for pair in pairs() if pair[1] != pair[2]), None)


def _unit(suite: Any, name: str) -> Any:
    """The value in force: a suite knows it where its settings leave it to the task."""
    return getattr(suite, name, getattr(suite.settings, name, None))


def _shown(spec: Any) -> str:
    """Shape, type and bounds, as far as a spec has them."""
    kind = f"{tuple(spec.shape)} {np.dtype(spec.dtype).name}"
    least, most = getattr(spec, "minimum", None), getattr(spec, "maximum", None)
    if least is None or most is None:
        return kind
    return f"{kind} from {np.min(least)} to {np.max(most)}"


@contextlib.contextmanager
def _naming_the_setting() -> Iterator[None]:
    try:
        yield
    except RLDartsError as error:
        # Gin raises classes of its own, derived from that of the error.
        kind = ConfigError if isinstance(error, ConfigError) else RunError
        raise kind(f"TeacherSettings.run: {one_line(error)}") from None


def _read(root: PathLike, stage: str | None, step: int | None) -> tuple[TrainedStage, float | None]:
    """(the stage, its training return if it has one)."""
    paths = RunPaths(Path(root))
    results = read_results(paths.summary_path)
    if stage is None:
        finished = [s for s in _PREFERRED if s in results and results[s].exit_state == "finished"]
        if not finished:
            raise RunError(f"{str(root)!r} holds no finished training")
        stage = finished[0]
    trained = read_stage(paths.root, stage, step)
    return trained, results[stage].return_mean if stage in results else None


def _load(trained: TrainedStage, training_return: float | None) -> Teacher:
    module = trained.algorithm.teacher
    policy = trained.load(module.make_teacher)
    state = tf.train.load_checkpoint(str(trained.checkpoint)).get_tensor(_PROGRAM)
    scales = module.reward_scales(
        trained.settings, trained.suite, part_of(parse_npz(state), "agent")
    )
    return Teacher(
        checkpoint=trained.checkpoint,
        checksum=_checksum(trained.checkpoint),
        network=policy.outputs,
        reward_scales=scales,
        training_return=training_return,
    )


def _checksum(checkpoint: Path) -> str:
    """SHA-256 of the files that TensorFlow writes of a checkpoint, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.parent.glob(f"{checkpoint.name}.*")):
        if path.suffix != ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()
