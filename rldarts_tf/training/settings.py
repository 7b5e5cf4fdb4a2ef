"""Settings shared by all training programs, configurable by gin.

A run resolves all of them before anything starts, for each stage under the gin scope of its name
(`search/EncoderSettings.depths = [16, 16, 16]`), so that its config.gin is complete from the start.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import gin

from rldarts_tf.checks import INT32_MAX, check_integers, check_number
from rldarts_tf.encoders import Encoder
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
# The core knows nothing of gin; `launching.resolve` registers what is defined so.
make_search_space = gin.external_configurable(SearchSpace, module="rldarts_tf")


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
