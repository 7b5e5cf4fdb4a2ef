"""What one training learns from its teacher: weights in force, lessons, and what is told of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.errors import RunError
from rldarts_tf.teaching.schedules import Schedule
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.teaching.teacher import Teacher, in_chunks

PART = "teach"
"""The part of a program whose seconds are the teacher's."""

TERMS = ("distillation_actor", "distillation_critic")
"""Metrics of the terms, without their weights."""

WEIGHTS = ("distillation_actor_weight", "distillation_critic_weight")

COLUMNS = (*TERMS, *WEIGHTS)
"""Metrics of every program that has a teacher."""


class Distillation:
    """A teacher and what is learned from it; none of it is a part of the student.

    Args:
      teacher: the teacher.
      settings: the settings.

    Attributes:
      teacher: the teacher.
      settings: the settings.
      actor_weight: c_a in force, a variable that traced losses read.
      critic_weight: c_c in force.
    """

    def __init__(self, teacher: Teacher, settings: DistillationSettings) -> None:
        self.teacher, self.settings = teacher, settings
        self._schedule = Schedule(settings, teacher.training_return)
        self.actor_weight, self.critic_weight = (
            tf.Variable(value, trainable=False, dtype=tf.float32, name=name)
            for name, value in zip(WEIGHTS, (settings.actor_weight, settings.critic_weight))
        )
        # Without AutoGraph, which would translate the frameworks too.
        self._network = tf.function(teacher.network, autograph=False)
        self._active = True
        self._begun_with: str | None = None
        self._first_step: int | None = None
        self._step = 0
        self._seconds = 0.0

    @property
    def active(self) -> bool:
        """Whether a weight is above 0: otherwise the teacher need not be asked."""
        return self._active

    def follow(self, step: int, progress: float, training_return: float) -> None:
        """Sets the weights.

        Args:
          step: environment steps of the training so far.
          progress: the part of the training that this is, 0 to 1.
          training_return: the student's, over its last episodes; NaN until there is one.
        """
        self._step = step
        if self._first_step is None:
            self._first_step = step
        factor = self._schedule.factor(progress, training_return)
        self._active = factor > 0
        self.actor_weight.assign(factor * self.settings.actor_weight)
        self.critic_weight.assign(factor * self.settings.critic_weight)

    def lesson(
        self, observations: Any, actions: Any = None, size: int | None = None
    ) -> dict[str, np.ndarray]:
        """What the teacher says of a batch.

        Args:
          observations: [B, ...].
          actions: [B, ...], where its network reads them.
          size: asks for so many observations at a time; None: for all at once.
        """
        begun = time.perf_counter()

        def ask(chunk: Any) -> dict[str, np.ndarray]:
            return {name: value.numpy() for name, value in self._network(chunk, actions).items()}

        said = ask(observations) if size is None else in_chunks(ask, observations, size)
        self._seconds += time.perf_counter() - begun
        return said

    def weights(self) -> dict[str, float]:
        """Metrics of the weights in force."""
        return dict(zip(WEIGHTS, (float(self.actor_weight), float(self.critic_weight))))

    def check_resumed(self) -> None:
        """Raises a RunError if the training began with another teacher."""
        if self._begun_with not in (None, self.teacher.checksum):
            raise RunError(
                f"TeacherSettings.run: {self.teacher.name} is another teacher than the one that "
                "this training began with: name the checkpoint of that one in "
                "TeacherSettings.step, or use another root_dir"
            )

    def state(self) -> dict[str, np.ndarray]:
        """State for a checkpoint: of the teacher its path and checksum alone."""
        return {
            "teacher": np.array(str(self.teacher.checkpoint)),
            "checksum": np.array(self.teacher.checksum),
            "ended": np.array(self._schedule.ended),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self._begun_with = str(state["checksum"])
        self._schedule.ended = bool(state["ended"])

    def describe(self) -> dict[str, Any]:
        """Entries of summary.json: the teacher, and its seconds per step of the student."""
        steps = self._step - (self._first_step or 0)
        return {
            "teacher": self.teacher.name,
            "teacher_sha256": self.teacher.checksum,
            "teacher_seconds_per_step": self._seconds / steps if steps else math.nan,
        }
