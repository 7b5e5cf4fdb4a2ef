"""Settings of a search method, apart from gin."""

from __future__ import annotations

import dataclasses

from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, setting


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """How α is searched for; the defaults are RL-DARTS' own method, equation 2.

    A *fraction* is one of the whole search, whose clock is `Alpha.progress`. What is said of α's
    own optimizer asks for `alpha_learning_rate`. `docs/searching.md` has equations and sources.
    """

    alpha_learning_rate: float | None = setting(
        None,
        "step size of an Adam for α alone; None: α is trained with θ by the agent's optimizer",
        positive=True,
    )
    alpha_beta_1: float = setting(0.5, "β₁ of α's own Adam", least=0, most=1)
    alpha_beta_2: float = setting(0.999, "β₂ of α's own Adam", least=0, most=1)
    alpha_weight_decay: float = setting(
        1e-3, "L2 penalty of α in its own Adam: added to the gradient times α", least=0
    )
    warm_up: float = setting(0.0, "fraction in which α rests and θ alone learns", least=0, most=1)
    theta_weight_decay: float = setting(
        0.0,
        "decoupled weight decay of the supernet's kernels: each step takes off this share, times "
        "the learning rate",
        least=0,
    )

    @property
    def is_default(self) -> bool:
        """Whether this is RL-DARTS' own method."""
        return self == SearchSettings()

    @property
    def has_optimizer(self) -> bool:
        """Whether θ or α is trained otherwise than by the agent's optimizer alone."""
        return self.alpha_learning_rate is not None or self.theta_weight_decay > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_own = [name for name in ("warm_up",) if getattr(self, name)]
        if self.alpha_learning_rate is None and needs_own:
            raise ConfigError(
                f"{type(self).__name__}.{needs_own[0]} = {getattr(self, needs_own[0])!r} is of α's "
                "own optimizer: set alpha_learning_rate, such as 3e-3"
            )
