"""Soft actor-critic with one encoder for actor and critics, from Acme's parts."""

from __future__ import annotations

from typing import Any

import sonnet as snt
import tensorflow as tf
from acme import specs
from acme.utils import counting, loggers

from rldarts_tf.agents.off_policy.loop_agent import LoopAgent
from rldarts_tf.agents.off_policy.replay import Replay
from rldarts_tf.agents.sac.learner import SACLearner
from rldarts_tf.agents.sac.networks import Critics, Policy, TanhGaussianHead
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.encoders import Encoder, check_two
from rldarts_tf.torso import Torso
from rldarts_tf.training.seeds import make_generator


class SACNetworks:
    """Critics and actor around one torso, with variables.

    Args:
      environment_spec: of one environment.
      encoder: an `rldarts_tf.Encoder`, not yet built, used itself; or a Sonnet module
        observations [B, ...] -> features [B, features] (for states, such as
        `acme.tf.utils.batch_concat`).
      settings: the numbers.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder | snt.Module,
        settings: SACSettings,
    ) -> None:
        self.num_dimensions = int(environment_spec.actions.shape[0])
        torso = encoder
        if isinstance(encoder, Encoder):
            check_two(encoder, False, None)
            torso = Torso(encoder)
        self.critics = Critics(torso, settings.hidden_sizes)
        self.actor = TanhGaussianHead(self.num_dimensions, settings.hidden_sizes)
        # Acme's `create_variables` wants the batch first in what comes out.
        self.critics(_one(environment_spec.observations), _one(environment_spec.actions))
        self.actor(torso(_one(environment_spec.observations)))

    def policy(self, generator: tf.random.Generator | None, **options: Any) -> Policy:
        """A policy that acts with the actor; see `Policy`."""
        return Policy(self.critics.torso, self.actor, generator, **options)

    def learner(self, settings: SACSettings, seed: int, **parts: Any) -> SACLearner:
        """A learner; `counter`, `logger`, `distillation` and `strategy` are optional parts."""
        return SACLearner(self.critics, self.actor, self.num_dimensions, settings, seed, **parts)


class SAC(LoopAgent):
    """SAC for one environment and Acme's EnvironmentLoop, as Acme's own agents are.

    Args:
      environment_spec: of the environment: images [H, W, C] or states [size], actions in [-1, 1]^A.
      encoder: see `SACNetworks`.
      settings: the numbers; those of many environments are not used.
      seed: of actions and shifts.
      counter: counts learner steps.
      logger: is given the losses.
      checkpoint_directory: where Acme's Checkpointer saves the learner every ten minutes, and from
        where it resumes; None for nowhere. Replay is not saved.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder | snt.Module,
        settings: SACSettings,
        seed: int = 0,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        checkpoint_directory: str | None = None,
    ) -> None:
        self.networks = SACNetworks(environment_spec, encoder, settings)
        generator = make_generator(seed, "actions")
        self._uniform = tf.Variable(True, trainable=False, name="uniform")
        super().__init__(
            policy=self.networks.policy(generator, uniform=self._uniform),
            explore=lambda step: self._uniform.assign(step < settings.min_replay_size),
            learner=self.networks.learner(settings, seed, counter=counter, logger=logger),
            replay=Replay(environment_spec, settings.replay_capacity, priority_exponent=None),
            settings=settings,
            n_step=1,
            trackables={"uniform": self._uniform, "generator": generator},
            checkpoint_directory=checkpoint_directory,
            checkpoint_name="sac_learner",
        )


def _one(spec: specs.Array) -> tf.Tensor:
    return tf.zeros([1, *spec.shape], spec.dtype)
