"""The numbers of a stage's result that comparisons are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rldarts_tf.checks import is_number
from rldarts_tf.files import PathLike
from rldarts_tf.runs.summary import read_entries


@dataclasses.dataclass(frozen=True)
class StageResult:
    """A stage's entry in summary.json; docs/metrics.md has the meaning of each field.

    What an entry does not have, or has not as a number, is None.
    """

    exit_state: str | None = None
    encoder: str | None = None
    env_steps: float | None = None
    return_mean: float | None = None
    eval_train_return_mean: float | None = None
    eval_test_return_mean: float | None = None
    eval_test_return_mean_normalized: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None
    wall_time_s: float | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> StageResult:
        """The result of an entry of any origin."""
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        return cls(
            **{
                name: entry[name]
                for name, kind in types.items()
                if name in entry
                and (isinstance(entry[name], str) if "str" in kind else is_number(entry[name]))
            }
        )


def read_results(path: PathLike) -> dict[str, StageResult]:
    """Reads the results of all stages from a summary.json; none if it does not exist.

    Raises:
      RunError: it is not a summary.
    """
    return {stage: StageResult.of(entry) for stage, entry in read_entries(path).items()}
