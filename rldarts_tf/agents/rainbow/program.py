"""Rainbow as an `AgentProgram`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from acme import types
from typing_extensions import override

from rldarts_tf.agents.off_policy.program import OffPolicyProgram, Parts
from rldarts_tf.agents.rainbow.exploration import EpsilonGreedy, epsilons_at
from rldarts_tf.agents.rainbow.learner import LOSSES, RainbowLearner, make_learner
from rldarts_tf.agents.rainbow.networks import make_network
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, num_actions
from rldarts_tf.errors import ConfigError
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.seeds import generator_state, make_generator


class RainbowProgram(OffPolicyProgram):
    """`OffPolicyProgram` of Rainbow; evaluations are ε-greedy with `evaluation_epsilon`."""

    # "epsilon" is the mean over the environments.
    losses = (*LOSSES, "epsilon")
    learner: RainbowLearner

    @override
    def _make_parts(self, encoder: Encoder, suite: Suite, seed: int) -> Parts:
        settings = self._settings
        self._scale = suite.reward_scale(self.environment.games, settings.reward_maximum)
        # A support beyond 1 was chosen for raw returns.
        if settings.v_max <= 1:
            for game in suite.games:
                missing = suite.missing_maximum(game)
                if missing is not None:
                    print(settings.unscaled_warning(game, missing), file=sys.stderr, flush=True)
        actions = num_actions(self.environment.action_spec(), "Rainbow")
        network = self._network = make_network(encoder, actions, settings)
        generator = make_generator(seed, "actions")
        # Not saved: each evaluation sets it.
        self._evaluation_generator = make_generator(seed, "evaluation actions")
        self._epsilon = tf.Variable(self._epsilons(0), trainable=False, name="epsilon")
        return Parts(
            learner=make_learner(
                network,
                self._spec.observations,
                settings,
                logger=self._log,
                distillation=self.distillation,
                reward_ratio=self._reward_ratio(),
                strategy=self._strategy,
                seed=seed,
            ),
            act=EpsilonGreedy(network, self._epsilon, generator).act,
            explore=lambda step: self._epsilon.assign(self._epsilons(step)),
            evaluate=EpsilonGreedy(
                network, settings.evaluation_epsilon, self._evaluation_generator
            ).act,
            trackables={"generator": generator},
            n_step=settings.chosen("n_step"),
            priority_exponent=settings.priority_exponent,
            initial_priority=settings.initial_priority,
        )

    @override
    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        steps, metrics = super().advance(stopping)
        return steps, {**metrics, "epsilon": float(np.mean(self._epsilons(self._step)))}

    @override
    def evaluation_policy(self, seed: int) -> Policy:
        """Returns an ε-greedy policy with `evaluation_epsilon`; ties are broken at random."""
        self._evaluation_generator.reset(generator_state(seed, "evaluation actions"))
        return super().evaluation_policy(seed)

    @override
    def _rewards(self, rewards: np.ndarray) -> np.ndarray:
        return self._scale(rewards)

    @override
    def _held_out_policy(self, seed: int) -> Callable[[Any], tuple[Any, Any]]:
        # A variable: on many games ε is one number of each environment.
        epsilon = tf.Variable(self._epsilons(self._step), trainable=False)
        generator = make_generator(seed, "held-out actions")
        return EpsilonGreedy(self._network, epsilon, generator).act

    @override
    def _held_out_target(self, transitions: types.Transition, group: tf.Tensor) -> tf.Tensor:
        del group
        return self.learner.target_of(transitions)

    def _reward_ratio(self) -> float:
        """Returns of the teacher times this are in units of the student's rewards."""
        if self.distillation is None:
            return 1.0
        games = self.environment.games
        own = self._scale(np.ones(len(games)))
        ratios = self.distillation.teacher.scales(games) * own
        if np.ptp(ratios) > 1e-6:
            raise ConfigError(
                "TeacherSettings.run: rewards of the teacher and of the student are in units that "
                "differ from game to game: set RainbowSettings.reward_maximum to the teacher's"
            )
        return float(ratios[0])

    def _epsilons(self, step: int) -> np.ndarray:
        """ε of each environment after so many steps, float32 [B]."""
        return epsilons_at(self._settings, self.environment.games, step)
