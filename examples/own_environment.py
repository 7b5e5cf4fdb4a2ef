r"""An environment of one's own, searched on by the launcher of PPO.

In the folder of this file (`--env_module` imports it, and so runs its code):

    python -m rldarts_tf train ppo_gymnasium --env_module=own_environment \
        --env_name=Own/Errands-v0 --num_env_steps=200000 --root_dir=errands
    python -m rldarts_tf report errands
"""

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


class Errands(gymnasium.Env):
    """A walker on a square floor is sent to one random place after the other, 1 point for each.

    Observations are bool [size, size, 2], the walker and the place; actions are up, down, left and
    right. In the 50 steps of an episode random walkers earn less than 1 point, attentive ones 9.
    """

    def __init__(self, size: int = 8) -> None:
        self.observation_space = spaces.Box(0, 1, (size, size, 2), bool)
        self.action_space = spaces.Discrete(len(MOVES))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._walker, self._place = self._random_place(), self._random_place()
        return self._observation(), {}

    def step(self, action):
        size = self.observation_space.shape[0]
        self._walker = np.clip(self._walker + MOVES[action], 0, size - 1)
        arrived = bool((self._walker == self._place).all())
        if arrived:
            self._place = self._random_place()
        return self._observation(), float(arrived), False, False, {}

    def _random_place(self):
        return self.np_random.integers(self.observation_space.shape[0], size=2)

    def _observation(self):
        observation = np.zeros(self.observation_space.shape, bool)
        observation[(*self._walker, 0)] = observation[(*self._place, 1)] = True
        return observation


gymnasium.register("Own/Errands-v0", Errands, max_episode_steps=50)
