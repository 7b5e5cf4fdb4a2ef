"""Settings of a search method, apart from gin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rldarts_tf.checks import check_integer
from rldarts_tf.errors import ConfigError
from rldarts_tf.search.cost_settings import CostSettings, as_cost_settings
from rldarts_tf.search.relaxation_registry import check_relaxation, kind_of
from rldarts_tf.settings_fields import Settings, defaults, one_of, setting


def _falling(field: str, value: Any) -> tuple[int, ...]:
    """Of one op alone nothing would tell how strong its edge is."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ConfigError(f"{field} must be a list of integers, got {value!r}")
    numbers = tuple(check_integer(field, number, least=2) for number in value)
    if any(later >= number for number, later in zip(numbers, numbers[1:])):
        raise ConfigError(f"{field} must fall from each number to the next, got {value!r}")
    return numbers


_OF_TRAINED_ALPHA = (
    "alpha_learning_rate",
    "edge_normalization",
    "auxiliary_skip",
    "smoothing",
    "inverse_temperature_end",
    "stop_by",
)
"""Settings that say nothing where α is not trained, or would disturb cells as drawn."""


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

    relaxation: str = setting(
        "softmax",
        "how op weights follow from α: softmax, sigmoid (FairDARTS), gumbel (GDAS), gumbel_2 (its "
        "variant with two ops), dirichlet (DrNAS), or one that `register_relaxation` named; "
        "random: they do not, whole cells are drawn uniformly (random search with weight sharing)",
        check=check_relaxation,
    )
    gumbel_temperature_start: float = setting(
        10.0, "τ of gumbel at the beginning; it changes linearly (gumbel_2 has none)", positive=True
    )
    gumbel_temperature_end: float = setting(0.1, "τ of gumbel at the end", positive=True)
    zero_one_penalty: float = setting(
        10.0, "weight of FairDARTS' loss that pushes each sigmoid to 0 or 1", least=0
    )
    dirichlet_penalty: float = setting(
        1e-3, "weight of DrNAS' divergence from the uniform distribution", least=0
    )
    auxiliary_skip: float = setting(
        0.0,
        "weight of DARTS-'s skip beside every edge at the beginning, 0 at the end",
        least=0,
    )
    smoothing: float = setting(
        0.0, "reach of SDARTS' noise on op weights at the end, from a tenth of it", least=0, most=1
    )
    partial_channels: int = setting(
        1, "ops see the first of so many parts of the channels (PC-DARTS: 4); 1: all", least=1
    )
    edge_normalization: bool = setting(
        False, "op weights are multiplied by a softmax over the inputs of a node (PC-DARTS)"
    )
    entropy_penalty: float = setting(
        0.0,
        "weight of the mean entropy of p at the end, from 0 linearly",
        least=0,
    )
    beta_decay: float = setting(
        0.0, "weight of β-DARTS' mean of logsumexp(α) at the end, from 0 linearly", least=0
    )
    inverse_temperature_end: float | None = setting(
        None, "β at the end, to which it goes geometrically; None: it stays", positive=True
    )
    alternate: bool = setting(
        False, "θ and α learn in turn, each from every other minibatch (first-order DARTS)"
    )
    unit_ops: str | None = setting(
        None,
        "where the output of every op is brought to root mean square 1 per image, so that op "
        "weights are comparable: in the supernet ('search'), or also in the cell found ('always')",
        check=one_of(None, "search", "always"),
    )

    # What it leaves out as it goes.
    progressive: str | None = setting(
        None,
        "what is decided as the search goes: 'edges', the most certain edge is fixed to its best "
        "op (SGAS), or 'ops', the weakest ops of every edge leave (P-DARTS)",
        check=one_of(None, "edges", "ops"),
    )
    progressive_from: float = setting(
        0.2,
        "fraction after which the first of these decisions is made; the others follow at equal "
        "distances",
        least=0,
    )
    progressive_ops: Sequence[int] = setting(
        (5, 3), "ops that each edge is left after each decision of 'ops'", check=_falling
    )

    record_contributions: bool = setting(
        False, "record what each op contributes, in the states in which the environments stand"
    )

    cost: CostSettings = setting(
        CostSettings(), "what an architecture costs, as a term of the loss", check=as_cost_settings
    )

    # When it stops.
    stop_by: str | None = setting(
        None,
        "what ends the search early, with the cell of before: 'eigenvalue', a rise of the largest "
        "one of the α-Hessian, or 'parameter_free', too many ops without weights in a cell",
        check=one_of(None, "eigenvalue", "parameter_free"),
    )
    stop_measurements: int = setting(25, "measurements of that in a whole search", least=2)
    stop_after: float = setting(
        0.2, "fraction of the search in which it never stops", least=0, most=1
    )
    stop_factor: float = setting(
        1.3, "rise of the mean of 5 eigenvalues within 4 measurements that ends it", positive=True
    )
    stop_parameter_free: int = setting(
        2, "edges of a cell that may have an op without weights", least=0
    )

    # How a cell is read off.
    max_skips: int | None = setting(
        None, "edges of the cell found that may have skip_connect; None: all", least=0
    )
    max_parameter_free: int | None = setting(
        None, "edges of the cell found that may have an op without weights; None: all", least=0
    )

    @property
    def is_default(self) -> bool:
        """Whether this is RL-DARTS' own method."""
        return self == SearchSettings()

    @property
    def has_optimizer(self) -> bool:
        """Whether θ or α is trained otherwise than by the agent's optimizer alone."""
        return self.alpha_learning_rate is not None or self.theta_weight_decay > 0

    @property
    def sums_to_one(self) -> bool:
        """Whether op weights of an edge are shares."""
        return kind_of(self.relaxation).sums_to_one

    @property
    def trains_alpha(self) -> bool:
        """Whether α learns; else it stays at 0, and no cell can be read off it."""
        return kind_of(self.relaxation).trains_alpha

    @property
    def reads_logits(self) -> bool:
        """Whether z = β α alone is what a cell is read off, by the order of its softmax."""
        return kind_of(self.relaxation).is_softmax and not self.edge_normalization

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha_beta_1", "alpha_beta_2"):
            if getattr(self, name) == 1:
                raise ConfigError(f"{type(self).__name__}.{name} must be below 1")
        own = ("warm_up", "alternate", "entropy_penalty", "beta_decay")
        needs_own = [name for name in own if getattr(self, name)]
        penalty = kind_of(self.relaxation).penalty
        if penalty is not None and getattr(self, penalty):
            needs_own.append(penalty)
        self._check_random()
        if self.alpha_learning_rate is None and needs_own:
            raise ConfigError(
                f"{type(self).__name__}.{needs_own[0]} = {getattr(self, needs_own[0])!r} is of α's "
                "own optimizer: set alpha_learning_rate, such as 3e-3"
            )
        if self.progressive is not None:
            self._check_progressive()
        if self.partial_channels > 1 and (self.auxiliary_skip or not self.sums_to_one):
            # PC-DARTS lets channels pass by as they are: Σ p, by which they are multiplied, is 1.
            other = "auxiliary_skip" if self.auxiliary_skip else "relaxation"
            raise ConfigError(
                f"{type(self).__name__}.partial_channels must be 1 with {other} = "
                f"{getattr(self, other)!r}: op weights of an edge are no shares"
            )

    def _check_progressive(self) -> None:
        name = type(self).__name__
        if not self.warm_up < self.progressive_from < 1:
            raise ConfigError(
                f"{name}.progressive_from must be below 1 and above warm_up = {self.warm_up!r}, in "
                f"which α does not move, got {self.progressive_from!r}"
            )
        if not kind_of(self.relaxation).is_softmax:
            raise ConfigError(
                f"{name}.relaxation must be 'softmax', 'gumbel' or 'gumbel_2' with progressive = "
                f"{self.progressive!r}: what is left shares a softmax"
            )
        reasons = {
            "smoothing": "noise would bring back what was left out",
            "auxiliary_skip": "a skip would be left on every edge",
        }
        if self.progressive == "edges":
            reasons |= {
                "partial_channels": "channels would pass by where an edge is closed",
                "edge_normalization": "an edge is as strong as its ops",
                "max_skips": "the cell is decided before it is read off",
                "max_parameter_free": "the cell is decided before it is read off",
            }
        usual = defaults(SearchSettings)
        for field, reason in reasons.items():
            if getattr(self, field) != usual[field]:
                raise ConfigError(
                    f"{name}.{field} must be {usual[field]!r} with progressive = "
                    f"{self.progressive!r}: {reason}"
                )

    def check_tells_cell(self) -> None:
        """Checks that α says which cell was found.

        Raises:
          ConfigError: the method does not train it.
        """
        if not self.trains_alpha:
            raise ConfigError(
                f"{type(self).__name__}.relaxation = {self.relaxation!r} does not train α, so no "
                "cell can be read off it: end with --stage=search, then rank cells by "
                "`python -m rldarts_tf discretize RUN --by=random`"
            )

    def _check_random(self) -> None:
        """Checks that nothing is asked of an α that is not trained, or added to cells as drawn."""
        if self.trains_alpha:
            return
        refused = [name for name in _OF_TRAINED_ALPHA if getattr(self, name)]
        if self.cost.is_on:
            refused.append("cost")
        if refused:
            raise ConfigError(
                f"{type(self).__name__}.{refused[0]} must be left out with relaxation = 'random', "
                "which draws whole cells and does not train α"
            )


def as_search_settings(value: SearchSettings | Mapping[str, Any] | None) -> SearchSettings:
    """Settings from themselves, their fields, or None for the defaults."""
    return value if isinstance(value, SearchSettings) else SearchSettings(**value or {})
