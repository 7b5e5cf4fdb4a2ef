"""Environments of this package in TF-Agents' own loops."""

from __future__ import annotations

import numpy as np
from tf_agents.environments import py_environment
from tf_agents.specs import ArraySpec, BoundedArraySpec
from tf_agents.trajectories import time_step as ts

from rldarts_tf.envs.suite import Environments


class PyEnvironment(py_environment.PyEnvironment):
    """Environments side by side as one batched environment of TF-Agents.

    For `TFPyEnvironment` and drivers; each environment begins its next episode by itself.

    Args:
      environments: such as `make_gymnasium` makes; closed with this.
    """

    def __init__(self, environments: Environments) -> None:
        super().__init__(handle_auto_reset=False)
        self._environments = environments

    @property
    def batched(self) -> bool:
        """Always."""
        return True

    @property
    def batch_size(self) -> int:
        """B, the number of environments."""
        return self._environments.batch_size

    def observation_spec(self) -> ArraySpec:
        """Of one observation."""
        spec = self._environments.observation_spec()
        return ArraySpec(spec.shape, spec.dtype, spec.name)

    def action_spec(self) -> BoundedArraySpec:
        """Of one action."""
        spec = self._environments.action_spec()
        return BoundedArraySpec(spec.shape, spec.dtype, spec.minimum, spec.maximum, spec.name)

    def close(self) -> None:
        """Closes the simulators."""
        self._environments.close()

    def _reset(self) -> ts.TimeStep:
        return ts.TimeStep(*self._environments.reset())

    def _step(self, action: np.ndarray) -> ts.TimeStep:
        return ts.TimeStep(*self._environments.step(action))
