"""SAC as an `AgentProgram`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from acme import types
from typing_extensions import override

from rldarts_tf.agents.off_policy.program import OffPolicyProgram, Parts
from rldarts_tf.agents.sac.agent import SACNetworks
from rldarts_tf.agents.sac.learner import LOSSES, SACLearner
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, check_box
from rldarts_tf.training.seeds import make_generator


class SACProgram(OffPolicyProgram):
    """`OffPolicyProgram` of SAC; evaluations act by tanh(μ), as PI-SAC's do.

    On DM Control a resumed run begins new episodes, for simulators cannot be saved.
    """

    losses = LOSSES
    learner: SACLearner

    @override
    def _make_parts(self, encoder: Encoder, suite: Suite, seed: int) -> Parts:
        check_box(self.environment.action_spec(), "SAC")
        settings = self._settings
        networks = self._networks = SACNetworks(self._spec, encoder, settings)
        generator = make_generator(seed, "actions")
        uniform = tf.Variable(True, trainable=False, name="uniform")
        return Parts(
            learner=networks.learner(
                settings,
                seed,
                logger=self._log,
                distillation=self.distillation,
                strategy=self._strategy,
            ),
            act=networks.policy(generator, uniform=uniform).act,
            explore=lambda step: uniform.assign(step < settings.min_replay_size),
            evaluate=networks.policy(None).act,
            trackables={"generator": generator},
        )

    @override
    def _held_out_policy(self, seed: int) -> Callable[[Any], tuple[Any, Any]]:
        return self._networks.policy(make_generator(seed, "held-out actions")).act

    @override
    def _held_out_target(self, transitions: types.Transition, group: tf.Tensor) -> tf.Tensor:
        return self.learner.target_of(transitions, tf.stack([0, group]))
