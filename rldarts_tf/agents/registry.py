"""The table of algorithms: name, settings, program and greedy policy of each.

Programs and policies are imported when they are asked for, because each needs a framework of its
own.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.errors import ConfigError

if TYPE_CHECKING:
    from rldarts_tf.training.program import MakeProgram


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """An algorithm.

    Attributes:
      name: in a gin file `Algorithm.name = 'ppo'`.
      settings: the class of its settings.
      program_path: "module:name" of its `AgentProgram`.
      greedy_path: "module:name" of the function that makes its greedy policy, for `export`.
      teacher_path: the module with what makes it a teacher; None where it cannot be one, nor have
        one.
      retired: settings that config.gin of an older run may have, and nothing reads any more.
    """

    name: str
    settings: type
    program_path: str
    greedy_path: str
    teacher_path: str | None = None
    retired: tuple[str, ...] = ()

    @property
    def program(self) -> MakeProgram:
        """The class of its `AgentProgram`."""
        return _imported(self.program_path)

    @property
    def greedy(self) -> Any:
        """The function that makes its greedy policy: see `rldarts_tf.export.policies`."""
        return _imported(self.greedy_path)

    @property
    def teacher(self) -> Any:
        """The module with its `make_teacher` and `reward_scales`: see `export.teachers`.

        Raises:
          ConfigError: it has none.
        """
        if self.teacher_path is None:
            raise ConfigError(f"TeacherSettings.run: {self.name} has no distillation")
        return importlib.import_module(self.teacher_path)


ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "ppo",
            PPOSettings,
            "rldarts_tf.agents.ppo.program:PPOProgram",
            "rldarts_tf.agents.ppo.greedy:make_greedy",
            "rldarts_tf.agents.ppo.teacher",
        ),
        Algorithm(
            "rainbow",
            RainbowSettings,
            "rldarts_tf.agents.rainbow.program:RainbowProgram",
            "rldarts_tf.agents.rainbow.greedy:make_greedy",
            "rldarts_tf.agents.rainbow.teacher",
            retired=("epsilon_start", "epsilon_end"),
        ),
        Algorithm(
            "sac",
            SACSettings,
            "rldarts_tf.agents.sac.program:SACProgram",
            "rldarts_tf.agents.sac.greedy:make_greedy",
            "rldarts_tf.agents.sac.teacher",
        ),
    )
}
"""Every algorithm by its name."""


def register_algorithm(algorithm: Algorithm) -> Algorithm:
    """Adds an algorithm to the table; returns it.

    Raises:
      ConfigError: another one has its name.
    """
    if ALGORITHMS.setdefault(algorithm.name, algorithm) != algorithm:
        raise ConfigError(f"an algorithm named {algorithm.name!r} is registered already")
    return algorithm


def algorithm_of(program: Any) -> Algorithm:
    """Returns the algorithm whose program this is.

    Raises:
      ConfigError: it is that of no registered algorithm.
    """
    path = f"{program.__module__}:{program.__qualname__}"
    for algorithm in ALGORITHMS.values():
        if algorithm.program_path == path:
            return algorithm
    raise ConfigError(f"{path} is the program of no registered algorithm")


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
