"""PPO as an `AgentProgram`: collect steps of all environments, then learn from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tf_agents.trajectories import time_step as ts
from typing_extensions import override

from rldarts_tf.agents.gradients import diverged
from rldarts_tf.agents.ppo import collect
from rldarts_tf.agents.ppo.acting import Actor
from rldarts_tf.agents.ppo.agent import make_agent, tensor_specs
from rldarts_tf.agents.ppo.augmentation import INVARIANCE
from rldarts_tf.agents.ppo.held_out import PPOHeldOut
from rldarts_tf.agents.ppo.learner import LOSSES, Learner, on_host
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.devices import make_strategy
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.envs.suite import Suite
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search.optimizers import supernets
from rldarts_tf.teaching.distillation import COLUMNS, PART, TERMS, Distillation
from rldarts_tf.training.evaluation import Policy
from rldarts_tf.training.program import AgentProgram
from rldarts_tf.training.seeds import derived_seed, make_generator
from rldarts_tf.training.state import part_of
from rldarts_tf.training.stopwatch import Stopwatch

PARTS = ("act", "simulate", "store", "learn")
"""The parts whose seconds are measured; "store" is the rest of the collection."""


class PPOProgram(AgentProgram):
    """`AgentProgram` of PPO; evaluations sample their actions, as training does.

    Args:
      encoder: the encoder, not yet built.
      suite: the environments.
      settings: the numbers.
      seed: of environments, actions, minibatches and augmentation.
      stage_dir: not used.
      distillation: the teacher, if there is one.
      devices: how many share a gradient step.
    """

    def __init__(
        self,
        encoder: Encoder,
        suite: Suite,
        settings: PPOSettings,
        seed: int,
        stage_dir: StagePaths,
        distillation: Distillation | None = None,
        devices: int = 1,
    ) -> None:
        del stage_dir
        self.distillation = distillation
        self._lesson: dict[str, np.ndarray] | None = None
        self._settings = settings
        self._suite = suite
        self._skipped = 0
        strategy = make_strategy(devices)
        self.stopwatch = Stopwatch(*PARTS, *([PART] if distillation else []))
        self.environment = suite.make(settings.num_envs, derived_seed(seed, "environments"))
        time_step_spec, action_spec = tensor_specs(
            self.environment.observation_spec(), self.environment.action_spec()
        )
        self.agent = make_agent(settings, time_step_spec, action_spec, encoder)
        generator = make_generator(seed, "actions and minibatches")
        self._supernets = supernets(encoder)
        self._loss_scale = self.agent.optimizer.loss_scale
        scale = () if self._loss_scale is None else ("loss_scale",)
        counters = self.environment.counters()
        augmented = () if settings.augmentation is None else INVARIANCE
        terms = (*augmented, *(COLUMNS if distillation else ()))
        falling = () if settings.final_learning_rate is None else ("learning_rate",)
        self.columns = (*LOSSES, *terms, "skipped_updates", *counters, *scale, *falling)
        self._act = Actor(self.agent, generator)
        # Where nothing is drawn, evaluations share the trace of training.
        draws = any(supernet.alpha.samples for supernet in self._supernets)
        self._act_evaluating = self._act.settled(encoder) if draws else self._act
        self._learner = Learner(self.agent, settings, generator, distillation, strategy)
        self._rewards = self._normalizer(self.environment.games)
        self._collector = collect.Collector(
            self.environment, self._act, settings.steps_per_update, self._rewards, self.stopwatch
        )
        self.trackables = {
            "actor": self.agent.actor_net,
            "value": self.agent.value_net,
            "optimizer": self.agent.optimizer,
            "train_step": self.agent.train_step_counter,
            "generator": generator,
        }

    @override
    def start(self) -> None:
        """Does nothing: PPO has nothing to start."""

    @override
    def set_progress(self, progress: float) -> None:
        self.agent.optimizer.learning_rate.assign(self._settings.learning_rate_at(progress))

    @override
    def advance(self, stopping: Callable[[], bool]) -> tuple[int, dict[str, float]]:
        """Collects one batch of experience and makes one update of PPO."""
        del stopping
        for supernet in self._supernets:
            supernet.alpha.draw()
        with self.stopwatch.measure("store"):
            experience = self._collector.collect()
        steps = int(np.sum(experience.next_step_type[:, :-1] != ts.StepType.FIRST))
        counters = self.environment.counters()
        if not steps:
            return 0, {**counters, "skipped_updates": self._skipped}
        lesson = self._ask(experience.observation)
        with self.stopwatch.measure("learn"):
            updated = self._learner.update(*on_host((experience, lesson)))
            losses = {name: float(value) for name, value in updated.items()}
        taught = {}
        if self.distillation is not None:
            taught = self.distillation.weights()
            if not self.distillation.active:  # These are means of nothing.
                losses = {name: value for name, value in losses.items() if name not in TERMS}
        skipped, overflowed = (int(losses.pop(name, 0)) for name in ("skipped", "overflowed"))
        self._skipped += skipped
        if overflowed == self._settings.gradient_steps:
            # There are no means: a scale that begins too high may take as many steps to fall.
            losses = {}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise diverged(bad[0], losses[bad[0]], PPOSettings)
        if self._loss_scale is not None:
            losses["loss_scale"] = float(self._loss_scale.value)
        if self._settings.final_learning_rate is not None:
            losses["learning_rate"] = float(self.agent.optimizer.learning_rate)
        return steps, {**losses, **taught, **counters, "skipped_updates": self._skipped}

    def _ask(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """What the teacher says of all but the last of observations [B, T + 1, ...], once.

        Its values become those of normalized rewards, of which the student's are: see
        `value_ratio`. Where both weights are 0 it is not asked; what it said before then counts for
        nothing.
        """
        if self.distillation is None:
            return {}
        if self._lesson is None or self.distillation.active:
            states = observations[:, :-1]
            with self.stopwatch.measure(PART):
                said = self.distillation.lesson(
                    states.reshape(-1, *states.shape[2:]), size=self._settings.minibatch_size
                )
            lesson = {k: v.reshape(*states.shape[:2], *v.shape[1:]) for k, v in said.items()}
            scales = self.distillation.teacher.scales(self.environment.games)
            ratio = value_ratio(scales, self._rewards.scale, self._settings.reward_clip)
            self._lesson = {**lesson, "value": lesson["value"] * ratio[:, None]}
        return self._lesson

    @property
    @override
    def gradient_steps(self) -> int:
        return int(self.agent.train_step_counter)

    @override
    def evaluation_policy(self, seed: int) -> Policy:
        act = self._act_evaluating.drawing_from(make_generator(seed, "evaluation actions"))
        return lambda observations: collect.checked_act(act, observations)[0]

    @override
    def held_out(self, seed: int) -> PPOHeldOut:
        settings = self._settings
        environment = self._suite.make(
            settings.num_envs, derived_seed(seed, "held-out environments")
        )
        normalizer = self._normalizer(environment.games)
        normalizer.set_state(part_of(self._collector.state(), "normalizer"))
        act = self._act.drawing_from(make_generator(seed, "held-out actions"))
        return PPOHeldOut(self.agent, act, settings, environment, normalizer)

    def _normalizer(self, games: Sequence[str]) -> RewardNormalizer:
        settings = self._settings
        return RewardNormalizer(
            settings.num_envs, settings.reward_discount, settings.reward_clip, groups=games
        )

    @override
    def state(self) -> dict[str, np.ndarray]:
        return {**self._collector.state(), "skipped_updates": np.array(self._skipped, np.int64)}

    @override
    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._collector.set_state(state)
        self._skipped = int(state["skipped_updates"])

    @override
    def close(self) -> None:
        self.environment.close()


def value_ratio(teacher_scale: np.ndarray, scale: np.ndarray, reward_clip: float) -> np.ndarray:
    """σ_T / σ, by which values of a teacher become those of its student; at most `reward_clip`.

    σ is what rewards are divided by. Before a student has seen rewards its own is close to 0; a
    reward that was 1 to the teacher is then clipped, so it is not more than that to the student.

    Args:
      teacher_scale: σ_T of each environment's game, [B].
      scale: σ of each environment, [B].
      reward_clip: of the student.

    Returns:
      float32 [B].
    """
    return np.minimum(teacher_scale / scale, reward_clip).astype(np.float32)
