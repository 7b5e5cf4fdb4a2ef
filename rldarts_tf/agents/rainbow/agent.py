"""Rainbow without noisy nets, from Acme's parts, for one environment."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from acme import specs
from acme.utils import counting, loggers

from rldarts_tf.agents.off_policy.loop_agent import LoopAgent
from rldarts_tf.agents.off_policy.replay import Replay
from rldarts_tf.agents.rainbow.exploration import EpsilonGreedy, epsilons_at
from rldarts_tf.agents.rainbow.learner import make_learner
from rldarts_tf.agents.rainbow.networks import make_network
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.training.seeds import make_generator


class Rainbow(LoopAgent):
    """Rainbow for one environment and Acme's EnvironmentLoop, as Acme's own `DQN` is.

    Args:
      environment_spec: of the environment: images, discrete actions.
      encoder: the encoder, not yet built; used itself, so that the α you hold is trained.
      settings: the numbers, with `n_step` and `replay_capacity` (see `RainbowSettings.for_games`);
        those of many environments and of evaluations are not used. By default ε falls from 0.4 over
        25 million steps: set `epsilon_steps` to about the length of a shorter run.
      seed: of the exploration and the augmentation.
      counter: counts learner steps.
      logger: is given the losses.
      checkpoint_directory: where Acme's Checkpointer saves the learner every ten minutes, and from
        where it resumes; None for nowhere. Replay is not saved.

    Attributes:
      epsilon: ε, a variable.
    """

    def __init__(
        self,
        environment_spec: specs.EnvironmentSpec,
        encoder: Encoder,
        settings: RainbowSettings,
        seed: int = 0,
        counter: counting.Counter | None = None,
        logger: loggers.Logger | None = None,
        checkpoint_directory: str | None = None,
    ) -> None:
        n_step, capacity = settings.chosen("n_step"), settings.chosen("replay_capacity")
        network = make_network(encoder, environment_spec.actions.num_values, settings)
        generator = make_generator(seed, "actions")

        def epsilon_at(step: int) -> np.float32:
            return epsilons_at(settings, ["the only one"], step)[0]

        self.epsilon = tf.Variable(epsilon_at(0), trainable=False, dtype=tf.float32, name="epsilon")
        super().__init__(
            policy=EpsilonGreedy(network, self.epsilon, generator),
            explore=lambda step: self.epsilon.assign(epsilon_at(step)),
            learner=make_learner(
                network,
                environment_spec.observations,
                settings,
                counter=counter,
                logger=logger,
                seed=seed,
            ),
            replay=Replay(
                environment_spec,
                capacity,
                settings.priority_exponent,
                initial_priority=settings.initial_priority,
            ),
            settings=settings,
            n_step=n_step,
            trackables={"epsilon": self.epsilon, "generator": generator},
            checkpoint_directory=checkpoint_directory,
            checkpoint_name="rainbow_learner",
        )
