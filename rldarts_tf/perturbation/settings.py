"""Settings of a perturbation-based discretization."""

from __future__ import annotations

import dataclasses

from rldarts_tf.checks import INT32_MAX
from rldarts_tf.settings_fields import Settings, setting


@dataclasses.dataclass(frozen=True)
class PerturbationSettings(Settings):
    """What decides about ops and edges, and how long it is looked at."""

    episodes: int = setting(64, "episodes of each game that an op is judged by", least=2)
    max_steps: int = setting(
        2000, "actions after which an episode is stopped; its return so far counts", least=1
    )
    greedy: bool = setting(False, "PPO: the most probable actions; else they are drawn")
    minibatches: int = setting(
        16, "minibatches of held-out experience that an op is judged by", least=2
    )
    seed: int = setting(
        0, "of environments, actions and the order of the questions", least=0, most=INT32_MAX
    )
    top_k: int | None = setting(None, "K; that of the space if None", least=1)
    max_skips: int | None = setting(
        None,
        "edges of a cell type that may be given skip_connect; None: as the search says",
        least=0,
    )
    max_parameter_free: int | None = setting(
        None,
        "edges of a cell type that may be given an op without weights; None: as the search says",
        least=0,
    )
    fine_tune_steps: int = setting(
        0, "environment steps of training after each decision, with what is decided", least=0
    )
