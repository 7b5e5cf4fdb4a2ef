"""What it has cost to read a cell off a search by measuring, beside the search itself.

`budget.json` in the folder of the measurements: the sum over all commands that worked on them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from rldarts_tf.checks import check_number
from rldarts_tf.errors import RunError
from rldarts_tf.files import write_text
from rldarts_tf.runs.reading import parse_json, read_bytes

_NAME = "budget.json"
_MAX_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Budget:
    """What was spent.

    Attributes:
      environment_steps: of measurements those of episodes, held-out experience and fine-tuning.
      seconds: wall time; of measurements from the start of a command to the end of its last one.
    """

    environment_steps: float = 0
    seconds: float = 0.0

    def __add__(self, other: Budget) -> Budget:
        return Budget(
            self.environment_steps + other.environment_steps, self.seconds + other.seconds
        )


def read_budget(folder: Path) -> Budget:
    """The budget of a folder; nothing where it has none.

    Raises:
      RunError: the file is not valid.
    """
    path = folder / _NAME
    if not path.exists():
        return Budget()
    try:
        content = parse_json(read_bytes(path, _MAX_BYTES))
        found = Budget(content["environment_steps"], content["seconds"])
        for field in dataclasses.fields(Budget):
            value = getattr(found, field.name)
            check_number(field.name, value, "a finite number >= 0", lambda x: 0 <= x < math.inf)
        return found
    except (LookupError, TypeError, ValueError):
        raise RunError(f"{str(path)!r} holds no budget of environment steps and seconds") from None


class Meter:
    """Adds to the budget of a folder what this process spends.

    Args:
      folder: of the measurements.
      steps: environment steps of this process so far.

    Raises:
      RunError: the folder's budget is not valid.
    """

    def __init__(self, folder: Path, steps: Callable[[], int]) -> None:
        self._path = folder / _NAME
        self._before = read_budget(folder)
        self._steps = steps
        self._begun = time.monotonic()

    def write(self) -> None:
        """Writes the sum so far; to be called after each measurement.

        A process that is killed loses what it had measured by half, and one that finds everything
        measured already adds nothing.
        """
        spent = Budget(self._steps(), time.monotonic() - self._begun)
        write_text(self._path, json.dumps(dataclasses.asdict(self._before + spent)) + "\n")
