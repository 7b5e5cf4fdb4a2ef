"""Tasks of the DM Control Suite, each simulated in a process of its own, stepped together."""

from __future__ import annotations

from typing import Any

from rldarts_tf.checks import check_integer
from rldarts_tf.envs.dm_control.environment import action_repeat_of, check_arguments, prepare
from rldarts_tf.envs.pool.batch import PoolBatch
from rldarts_tf.errors import ConfigError


class DMControlBatch(PoolBatch):
    """Copies of one task that step together, each a `DMControl` in a process of its own.

    See `DMControl` for observations, and `PoolBatch` for time steps, failures, seeds and states.
    """

    def __init__(
        self,
        domain_name: str,
        task_name: str,
        num_envs: int,
        *,
        seed: int,
        action_repeat: int | None = None,
        frame_stack: int = 3,
        image_size: int = 64,
        observations: str = "pixels",
        timeout: float = 60.0,
    ) -> None:
        """Starts the workers, all at once, and waits until their tasks are loaded.

        Args:
          domain_name: such as "cartpole".
          task_name: such as "swingup".
          num_envs: number of environments, at least 1.
          seed: decides the seeds of all workers, 0 to 2**32 - 1.
          action_repeat: steps of the task with one action; None is that of `ACTION_REPEAT`.
          frame_stack: frames in an observation; not used with states.
          image_size: height and width of frames; not used with states.
          observations: "pixels" or "state".
          timeout: seconds that a worker may take for one step.

        Raises:
          ConfigError: an argument is not valid, or dm_control or a renderer is missing.
          RunError: a worker cannot be started for another reason.
        """
        check_integer("num_envs:", num_envs, least=1)
        if action_repeat is None:
            action_repeat = action_repeat_of(domain_name, task_name)
        options: dict[str, Any] = {
            "domain_name": domain_name,
            "task_name": task_name,
            "action_repeat": action_repeat,
            "frame_stack": frame_stack,
            "image_size": image_size,
            "observations": observations,
        }
        check_arguments({**options, "seed": seed})
        if not timeout > 0:
            raise ConfigError(f"timeout: must be more than 0, not {timeout}")
        prepare(observations)
        self._action_repeat = action_repeat
        super().__init__(
            "rldarts_tf.envs.dm_control.worker",
            f"{domain_name}/{task_name}",
            num_envs,
            seed=seed,
            options=options,
            timeout=timeout,
            # Mesa's own threads gain nothing on so small a frame, and every worker would start its
            # own.
            variables={"LP_NUM_THREADS": "0"},
        )

    @property
    def action_repeat(self) -> int:
        """Steps of the task with one action."""
        return self._action_repeat
