"""Settings of a search that knows what architectures cost, apart from gin."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, one_of, setting

FIRST_WEIGHT = 0.1
"""λ at the beginning of a search with a target and no weight."""
_REACH = math.log(100)
"""How far λ may go from there, up and down."""


@dataclasses.dataclass(frozen=True)
class CostSettings(Settings):
    """The term λ C(α) of the loss; the defaults are none.

    C(α) is the expected cost of the architecture, by that of the most expensive one of the space.
    """

    weight: float = setting(
        0.0,
        "λ; 0: no such term, or where there is a target 0.1 at the beginning",
        least=0,
    )
    target_multiply_adds: float | None = setting(
        None,
        "multiply-adds of an image that λ is adapted to reach; None: λ stays",
        positive=True,
    )
    adaptation: float = setting(
        10.0,
        "how fast log λ follows: its growth in a whole search in which the cost is e times the "
        "target",
        positive=True,
    )
    measure: str = setting(
        "multiply_adds",
        "cost of an op: multiply_adds, parameters, or latency as measured on a machine",
        check=one_of("multiply_adds", "parameters", "latency"),
    )
    latency_table: str | None = setting(
        None, "file with the latency of each op, which benchmarks/op_latency.py writes"
    )

    @property
    def is_on(self) -> bool:
        """Whether the loss has the term."""
        return self.weight > 0 or self.target_multiply_adds is not None

    @property
    def first_weight(self) -> float:
        """λ at the beginning."""
        return self.weight or (0.0 if self.target_multiply_adds is None else FIRST_WEIGHT)

    def adapted(self, weight: float, cost: float, passed: float) -> float:
        """λ after a part of a search with a target: d log λ / dt = adaptation · log(cost / target).

        The cost is that of the architecture found so far: where p is spread over many ops, their
        mean may meet the target and the strongest ones be far from it. λ stays within a factor of
        100 of its first value, so that it finds back.

        Args:
          weight: λ before.
          cost: multiply-adds of the architecture that α stands for.
          passed: dt, a fraction of the search.
        """
        if self.target_multiply_adds is None:
            return weight
        grown = math.log(weight) + self.adaptation * passed * math.log(
            cost / self.target_multiply_adds
        )
        first = math.log(self.first_weight)
        return math.exp(min(max(grown, first - _REACH), first + _REACH))

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.measure == "latency") != (self.latency_table is not None):
            raise ConfigError(
                "CostSettings.latency_table must be given with measure = 'latency', and only then"
            )
        if self.target_multiply_adds is not None and self.measure != "multiply_adds":
            raise ConfigError(
                "CostSettings.target_multiply_adds must be None with measure = "
                f"{self.measure!r}: it is a number of multiply-adds"
            )


def as_cost_settings(name: str, value: Any) -> CostSettings:
    """Settings from themselves or from their fields; the check of a setting.

    Raises:
      ConfigError: it is neither.
    """
    if isinstance(value, CostSettings):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be CostSettings or their fields, got {value!r}")
    return CostSettings(**value)
