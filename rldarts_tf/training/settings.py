"""Settings shared by all training programs, configurable by gin.

A run resolves all of them before anything starts, for each stage under the gin scope of its name
(`search/EncoderSettings.depths = [16, 16, 16]`), so that its config.gin is complete from the start.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Sequence
from typing import Any

import gin

from rldarts_tf.checks import INT32_MAX, check_integers, check_number
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.procgen import games
from rldarts_tf.errors import ConfigError
from rldarts_tf.factory import BASELINES, make_encoder
from rldarts_tf.genotype import Genotype
from rldarts_tf.search_space import SearchSpace


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """The encoder of a stage.

    Attributes:
      search_space: the name of a registered space, or of the one that `SearchSpace` defines in gin.
      baseline: the kind of encoder that the stage "baseline" trains.
      All others: see `rldarts_tf.factory.make_encoder`.
    """

    search_space: str | SearchSpace = "classic"
    depths: Sequence[int] = (16, 16, 16)
    output_mode: str = "concat"
    inverse_temperature: float = 5.0
    normalization: str | None = None
    features: int = 256
    train_alpha: bool = True
    recompute: bool = False
    precision: str | None = None
    head: str = "relu"
    kernel_size: int = 3
    baseline: str = "impala_cnn"

    def __post_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise ConfigError(
                f"EncoderSettings.baseline must be one of {', '.join(BASELINES)}, "
                f"got {self.baseline!r}"
            )

    def make(
        self, encoder: str, genotype: Genotype | str | os.PathLike[str] | None = None
    ) -> Encoder:
        """Makes the encoder of a kind."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del options["baseline"]
        return make_encoder(encoder, genotype=genotype, **options)


# Every field of a space is a setting, such as search/SearchSpace.normal_ops = ['conv_3x3', 'relu'].
# The core knows nothing of gin; `launch.gin_files.resolve` registers what is defined so.
make_search_space = gin.external_configurable(SearchSpace, module="rldarts_tf")


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class ProcgenSettings:
    """Games and levels.

    Attributes:
      game: one of the 16 games; or several, as a list or separated by commas, that one learner
        plays at once; or "all".
      distribution_mode: "easy" or "hard".
      num_levels: size of the set of training levels; 0 is all of them.
      start_level: the first of them.
      step_timeout: seconds that a step of all environments may take; a run whose simulator does not
        answer in time ends.
    """

    game: str | Sequence[str] = "starpilot"
    distribution_mode: str = "easy"
    num_levels: int = 0
    start_level: int = 0
    step_timeout: float = 300.0

    def __post_init__(self) -> None:
        games.check_games(self.game)
        games.check_distribution_mode(self.distribution_mode)
        check_integers(self, "num_levels", "start_level", least=0, most=INT32_MAX)
        if self.start_level and not self.num_levels:
            raise ConfigError("ProcgenSettings.start_level has no effect where num_levels is 0")
        _check_seconds("ProcgenSettings.step_timeout", self.step_timeout)

    @property
    def games(self) -> tuple[str, ...]:
        """The names of the games."""
        return games.check_games(self.game)

    @property
    def label(self) -> str:
        """Name of the games in run directories; different games have different labels."""
        names = self.games
        if names == games.GAMES:
            return "all"
        joined = "+".join(names)
        if len(names) <= 3:
            return joined
        return f"{len(names)}games-{zlib.crc32(joined.encode()):08x}"

    @property
    def levels(self) -> dict[str, Any]:
        """The arguments of `make_procgen` that choose the levels."""
        return {
            "distribution_mode": self.distribution_mode,
            "num_levels": self.num_levels,
            "start_level": self.start_level,
        }


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class DMControlSettings:
    """A task of the DM Control Suite, from pixels.

    Attributes:
      domain_name: such as "cartpole".
      task_name: such as "swingup".
      action_repeat: physics steps of the task with one action, their rewards summed; None: that of
        the task (`rldarts_tf.envs.dm_control.environment.ACTION_REPEAT`).
      frame_stack: frames in an observation, the newest last.
      image_size: height and width of a frame.
      step_timeout: seconds that a step may take; a simulator that does not answer in time is
        replaced by a new one, whose first episode begins.
    """

    domain_name: str = "cartpole"
    task_name: str = "swingup"
    action_repeat: int | None = None
    frame_stack: int = 3
    image_size: int = 64
    step_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("domain_name", "task_name"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"DMControlSettings.{name} must be a name, got {value!r}")
        if self.action_repeat is not None:
            check_integers(self, "action_repeat", least=1)
        check_integers(self, "frame_stack", least=1)
        check_integers(self, "image_size", least=8)
        _check_seconds("DMControlSettings.step_timeout", self.step_timeout)


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Length of a stage's training, evaluations, checkpoints and pictures.

    Attributes:
      num_env_steps: environment steps; the stage ends with the first update that reaches them.
      seed: of weights, environments, actions and minibatches.
      evaluation_interval: environment steps between two evaluations; 0 for none but the last.
      evaluation_episodes: whole episodes in each.
      final_evaluation_episodes: whole episodes in the last.
      checkpoint_minutes: the least time between two checkpoints, which is longer where they take
        more than a twentieth of it; 0 for one after each update.
      pictures: how often a search shows its op weights by edge and its cell in TensorBoard, beside
        its beginning and its end; 0 for never.
    """

    num_env_steps: int = 25_000_000
    seed: int = 0
    evaluation_interval: int = 1_000_000
    evaluation_episodes: int = 64
    final_evaluation_episodes: int = 128
    checkpoint_minutes: float = 5.0
    pictures: int = 20

    def __post_init__(self) -> None:
        check_integers(self, "num_env_steps", least=1)
        check_integers(self, "evaluation_episodes", "final_evaluation_episodes", least=1)
        check_integers(self, "evaluation_interval", "pictures", least=0)
        check_integers(self, "seed", least=0, most=INT32_MAX)
        check_number(
            "TrainingSettings.checkpoint_minutes",
            self.checkpoint_minutes,
            "a number >= 0",
            lambda minutes: minutes >= 0,
        )


def _check_seconds(field: str, value: object) -> None:
    check_number(field, value, "a number of seconds above 0", lambda seconds: 0 < seconds < 1e9)
