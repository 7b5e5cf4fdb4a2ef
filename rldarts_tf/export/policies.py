"""The trained policy of a run, from config.gin and a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.agents.registry import ALGORITHMS, Algorithm
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.suite import Suite, suite_names, suite_of
from rldarts_tf.errors import RunError, one_line
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.configs import read_search_space, read_settings
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths, checkpoint_steps, find_checkpoint
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search.settling import settled
from rldarts_tf.settings_fields import defaults
from rldarts_tf.training.settings import EncoderSettings


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy with its weights.

    Attributes:
      image_shape: (H, W, C) of an observation.
      outputs: observations [B, H, W, C] -> {"action": [B, ...], ...}; with PPO also "logits" and
        "value", with Rainbow "q", [B, actions], with SAC "q", [B], of that action.
      suite: the environments that it was trained in.
      step: environment steps of the checkpoint.
      encoder: the encoder.
      trackables: what was restored, by its name in checkpoints.
    """

    image_shape: tuple[int, int, int]
    outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    suite: Suite
    step: int
    encoder: Encoder
    trackables: Mapping[str, Any]

    @property
    def image_dtype(self) -> tf.DType:
        """Of an observation: uint8, bool or float32."""
        return tf.as_dtype(self.suite.observation_spec().dtype)

    def restore(self, checkpoint: Path) -> None:
        """Takes the weights of a checkpoint; see the function."""
        restore(self.trackables, checkpoint)


def restore(objects: Mapping[str, Any], checkpoint: Path) -> None:
    """Restores TensorFlow objects from a checkpoint that may have more.

    Raises:
      RunError: it cannot be read, or lacks some.
    """
    try:
        status = tf.train.Checkpoint(**objects).restore(str(checkpoint))
        status.expect_partial().assert_existing_objects_matched()
    # A damaged index makes TensorFlow raise whatever its bytes happen to ask for.
    except Exception as error:
        line = one_line(error)
        raise RunError(f"checkpoint {str(checkpoint)!r} cannot be restored: {line}") from None


@dataclasses.dataclass(frozen=True)
class TrainedStage:
    """What a run directory says of a trained stage.

    Attributes:
      checkpoint: the path of its checkpoint.
      algorithm: what trained it.
      settings: the algorithm's.
      suite: the environments.
      make_encoder: makes an encoder like the stage's, with new weights.
    """

    checkpoint: Path
    algorithm: Algorithm
    settings: Any
    suite: Suite
    make_encoder: Callable[[], Encoder]

    def load(self, make: Callable[..., tuple[Any, Any]] | None = None) -> Policy:
        """Makes the networks and restores them.

        Args:
          make: (encoder, settings, suite) -> (outputs, objects to restore); None: the algorithm's
            greedy policy. Outputs of a search are those of what it stands for: see
            `search.settled`.

        Raises:
          RunError: the checkpoint does not fit.
        """
        encoder = self.make_encoder()
        make = make or self.algorithm.greedy
        outputs, trackables = make(encoder, self.settings, self.suite)
        (step,) = checkpoint_steps([self.checkpoint])
        shape = tuple(self.suite.observation_spec().shape)
        outputs = settled(encoder)(outputs)
        policy = Policy(shape, outputs, self.suite, step, encoder, trackables)
        policy.restore(self.checkpoint)
        return policy


def load_policy(root: Path, stage: str, step: int | None = None) -> Policy:
    """Makes the networks of a stage and restores them.

    Arguments and errors: see `read_stage`.
    """
    return read_stage(root, stage, step).load()


def read_stage(root: Path, stage: str, step: int | None = None) -> TrainedStage:
    """Reads what a run directory says of a stage.

    Nothing in config.gin is executed: its values are read as data.

    Args:
      root: a run directory.
      stage: one of `TRAINED_STAGES`.
      step: of the checkpoint; None: the newest.

    Raises:
      RunError: the run has no such stage or checkpoint, or they do not fit each other.
      ConfigError: a setting is not valid.
    """
    if stage not in TRAINED_STAGES:
        raise RunError(f"stage: one of {', '.join(TRAINED_STAGES)}, not {stage!r}")
    paths = RunPaths(root)
    config = paths.config_path
    if not config.exists():
        raise RunError(f"{str(root)!r} is no run directory: it has no {config.name}")
    checkpoint = find_checkpoint(paths.stage(stage).checkpoints_dir, step)

    recorded = read_settings(config, stage)

    def settings(make: type, retired: Container[str] = ()) -> Any:
        try:
            values = recorded.get(make.__name__, {})
            values = {name: v for name, v in values.items() if name not in retired}
            # Every field by name: gin, where it is loaded for a training that this one teaches,
            # would give those that an earlier version did not know what it says of that training.
            return make(**{**defaults(make), **values})
        except TypeError as error:
            raise RunError(f"{str(config)!r}: {error}") from None

    encoder_settings = settings(EncoderSettings)
    kind = encoder_settings.kind(stage)
    if kind == "supernet":
        space = read_search_space(config) or encoder_settings.search_space
        encoder_settings = dataclasses.replace(encoder_settings, search_space=space)
    genotype = Genotype.load(paths.genotype_path) if kind == "discrete" else None
    kind_of_suite = _suite(config, recorded)
    suite = kind_of_suite(settings(kind_of_suite.settings_class))
    algorithm = _algorithm(config, recorded)
    numbers = settings(algorithm.settings, algorithm.retired)
    method = _search(config)
    return TrainedStage(
        checkpoint,
        algorithm,
        numbers,
        suite,
        lambda: encoder_settings.make(kind, genotype, method),
    )


def observations(policy: Policy, number: int) -> np.ndarray:
    """Observations of environments under random actions: [number, H, W, C]."""
    num_envs = max(len(policy.suite.games), 2)
    environment = policy.suite.make(num_envs, seed=0)
    rng = np.random.default_rng(0)
    try:
        spec = environment.action_spec()
        frames = [environment.reset().observation]
        while num_envs * len(frames) < number:
            if np.issubdtype(spec.dtype, np.integer):
                actions = rng.integers(0, int(spec.maximum) + 1, num_envs).astype(np.int32)
            else:
                size = (num_envs, *spec.shape)
                actions = rng.uniform(spec.minimum, spec.maximum, size).astype(np.float32)
            frames.append(environment.step(actions).observation)
    finally:
        environment.close()
    return np.concatenate(frames)[:number]


def _search(config: Path) -> SearchSettings:
    """The search method of a run; the cell that it found may follow it."""
    settings = read_settings(config, "search")
    method = settings.get("SearchSettings", {})
    try:
        return SearchSettings(**{**method, "cost": settings.get("CostSettings", {})})
    except TypeError as error:
        raise RunError(f"{str(config)!r}: {error}") from None


def _suite(config: Path, recorded: Container[str]) -> type[Suite]:
    for name in suite_names():
        if name in recorded:
            return suite_of(name)
    raise RunError(f"{str(config)!r} has the settings of no environments")


def _algorithm(config: Path, recorded: Mapping[str, Mapping[str, Any]]) -> Algorithm:
    name = recorded.get("Algorithm", {}).get("name")
    for algorithm in ALGORITHMS.values():
        # A config.gin from before `Algorithm.name` has the settings of one.
        if name == algorithm.name or (name is None and algorithm.settings.__name__ in recorded):
            return algorithm
    if name is None:
        raise RunError(f"{str(config)!r} has the settings of no algorithm")
    raise RunError(f"{str(config)!r}: there is no algorithm {name!r}")
