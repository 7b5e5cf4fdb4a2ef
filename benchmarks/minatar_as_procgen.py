"""MinAtar in the place of Procgen, for a script that makes `procgen.ProcgenEnv`: see peers.py.

Runs in the environment of the peer: it needs gym, gymnasium and minatar, and nothing of ours.
"""

from __future__ import annotations

from typing import Any

import gym
import gymnasium
import minatar.gym
import numpy as np


class ProcgenEnv:
    """Gymnasium's vector environment of MinAtar's Breakout with the interface of Procgen's.

    Observations are {"rgb": uint8 [B, 10, 10, 4]}, 0 or 255. As in Procgen, the step that ends an
    episode returns the first observation of the next one.

    Args:
      num_envs: B.
      **options: of Procgen; not used.
    """

    def __init__(self, num_envs: int, **options: Any) -> None:
        del options
        self.num_envs = num_envs
        minatar.gym.register_envs()
        self._vector = gymnasium.make_vec(
            "MinAtar/Breakout-v1",
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={
                "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
                "copy": False,
            },
            disable_env_checker=True,
        )
        image = gym.spaces.Box(0, 255, self._vector.single_observation_space.shape, np.uint8)
        self.observation_space = gym.spaces.Dict(rgb=image)
        self.action_space = gym.spaces.Discrete(int(self._vector.single_action_space.n))
        self.metadata: dict[str, Any] = {}
        self.reward_range = (-np.inf, np.inf)
        self.spec = None

    def reset(self) -> dict[str, np.ndarray]:
        """The first observations."""
        return _observation(self._vector.reset(seed=0)[0])

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict]]:
        """(observation, rewards [B], dones [B], one dictionary per environment)."""
        planes, rewards, terminated, truncated, _ = self._vector.step(actions)
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        return _observation(planes), rewards.astype(np.float32), terminated | truncated, infos

    def close(self) -> None:
        """Ends the games."""
        self._vector.close()


def _observation(planes: np.ndarray) -> dict[str, np.ndarray]:
    return {"rgb": planes.astype(np.uint8) * 255}
