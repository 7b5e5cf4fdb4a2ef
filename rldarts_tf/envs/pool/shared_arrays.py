"""Memory shared by a batch of environments and the processes that simulate them."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np

_ALIGNMENT = 64


class SharedArrays:
    """One step of a batch of environments, in a file that several processes map.

    Both sides make it with the same arguments, which decide the layout. The file is anonymous: its
    memory is gone when the last process that has it ends, however it ends.

    Attributes:
      action: float32 [B, A].
      reward: float32 [B].
      discount: float32 [B].
      step_type: int32 [B].
      observation: [B, ...].
    """

    action: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    step_type: np.ndarray
    observation: np.ndarray

    def __init__(
        self,
        file: int,
        num_envs: int,
        action_size: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
    ) -> None:
        """Maps the file, and first makes it long enough.

        Args:
          file: descriptor of the file, from `os.memfd_create`; it may be closed afterwards.
          num_envs: number of environments.
          action_size: A.
          observation_shape: of one observation.
          observation_dtype: of observations.
        """
        fields = {
            "action": ((num_envs, action_size), np.float32),
            "reward": ((num_envs,), np.float32),
            "discount": ((num_envs,), np.float32),
            "step_type": ((num_envs,), np.int32),
            "observation": ((num_envs, *observation_shape), observation_dtype),
        }
        offsets, size = {}, 0
        for name, (shape, dtype) in fields.items():
            offsets[name] = size
            length = math.prod(shape) * np.dtype(dtype).itemsize
            size += -(-length // _ALIGNMENT) * _ALIGNMENT
        if os.fstat(file).st_size < size:
            os.ftruncate(file, size)
        memory = mmap.mmap(file, size)
        for name, (shape, dtype) in fields.items():
            setattr(self, name, np.ndarray(shape, dtype, memory, offsets[name]))
