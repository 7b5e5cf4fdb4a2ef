"""SAC as an `AgentProgram`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rldarts_tf.agents.off_policy.program import (
    MeanLogger,
    OffPolicyProgram,
    checked,
    traced,
)
from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.sac import agent as sac
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, check_box
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.seeds import derived_seed, make_generator


class SACProgram(OffPolicyProgram):
    """See `OffPolicyProgram`. A resumed run begins new episodes, for simulators cannot be saved.

    Args:
      encoder: the encoder, not yet built.
      suite: the environments.
      settings: the numbers.
      seed: of environments, actions and shifts. Reverb's choice of samples cannot be seeded.
      stage_dir: where replay is saved.
    """

    losses = sac.LOSSES

    def __init__(
        self,
        encoder: Encoder,
        suite: Suite,
        settings: SACSettings,
        seed: int,
        stage_dir: StagePaths,
    ) -> None:
        environment = suite.make(settings.num_envs, derived_seed(seed, "environments"))
        try:
            environment.reset()
            check_box(environment.action_spec(), "SAC")
            spec = environment_spec(environment.observation_spec(), environment.action_spec())
            networks = sac.SACNetworks(spec, encoder, settings)
            log = MeanLogger()
            learner = networks.learner(settings, seed, logger=log)
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
            n_step=1,
            priority_exponent=None,
        )
        generator = make_generator(seed, "actions")
        self._uniform = tf.Variable(True, trainable=False, name="uniform")
        self._act = traced(networks.policy(generator, uniform=self._uniform).act)
        self._act_evaluating = traced(networks.policy(None, greedy=True).act)
        self.trackables = {**learner.state, "generator": generator}

    def evaluation_policy(self, seed: int) -> Policy:
        """Returns the deterministic policy tanh(μ), as PI-SAC evaluates."""
        del seed
        return lambda observations: self._checked(self._act_evaluating(observations))

    def _actions(self, observations: np.ndarray) -> np.ndarray:
        self._uniform.assign(self._step < self._settings.min_replay_size)
        return self._checked(self._act(observations))

    @staticmethod
    def _checked(acted: tuple[tf.Tensor, tf.Tensor]) -> np.ndarray:
        return checked(*acted, SACSettings)
