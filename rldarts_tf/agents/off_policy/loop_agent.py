"""Base class of the agents for one environment and Acme's EnvironmentLoop."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import dm_env
import sonnet as snt
import tensorflow as tf
from acme.agents import agent
from acme.agents.tf import actors
from acme.tf import savers

from rldarts_tf.agents.off_policy.learner import ReplayLearner
from rldarts_tf.agents.off_policy.replay import Replay, learner_steps_due


class LoopAgent(agent.Agent):
    """Acts in one environment, keeps what happens in replay, and learns from it.

    Args:
      policy: observations [B, ...] -> actions [B, ...].
      explore: sets the policy's exploration; called with the environment steps after each.
      learner: not yet connected.
      replay: the server.
      settings: `batch_size`, `samples_per_insert`, `min_replay_size`, `discount`.
      n_step: rewards in a return.
      trackables: TensorFlow objects of the checkpoint beside the learner's state, by name.
      checkpoint_directory: where Acme's Checkpointer saves the learner every ten minutes, and from
        where it resumes; None for nowhere. Replay is not saved.
      checkpoint_name: the folder in it.
    """

    def __init__(
        self,
        *,
        policy: snt.Module,
        explore: Callable[[int], object],
        learner: ReplayLearner,
        replay: Replay,
        settings: Any,
        n_step: int,
        trackables: dict[str, Any],
        checkpoint_directory: str | None,
        checkpoint_name: str,
    ) -> None:
        self._settings = settings
        self._replay = replay
        self._explore = explore
        self._learned = 0
        # Acme's own count begins again with every process.
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="environment_steps")
        self._checkpointer = None
        if checkpoint_directory is not None:
            self._checkpointer = savers.Checkpointer(
                {**learner.state, **trackables, "environment_steps": self._steps},
                directory=checkpoint_directory,
                subdirectory=checkpoint_name,
                # Acme would begin a new folder in every process, and so never resume.
                add_uid=False,
            )
        learner.connect(replay.sample(settings.batch_size), replay.client)
        super().__init__(
            actor=actors.FeedForwardActor(policy, replay.adder(n_step, settings.discount)),
            learner=learner,
            min_observations=max(settings.batch_size, settings.min_replay_size),
            observations_per_step=settings.batch_size / settings.samples_per_insert,
        )

    def observe(self, action: Any, next_timestep: dm_env.TimeStep) -> None:
        """Puts a step into replay and sets the exploration of the next one."""
        super().observe(action, next_timestep)
        self._steps.assign_add(1)
        self._explore(int(self._steps))

    def update(self) -> None:
        """Learns, if it is time to: exactly as often as `samples_per_insert` says.

        Acme's own rule, which this replaces, rounds what is not a whole number.
        """
        since = self._num_observations - self._min_observations
        while self._learned < learner_steps_due(self._settings, since):
            self._learner.step()
            self._learned += 1
        if self._checkpointer is not None:
            self._checkpointer.save()

    def close(self) -> None:
        """Ends replay, in the order that Reverb wants; the agent must not be used after it."""
        self._learner.disconnect()
        self._actor = None
        gc.collect()  # Acme's adders end their connections when they are deleted.
        self._replay.close()
