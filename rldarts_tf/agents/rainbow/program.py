"""Rainbow as an `AgentProgram`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rldarts_tf.agents.off_policy.program import (
    MeanLogger,
    OffPolicyProgram,
    checked,
    traced,
)
from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.rainbow import agent as rainbow
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, num_actions
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.seeds import derived_seed, generator_state, make_generator


class RainbowProgram(OffPolicyProgram):
    """See `OffPolicyProgram`.

    Args:
      encoder: the encoder, not yet built.
      suite: the environments.
      settings: the numbers, chosen for the games (`RainbowSettings.for_games`).
      seed: of environments and actions. Reverb's choice of samples cannot be seeded.
      stage_dir: where replay is saved.
    """

    # "epsilon" is the mean over the environments.
    losses = (*rainbow.LOSSES, "epsilon")

    def __init__(
        self,
        encoder: Encoder,
        suite: Suite,
        settings: RainbowSettings,
        seed: int,
        stage_dir: StagePaths,
    ) -> None:
        environment = suite.make(settings.num_envs, derived_seed(seed, "environments"))
        try:
            environment.reset()
            actions = num_actions(environment.action_spec(), "Rainbow")
            spec = environment_spec(environment.observation_spec(), environment.action_spec())
            self._scale = suite.reward_scale(environment.games, settings.reward_maximum)
            network = rainbow.make_network(encoder, actions, settings)
            log = MeanLogger()
            learner = rainbow.make_learner(network, spec.observations, settings, logger=log)
        except BaseException:
            environment.close()
            raise
        super().__init__(
            environment,
            spec,
            learner,
            log,
            settings,
            stage_dir,
            n_step=settings.n_step,
            priority_exponent=settings.priority_exponent,
            initial_priority=settings.initial_priority,
        )
        generator = make_generator(seed, "actions")
        self._epsilon = tf.Variable(self._epsilons(), trainable=False, name="epsilon")
        self._act = traced(rainbow.EpsilonGreedy(network, self._epsilon, generator).act)
        # Not saved: each evaluation sets it.
        self._evaluation_generator = make_generator(seed, "evaluation actions")
        self._act_evaluating = traced(
            rainbow.EpsilonGreedy(
                network, settings.evaluation_epsilon, self._evaluation_generator
            ).act
        )
        self.trackables = {**learner.state, "generator": generator}

    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        """See `OffPolicyProgram`."""
        steps, metrics = super().advance(stopping)
        return steps, {**metrics, "epsilon": float(np.mean(self._epsilons()))}

    def evaluation_policy(self, seed: int) -> Policy:
        """Returns an ε-greedy policy with `evaluation_epsilon`; ties are broken at random."""
        self._evaluation_generator.reset(generator_state(seed, "evaluation actions"))
        return lambda observations: self._checked(self._act_evaluating(observations))

    def _actions(self, observations: np.ndarray) -> np.ndarray:
        self._epsilon.assign(self._epsilons())
        return self._checked(self._act(observations))

    def _epsilons(self) -> np.ndarray:
        """ε of each environment now, float32 [B]."""
        return rainbow.epsilons_at(self._settings, self.environment.games, self._step)

    def _rewards(self, rewards: np.ndarray) -> np.ndarray:
        return self._scale(rewards)

    @staticmethod
    def _checked(acted: tuple[tf.Tensor, tf.Tensor]) -> np.ndarray:
        return checked(*acted, RainbowSettings)
