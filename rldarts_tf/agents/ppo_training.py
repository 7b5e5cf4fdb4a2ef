"""The PPO training program: one encoder, one game, one stage directory.

The same program trains supernet, discrete cell and IMPALA-CNN; they differ in the encoder alone.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rldarts_tf.agents import collect, ppo
from rldarts_tf.cost import count_cost
from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.envs import games
from rldarts_tf.envs.procgen import ProcgenEnvironment
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.directory import StageDirectory
from rldarts_tf.runs.metrics import MetricsWriter
from rldarts_tf.runs.progress import Progress
from rldarts_tf.runs.search_log import AlphaLog, GenotypeLog
from rldarts_tf.settings import ProcgenSettings, TrainingSettings

RETURN_WINDOW = 100
"""Training returns are means over so many episodes, the latest to end."""

_COLUMNS = (
    "return_mean",
    "return_std",
    "episodes",
    "length_mean",
    *ppo.LOSSES,
    "steps_per_second",
    "eval_train_return_mean",
    "eval_train_return_std",
    "eval_test_return_mean",
    "eval_test_return_std",
)


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """All settings of a stage but those of its encoder."""

    ppo: ppo.PPOSettings
    procgen: ProcgenSettings
    training: TrainingSettings


class SearchRecorder:
    """Writes what a search is watched by: op weights over time, and the cells they stand for.

    Args:
      stage_dir: where the logs go.
      supernet: whose α is recorded.
      resume_step: the step of the restored checkpoint, or None.
    """

    def __init__(
        self, stage_dir: StageDirectory, supernet: Supernet, resume_step: int | None
    ) -> None:
        self._supernet = supernet
        space = supernet.space
        self._alphas = AlphaLog(
            stage_dir.alphas_path,
            {cell_type: space.ops(cell_type) for cell_type in space.cell_types},
            space.num_nodes,
            resume_step,
        )
        self._genotypes = GenotypeLog(stage_dir.genotypes_path, resume_step)

    @staticmethod
    def columns(supernet: Supernet) -> tuple[str, ...]:
        """The metrics that `record` returns."""
        return (*(f"alpha_entropy_{t}" for t in supernet.space.cell_types), "distinct_genotypes")

    def record(self, step: int) -> dict[str, float]:
        """Logs α and the cell of this step; returns metrics."""
        self._alphas.record(step, self._supernet.alpha.numpy_op_weights())
        self._genotypes.record(step, self._supernet.discretize().to_dict())
        entropy = {
            f"alpha_entropy_{cell_type}": float(value)
            for cell_type, value in self._supernet.alpha.entropy().items()
        }
        return {**entropy, "distinct_genotypes": len(self._genotypes)}

    def flush(self) -> None:
        """Writes what is held in memory; to be called before a checkpoint."""
        self._alphas.flush()


class PPOTraining:
    """Trains one encoder; continues from the last checkpoint of its stage directory.

    Args:
      stage_dir: where everything goes.
      label: what the progress display calls the stage.
      encoder: the encoder, not yet built.
      settings: all settings.
      stopping: asked after each update; True ends the training early, with a checkpoint.
    """

    def __init__(
        self,
        stage_dir: StageDirectory,
        label: str,
        encoder: Encoder,
        settings: StageSettings,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stage_dir = stage_dir
        self._label = label
        self._encoder = encoder
        self._settings = settings
        self._stopping = stopping
        seed = settings.training.seed
        tf.keras.utils.set_random_seed(seed)
        environment = self._make_environment(settings.ppo.num_envs, seed)
        self._agent = ppo.make_agent(
            settings.ppo,
            tensor_spec.from_spec(environment.time_step_spec()),
            tensor_spec.from_spec(environment.action_spec()),
            encoder,
        )
        self._environment = environment
        generator = tf.random.Generator.from_seed(seed, alg="philox")
        self._act = ppo.Actor(self._agent, generator)
        self._learner = ppo.Learner(self._agent, settings.ppo, generator)
        self._collector = collect.Collector(
            environment,
            self._act,
            settings.ppo.steps_per_update,
            RewardNormalizer(
                settings.ppo.num_envs, settings.ppo.discount, settings.ppo.reward_clip
            ),
        )
        self._step = 0
        self._episodes = 0
        self._seconds = 0.0
        self._returns: collections.deque[float] = collections.deque(maxlen=RETURN_WINDOW)
        self._lengths: collections.deque[int] = collections.deque(maxlen=RETURN_WINDOW)
        self._checkpoints = Checkpoints(
            stage_dir,
            {
                "actor": self._agent.actor_net,
                "value": self._agent.value_net,
                "optimizer": self._agent.optimizer,
                "train_step": self._agent.train_step_counter,
                "generator": generator,
                "program": ArrayState(self._state, self._set_state),
            },
        )
        self._restored = self._checkpoints.restore()

    @property
    def step(self) -> int:
        """Environment steps made so far."""
        return self._step

    def run(self) -> dict[str, Any]:
        """Trains to the end; returns the stage's entry in summary.json.

        Raises:
          RunError: the loss or the policy's output is not finite, or a file cannot be written.
        """
        training = self._settings.training
        resume_step = self._step if self._restored else None
        search = isinstance(self._encoder, Supernet)
        recorder = SearchRecorder(self._stage_dir, self._encoder, resume_step) if search else None
        columns = (*_COLUMNS, *(SearchRecorder.columns(self._encoder) if search else ()))
        cost = count_cost(self._encoder, self._environment.observation_spec().shape)
        evaluated: dict[str, float] = {}
        interrupted = False
        saved_at = time.monotonic()
        with (
            MetricsWriter(self._stage_dir, columns, resume_step) as metrics,
            Progress(training.num_env_steps, self._label, start_step=self._step) as progress,
        ):
            if recorder is not None and not self._restored:
                recorder.record(0)
            while self._step < training.num_env_steps and not interrupted:
                started = time.monotonic()
                row: dict[str, float] = self._update()
                if recorder is not None:
                    row |= recorder.record(self._step)
                if self._evaluation_is_due():
                    row |= self._evaluate(training.evaluation_episodes)
                elapsed = time.monotonic() - started
                self._seconds += elapsed
                row["steps_per_second"] = self._settings.ppo.batch_size / elapsed
                metrics.write(self._step, row)
                progress.update(self._step, **_shown(row))
                interrupted = self._stopping() and self._step < training.num_env_steps
                due = time.monotonic() - saved_at >= 60 * training.checkpoint_minutes
                if due or interrupted or self._step >= training.num_env_steps:
                    if recorder is not None:
                        recorder.flush()
                    self._checkpoints.save(self._step)
                    saved_at = time.monotonic()
        if not interrupted:
            evaluated = self._evaluate(training.final_evaluation_episodes)
        return self._summary(evaluated, cost, interrupted)

    def close(self) -> None:
        """Ends the simulator."""
        self._environment.close()

    def _update(self) -> dict[str, float]:
        """Collects, learns, and returns the row of metrics."""
        experience = self._collector.collect()
        finished = self._environment.episodes.take()
        self._returns.extend(finished.returns)
        self._lengths.extend(finished.lengths)
        self._episodes += len(finished.returns)
        losses = {name: float(value) for name, value in self._learner.update(experience).items()}
        if not math.isfinite(losses["loss"]):
            raise RunError(
                f"the loss is {losses['loss']} at step {self._step}: training has diverged; "
                "lower PPOSettings.learning_rate (the last checkpoint is intact)"
            )
        self._step += self._settings.ppo.batch_size
        return {
            "return_mean": float(np.mean(self._returns)) if self._returns else math.nan,
            "return_std": float(np.std(self._returns)) if self._returns else math.nan,
            "length_mean": float(np.mean(self._lengths)) if self._lengths else math.nan,
            "episodes": self._episodes,
            **losses,
        }

    def _evaluation_is_due(self) -> bool:
        interval = self._settings.training.evaluation_interval
        if not interval or self._step >= self._settings.training.num_env_steps:
            return False
        return self._step // interval > (self._step - self._settings.ppo.batch_size) // interval

    def _evaluate(self, num_episodes: int) -> dict[str, float]:
        """Plays fresh environments on training levels and on unseen ones.

        With all levels in training (num_levels = 0) the two are the same distribution, and only
        the second is played.
        """
        num_envs = min(num_episodes, self._settings.ppo.num_envs)
        levels = {"test": {"num_levels": 0, "start_level": 0}}
        if self._settings.procgen.num_levels:
            levels["train"] = {}
        results: dict[str, float] = {}
        for name, overrides in levels.items():
            # The same episodes' seeds every time: what changes between evaluations is the policy.
            seed = (self._settings.training.seed + 1) % 2**31
            environment = self._make_environment(num_envs, seed, **overrides)
            try:
                returns = collect.evaluate(environment, self._act, num_episodes).returns
            finally:
                environment.close()
            results[f"eval_{name}_return_mean"] = float(np.mean(returns))
            results[f"eval_{name}_return_std"] = float(np.std(returns))
        return results

    def _make_environment(self, num_envs: int, seed: int, **overrides: int) -> ProcgenEnvironment:
        options = {**dataclasses.asdict(self._settings.procgen), **overrides}
        return ProcgenEnvironment(num_envs=num_envs, seed=seed, **options)

    def _summary(
        self, evaluated: Mapping[str, float], cost: Any, interrupted: bool
    ) -> dict[str, Any]:
        procgen = self._settings.procgen
        train_return = float(np.mean(self._returns)) if self._returns else math.nan
        normalized = {
            f"{name}_normalized": games.normalized_return(
                value, procgen.game, procgen.distribution_mode
            )
            for name, value in [("return_mean", train_return), *evaluated.items()]
            if name.endswith("return_mean")
        }
        return {
            "exit_state": "interrupted" if interrupted else "finished",
            "encoder": type(self._encoder).__name__,
            "game": procgen.game,
            "distribution_mode": procgen.distribution_mode,
            "seed": self._settings.training.seed,
            "env_steps": self._step,
            "episodes": self._episodes,
            "return_mean": train_return,
            **evaluated,
            **normalized,
            "wall_time_s": round(self._seconds, 1),
            "env_steps_per_second": round(self._step / self._seconds, 1) if self._seconds else None,
            **dataclasses.asdict(cost),
        }

    def _state(self) -> dict[str, np.ndarray]:
        return {
            **self._collector.state(),
            "step": np.int64(self._step),
            "episodes": np.int64(self._episodes),
            "seconds": np.float64(self._seconds),
            "returns": np.array(self._returns, np.float64),
            "lengths": np.array(self._lengths, np.int64),
        }

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._collector.set_state(state)
        self._step = int(state["step"])
        self._episodes = int(state["episodes"])
        self._seconds = float(state["seconds"])
        self._returns.extend(state["returns"].tolist())
        self._lengths.extend(state["lengths"].tolist())


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    names = {"return_mean": "return", "eval_test_return_mean": "eval", "entropy": "entropy"}
    return {shown: row[name] for name, shown in names.items() if name in row}
