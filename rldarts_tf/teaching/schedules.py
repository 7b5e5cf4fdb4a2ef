"""The factor of a distillation's weights over a training."""

from __future__ import annotations

from rldarts_tf.errors import ConfigError
from rldarts_tf.teaching.settings import DistillationSettings


class Schedule:
    """The factor, 1 at first; with 'return' it is 0 for good once the student is good enough.

    The return that is good enough is R - (1 - share) |R|, R the teacher's: share · R where R is
    positive, and as far below R where it is negative.

    Args:
      settings: the settings.
      teacher_return: R, the teacher's mean training return; None if it is not known.

    Raises:
      ConfigError: R is needed and not known.
    """

    def __init__(self, settings: DistillationSettings, teacher_return: float | None) -> None:
        self._settings = settings
        self._enough: float | None = None
        self.ended = False
        if settings.schedule == "return":
            if teacher_return is None:
                raise ConfigError(
                    "DistillationSettings.schedule = 'return' needs the teacher's training return, "
                    "and its summary.json has none: choose another schedule"
                )
            self._enough = teacher_return - (1 - settings.return_share) * abs(teacher_return)

    def factor(self, fraction: float, training_return: float) -> float:
        """The factor now.

        Args:
          fraction: of the stage's steps that are made, 0 to 1.
          training_return: the student's; NaN until there is one.
        """
        if self._settings.schedule == "linear":
            return max(0.0, 1.0 - fraction / self._settings.linear_fraction)
        # A comparison with NaN is false.
        self.ended = self.ended or (self._enough is not None and training_return >= self._enough)
        return 0.0 if self.ended else 1.0
