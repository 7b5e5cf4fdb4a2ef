"""Interface of the algorithms, and the settings of a stage."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.closing import Closing
from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.envs.suite import Environments, Suite
from rldarts_tf.errors import ConfigError
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search.relaxation_registry import kind_of
from rldarts_tf.teaching.distillation import Distillation
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.held_out import HeldOut
from rldarts_tf.training.settings import TrainingSettings
from rldarts_tf.training.stopwatch import Stopwatch


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """All settings of a stage but those of its encoder."""

    algorithm: Any
    """Settings of the algorithm, fitted to the suite."""
    suite: Suite
    training: TrainingSettings

    def check(self, stage: str, encoder: Encoder) -> None:
        """Raises what would be wrong with a training of this length, and with its gradient steps.

        Raises:
          ConfigError: the stage would end before an off-policy algorithm begins to learn; or see
            `check_gradient_steps`.
        """
        self.check_gradient_steps(stage, encoder)
        steps, first = self.training.num_env_steps, getattr(self.algorithm, "min_replay_size", 0)
        if steps <= first:
            name = type(self.algorithm).__name__
            raise ConfigError(
                f"TrainingSettings.num_env_steps = {steps} does not reach {name}.min_replay_size = "
                f"{first}, from which on there is learning (stage {stage!r})"
            )

    def check_gradient_steps(self, stage: str, encoder: Encoder) -> None:
        """Raises what would be wrong with how gradient steps are computed.

        Raises:
          ConfigError: XLA is to compile op weights that are drawn; or several devices are to share
            steps, and the algorithm has none such, its minibatch no equal shares, or the encoder
            does not train on each image by itself.
        """
        compiled = getattr(self.algorithm, "jit_compile", False)
        if compiled and isinstance(encoder, Supernet) and encoder.alpha.samples:
            raise ConfigError(
                f"{type(self.algorithm).__name__}.jit_compile must be False with op weights that "
                "are drawn (SearchSettings.relaxation, smoothing): XLA draws others than those "
                f"that were acted with (stage {stage!r})"
            )
        if isinstance(encoder, Supernet) and encoder.alpha.search.stop_by == "eigenvalue":
            self._check_eigenvalue(stage, encoder)
        devices = self.training.devices
        if devices == 1:
            return
        self.algorithm.check_devices(devices)
        if encoder.uses_training:
            raise ConfigError(
                f"TrainingSettings.devices = {devices} must be 1 with EncoderSettings.normalization"
                " = 'batch' and with ops that depend on `training`: each device would see its own "
                f"share of a minibatch (stage {stage!r})"
            )

    def _check_eigenvalue(self, stage: str, supernet: Supernet) -> None:
        """Raises why there would be no α-Hessian of a loss."""
        rule = "SearchSettings.stop_by = 'eigenvalue'"
        if not self.algorithm.has_held_out:
            raise ConfigError(
                f"{rule} is of a loss on held-out experience, which "
                f"{type(self.algorithm).__name__[: -len('Settings')]} does not have "
                f"(stage {stage!r})"
            )
        relaxation = supernet.alpha.search.relaxation
        if not kind_of(relaxation).is_twice_differentiable:
            raise ConfigError(
                f"{rule} is of second derivatives, which SearchSettings.relaxation = "
                f"{relaxation!r} does not have (stage {stage!r})"
            )
        if not supernet.alpha.trainable_weights:
            raise ConfigError(
                f"{rule} is of an α that is trained, and here it rests (stage {stage!r})"
            )


class AgentProgram(Closing):
    """Interface of an agent and its environments, advanced by `Training` update by update.

    Attributes:
      environment: the environments of training; the agent alone steps them.
      columns: the metrics that `advance` returns.
      trackables: TensorFlow objects of a checkpoint, by name; `state` has the rest.
      stopwatch: the seconds of the parts of `advance`, which `Training` takes with each row of
        metrics, as the columns `seconds_<part>`; without parts by default.
      distillation: the teacher and what is learned from it, which `Training` tells how far it is;
        None by default. A program with a teacher is made with it, as the argument `distillation`;
        one on several devices with their number, `devices`.
    """

    environment: Environments
    columns: tuple[str, ...]
    trackables: Mapping[str, Any]
    stopwatch: Stopwatch = Stopwatch()
    distillation: Distillation | None = None

    @abc.abstractmethod
    def start(self) -> None:
        """Called once before the first `advance`, and after `set_state` where a run resumes.

        Not called where nothing is left to do but an evaluation.
        """

    def set_progress(self, progress: float) -> None:
        """Called before each `advance`, with the fraction of the stage's steps that are made.

        What changes over a stage follows it; nothing by default.
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

    @property
    @abc.abstractmethod
    def gradient_steps(self) -> int:
        """Gradient steps made so far, resumed runs included."""

    @abc.abstractmethod
    def evaluation_policy(self, seed: int) -> Policy:
        """Returns the policy for an evaluation; it does not touch training's random generators.

        Args:
          seed: of the run; what is drawn follows from it anew with each policy that this returns.
            One of them is used at a time.
        """

    def held_out(self, seed: int) -> HeldOut:
        """Returns experience apart from that of training, and the loss on it.

        Args:
          seed: what is drawn follows from it; not that of the run.

        Raises:
          ConfigError: the algorithm has no such thing.
        """
        del seed
        raise ConfigError(f"{type(self).__name__} has no loss on held-out experience")

    @abc.abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that resuming needs and `trackables` lacks."""

    @abc.abstractmethod
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""

    def before_checkpoint(self) -> Iterable[Path]:
        """Called before `state` is taken; returns files of its own that belong to the checkpoint.

        They stand in the stage's `checkpoints_dir`. Most agents have none.
        """
        return ()

    def after_checkpoint(self, kept: Collection[Path]) -> None:
        """Called when the checkpoint is safe on disk; no other files than these are needed now."""


MakeProgram = Callable[[Encoder, Any, Any, int, StagePaths], AgentProgram]
"""(encoder, not yet built; suite; settings of the algorithm; seed; where files of its own go) ->
program."""
