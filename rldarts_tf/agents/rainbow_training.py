"""Rainbow as an `AgentProgram`: N environments act in one batch, and replay feeds the learner."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from acme.utils import loggers

from rldarts_tf.agents import rainbow
from rldarts_tf.agents.replay import BatchAdder, Replay, environment_spec
from rldarts_tf.agents.settings import RainbowSettings
from rldarts_tf.agents.training import AgentProgram
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.games import NUM_ACTIONS
from rldarts_tf.envs.reward import MaximumReturnScale
from rldarts_tf.envs.suite import ProcgenSuite
from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import part_of
from rldarts_tf.runs.directory import StageDirectory


class RainbowProgram(AgentProgram):
    """See `AgentProgram`.

    A checkpoint holds replay as it is at that moment. What a resumed run lacks are the windows of
    the n-step adders: each environment begins an episode for replay where it stands, so that at
    most n - 1 transitions of each are lost and n - 1 shorter ones come in.

    Args:
      encoder: the encoder, not yet built.
      suite: the environments.
      settings: the numbers, chosen for the games (`RainbowSettings.for_games`).
      seed: of environments and actions. Reverb's choice of samples cannot be seeded.
      stage_dir: where replay is saved.
    """

    columns = (*rainbow.LOSSES, "epsilon", "learner_steps", "replay_size")

    def __init__(
        self,
        encoder: Encoder,
        suite: ProcgenSuite,
        settings: RainbowSettings,
        seed: int,
        stage_dir: StageDirectory,
    ) -> None:
        self._settings = settings
        self._replay_dir = stage_dir.replay_dir
        self.environment = suite.make(settings.num_envs, seed)
        self.environment.reset()
        self._spec = environment_spec(self.environment.observation_spec(), NUM_ACTIONS)
        self._scale = MaximumReturnScale(
            self.environment.games, settings.reward_maximum or suite.distribution_mode
        )
        self._network = rainbow.make_network(encoder, NUM_ACTIONS, settings)
        self._log = MeanLogger()
        self.learner = rainbow.make_learner(
            self._network, self._spec.observations, settings, logger=self._log
        )
        generator = tf.random.Generator.from_seed(seed, alg="philox")
        self._epsilon = tf.Variable(1.0, trainable=False, name="epsilon")
        self._act = self._traced(rainbow.EpsilonGreedy(self._network, self._epsilon, generator))
        self._act_evaluating = self._traced(
            rainbow.EpsilonGreedy(self._network, settings.evaluation_epsilon, generator)
        )
        self.trackables = {**self.learner.state, "generator": generator}
        self._step = 0
        self._sampling = False
        self._saved_replay: str | None = None
        self._replay: Replay | None = None
        self._adder: BatchAdder | None = None

    @property
    def replay(self) -> Replay:
        """The replay server; there is one after `start`."""
        if self._replay is None:
            raise ValueError("the program has not been started")
        return self._replay

    def start(self) -> None:
        """Starts replay, empty or as the checkpoint has it."""
        settings = self._settings
        self._replay = Replay(
            self._spec,
            settings.replay_capacity,
            settings.priority_exponent,
            self._replay_dir,
            self._saved_replay,
        )
        self.learner.connect(self._replay.sample(settings.batch_size), self._replay.client)
        self._adder = BatchAdder(
            self._replay, settings.num_envs, settings.n_step, settings.discount
        )
        self._adder.add_first(self.environment.current_time_step().observation)

    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        """Steps all environments some times, and learns as often as that calls for."""
        before = self._step
        for _ in range(self._settings.steps_per_update):
            self._act_once()
            since = self._step - self._settings.min_replay_size
            due = rainbow.learner_steps_due(self._settings, since)
            if self.learner.num_steps < due and not self._sampling:
                # The adders may still hold the first transitions, and sampling would wait for one.
                self._adder.flush()
                self._sampling = True
            while self.learner.num_steps < due:
                self.learner.step()
            if stopping():
                break
        return self._step - before, {
            **self._log.take(rainbow.LOSSES),
            "epsilon": rainbow.epsilon_at(self._settings, self._step),
            "learner_steps": self.learner.num_steps,
            "replay_size": self.replay.size,
        }

    def policy(self, observations: np.ndarray) -> np.ndarray:
        """Greedy but for `evaluation_epsilon`."""
        return _checked(self._act_evaluating(observations))

    def state(self) -> dict[str, np.ndarray]:
        """That of the environments, and which checkpoint of replay belongs to it."""
        return {
            **{f"environment/{k}": v for k, v in self.environment.get_state().items()},
            "step": np.int64(self._step),
            "replay": np.array(self._saved_replay or ""),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` returned."""
        self.environment.set_state(part_of(state, "environment"))
        self._step = int(state["step"])
        self._saved_replay = str(state["replay"])

    def before_checkpoint(self) -> None:
        """Saves replay beside what it replaces: until the checkpoint is safe, both are needed."""
        self._adder.flush()
        self._saved_replay = self.replay.save()

    def after_checkpoint(self) -> None:
        """Deletes what no checkpoint needs any more."""
        self.replay.forget_all_but(self._saved_replay)

    def close(self) -> None:
        """Ends replay and simulators."""
        try:
            self.learner.disconnect()
            if self._adder is not None:
                self._adder.close()
            if self._replay is not None:
                self._replay.close()
            # The table may take gigabytes, and this object may live longer than it is used.
            self._adder = self._replay = None
        finally:
            self.environment.close()

    def _act_once(self) -> None:
        time_step = self.environment.current_time_step()
        self._epsilon.assign(rainbow.epsilon_at(self._settings, self._step))
        actions = _checked(self._act(time_step.observation))
        time_step = self.environment.step(actions)
        ended = time_step.is_last()
        self._adder.add(
            actions,
            self._scale(time_step.reward, ended),
            time_step.discount,
            ended,
            time_step.observation,
        )
        self._step += self._settings.num_envs

    @staticmethod
    def _traced(policy: rainbow.EpsilonGreedy) -> Callable[[np.ndarray], Any]:
        # Without AutoGraph, which would translate Sonnet and Keras too.
        return tf.function(policy.act, autograph=False, reduce_retracing=True)


class MeanLogger(loggers.Logger):
    """Adds up what it is given until somebody takes the means."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = collections.defaultdict(list)

    def write(self, data: Mapping[str, Any]) -> None:
        """Takes numbers by name."""
        for name, value in data.items():
            self._values[name].append(float(value))

    def take(self, names: tuple[str, ...]) -> dict[str, float]:
        """The means since the last call, of those names that came."""
        means = {name: float(np.mean(self._values[name])) for name in names if name in self._values}
        self._values.clear()
        return means

    def close(self) -> None:
        """There is nothing to close."""


def _checked(acted: tuple[tf.Tensor, tf.Tensor]) -> np.ndarray:
    """Actions; their values must be finite, or they would be no choice."""
    actions, values = map(np.asarray, acted)
    if not np.isfinite(values).all():
        raise RunError(
            "the policy's output is not finite: training has diverged; "
            "lower RainbowSettings.learning_rate"
        )
    return actions
