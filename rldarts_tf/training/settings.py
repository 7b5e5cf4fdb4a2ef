"""Settings shared by all training programs, configurable by gin.

A run resolves all of them before anything starts, for each stage under the gin scope of its name
(`search/EncoderSettings.depths = [16, 16, 16]`), so that its config.gin is complete from the start.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import gin

from rldarts_tf.checks import INT32_MAX, check_number
from rldarts_tf.encoders import Encoder
from rldarts_tf.factory import BASELINES, make_encoder
from rldarts_tf.genotype import Genotype
from rldarts_tf.options import EncoderOptions
from rldarts_tf.search.cost_settings import CostSettings
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import KINDS
from rldarts_tf.settings_fields import Settings, one_of, setting


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class EncoderSettings(EncoderOptions):
    """The encoder of a stage: `EncoderOptions`, and the kind of the baseline.

    `search_space` may also be the name of the space that `SearchSpace` or `LayerSpace` defines in
    gin.
    """

    baseline: str = setting(
        "impala_cnn", "kind of encoder that the stage baseline trains", check=one_of(*BASELINES)
    )

    def kind(self, stage: str) -> str:
        """The kind of encoder that a stage trains."""
        return {"search": "supernet", "evaluate": "discrete"}.get(stage, self.baseline)

    def make(
        self,
        encoder: str,
        genotype: Genotype | str | os.PathLike[str] | None = None,
        search: SearchSettings | None = None,
    ) -> Encoder:
        """Makes the encoder of a kind; `search` is the method of a supernet."""
        return make_encoder(encoder, genotype, options=self, search=search)


# Every field of a space is a setting, such as search/SearchSpace.normal_ops = ['conv_3x3', 'relu'].
# So is every field of `SearchSettings`, such as search/SearchSettings.warm_up = 0.25, and of its
# `CostSettings`, such as search/CostSettings.weight = 0.1.
# The core knows nothing of gin; `launch.gin_files.resolve` registers what is defined so.
make_search_space = {kind: gin.external_configurable(kind, module="rldarts_tf") for kind in KINDS}
make_search_settings = gin.external_configurable(SearchSettings, module="rldarts_tf")
make_cost_settings = gin.external_configurable(CostSettings, module="rldarts_tf")


def _minutes(field: str, value: Any) -> float:
    """Infinity is never."""
    check_number(field, value, "a number >= 0", lambda minutes: minutes >= 0)
    return value


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class TrainingSettings(Settings):
    """Length of a stage's training, evaluations, checkpoints and pictures.

    The stage ends with the first update that reaches `num_env_steps`. Checkpoints are rarer than
    `checkpoint_minutes` where they take more than a twentieth of the time.
    """

    num_env_steps: int = setting(25_000_000, "environment steps of the stage", least=1)
    seed: int = setting(
        0, "of weights, environments, actions and minibatches", least=0, most=INT32_MAX
    )
    evaluation_interval: int = setting(
        1_000_000, "environment steps between two evaluations; 0: only the last", least=0
    )
    evaluation_episodes: int = setting(64, "whole episodes in each", least=1)
    final_evaluation_episodes: int = setting(128, "whole episodes in the last", least=1)
    checkpoint_minutes: float = setting(
        5.0, "the least time between two checkpoints; 0: one after each update", check=_minutes
    )
    pictures: int = setting(
        20,
        "how often a search shows its op weights by edge and its cell in TensorBoard, beside its "
        "beginning and its end; 0: never",
        least=0,
    )
    devices: int = setting(
        1,
        "devices that share each gradient step: GPUs, or where there is none virtual CPUs, to try "
        "it; 1: no sharing",
        least=1,
    )
