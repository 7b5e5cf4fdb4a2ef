"""Gradient steps on one and on two virtual CPUs, which a process has only from its beginning.

`on_two_cpus.py FOLDER` writes FOLDER/found.json, and in it, by what `test_devices.py` calls it,
what was computed; FOLDER/run is a run directory.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import tensorflow as tf
import tiny
from launching import launch
from learner_paths import ACTIONS, BATCH, PATHS, images

from rldarts_tf import SearchSpace, Supernet
from rldarts_tf.agents.loss_scale import LossScale
from rldarts_tf.agents.ppo import PPOProgram
from rldarts_tf.devices import Strategy, make_strategy, splitting
from rldarts_tf.envs.catch import CatchSuite
from rldarts_tf.search.cost_settings import CostSettings
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.teaching.distillation import Distillation
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.teaching.teacher import Teacher

SPACE = SearchSpace(name="shared", normal_ops=("conv_3x3_relu", "tanh"), num_normal=1, num_nodes=1)
STEPS = 2


# --- a run that changes its devices -------------------------------------------------------------


def run(root: Path) -> None:
    """A training on two devices, resumed on one: the run makes the virtual CPUs."""
    settings = [
        *(s for s in (*tiny.COMMON, *tiny.SMALL_SPACE) if "evaluat" not in s),
        "TrainingSettings.evaluation_interval = 0",
        "TrainingSettings.final_evaluation_episodes = 1",
        "PPOSettings.num_envs = 4",
        "PPOSettings.steps_per_update = 4",
        "PPOSettings.minibatch_size = 8",
        "EncoderSettings.baseline = 'minatar_cnn'",
    ]
    for devices, steps in ((2, 16), (1, 32)):
        bindings = [*settings, f"TrainingSettings.devices = {devices}"]
        launch(
            PPOProgram, CatchSuite, root, bindings, "--stage=baseline", f"--num_env_steps={steps}"
        )


# --- the same steps on one device and on two ----------------------------------------------------


def supernet(search: SearchSettings | None = None, **options) -> Supernet:
    return Supernet(SPACE, [4], features=8, search=search, **options)


class PPO:
    """With a cost, a teacher, augmentation, a cell that recomputes; an update is skipped."""

    def __init__(self) -> None:
        method = SearchSettings(cost=CostSettings(weight=0.5))
        path = PATHS["ppo"](
            supernet(method, recompute=True), skip_nonfinite_updates=True, augmentation="shift"
        )
        teacher = Teacher(Path("teacher/checkpoints/ckpt-1"), "", lambda *_: {}, {})
        self.path, self.encoder = path, path.encoder
        self.encoder.set_progress(0.0)
        assert self.encoder.cost_table.fixed > 0
        path.learner._distillation = Distillation(teacher, DistillationSettings(1.0, 0.5))
        path.learner._names = (*path.learner._names, "distillation_actor", "distillation_critic")
        self.trackables = {**path.trackables, "value": path.agent.value_net}
        self._steps = 0

    def step(self) -> dict[str, float]:
        shape, rng = (BATCH // 4, 4), np.random.default_rng(self._steps)
        lesson = {
            "logits": rng.normal(size=(*shape, ACTIONS)).astype(np.float32),
            "value": rng.normal(size=shape).astype(np.float32),
        }
        experience, self._steps = self.path.experience, self._steps + 1
        if self._steps == 2:
            reward = np.full_like(experience.reward, math.nan)
            experience = experience._replace(reward=reward)
        found = self.path.learner.update(experience, lesson)
        return {
            name: float(v) for name, v in found.items() if self._steps != 2 or name == "skipped"
        }


class Replay:
    """An off-policy learner; its priorities are among the losses."""

    def __init__(self, name: str, search: SearchSettings, **changes) -> None:
        self.path = path = PATHS[name](supernet(search), **changes)
        self.encoder, self.trackables = path.encoder, path.trackables
        self._priorities: dict[int, float] = {}
        sample = next(path.learner._samples)
        probability = tf.constant(np.random.default_rng(4).uniform(0.1, 1.0, BATCH))
        sample = sample._replace(info=sample.info._replace(probability=probability))
        client = SimpleNamespace(mutate_priorities=lambda _, found: self._priorities.update(found))
        path.learner.connect(iter([sample] * 2 * STEPS), client)

    def step(self) -> dict[str, float]:
        metrics = {k: v for k, v in self.path.step().items() if k != "walltime"}
        return {**metrics, **{f"priority {key}": p for key, p in self._priorities.items()}}


LEARNERS = {
    "ppo": PPO,
    "rainbow": lambda: Replay(
        "rainbow",
        SearchSettings(relaxation="gumbel_2", alpha_learning_rate=3e-3),
        augmentation="shift",
    ),
    "sac": lambda: Replay("sac", SearchSettings(unit_ops="search", smoothing=0.1)),
}


def compare(make, folder: Path) -> dict[str, float]:
    """The largest differences, with a checkpoint of one device read by two and the other way.

    "passes" are those of an encoder, forward or backward, that two devices shared in a step.
    """
    one, two = make(), make()
    for made, count in ((one, 1), (two, 2)):
        made.path.learner._strategy = make_strategy(count)
    found = {"losses": 0.0, "variables": 0.0, "passes": 0}
    shared = Strategy.run

    def run_and_count(*args, **kwargs):
        found["passes"] += 1
        return shared(*args, **kwargs)

    def hand_over(giver, taker) -> None:
        for variable in taker.encoder.trainable_weights:
            variable.assign(tf.ones_like(variable))
        written = tf.train.Checkpoint(**giver.trackables).write(str(folder / "checkpoint"))
        tf.train.Checkpoint(**taker.trackables).read(written).assert_consumed()

    def step() -> None:
        pair = [one.step(), two.step()]
        assert pair[0].keys() == pair[1].keys() and len(pair[0]) > 0
        values = (abs(pair[0][name] - pair[1][name]) for name in pair[0])
        found["losses"] = max(found["losses"], *values)
        assert math.isfinite(found["losses"])

    hand_over(one, two)
    with mock.patch.object(Strategy, "run", run_and_count):
        for _ in range(STEPS):
            step()
    hand_over(two, one)
    step()
    trained = [tf.train.Checkpoint(**made.trackables) for made in (one, two)]
    names = tf.train.list_variables(trained[0].write(str(folder / "a")))
    other = tf.train.load_checkpoint(trained[1].write(str(folder / "b")))
    of_one = tf.train.load_checkpoint(str(folder / "a"))
    for name, _ in names:
        values = [reader.get_tensor(name) for reader in (of_one, other)]
        if isinstance(values[0], np.ndarray) and values[0].dtype.kind == "f":
            difference = np.abs(values[0] - values[1]).max(initial=0.0)
            found["variables"] = max(found["variables"], float(difference))
    return found


# --- pairs of what changes how a gradient step is computed --------------------------------------

OPTIONS = {
    "recompute": {"recompute": True},
    "mixed_bfloat16": {"dtype": "mixed_bfloat16"},
    "mixed_float16": {"dtype": "mixed_float16"},
    "jit_compile": {},
    "devices": {},
}
PAIRS = [
    pair
    for pair in itertools.combinations(OPTIONS, 2)
    if pair not in (("mixed_bfloat16", "mixed_float16"), ("jit_compile", "devices"))
]


def gradient(weights: list[np.ndarray] | None, *options: str) -> tuple[list, np.ndarray]:
    """(weights, the gradient of a small loss as one vector), by the parts that learners use."""
    encoder = supernet(**{k: v for option in options for k, v in OPTIONS[option].items()})
    batch = tf.constant(images(1, BATCH))
    encoder(batch)
    if weights is not None:
        encoder.set_weights(weights)
    scale = LossScale.needed_by(encoder)

    def step(batch: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = 1e-5 * tf.reduce_mean(tf.sin(encoder(batch)))
            loss = loss if scale is None else scale.scaled(loss)
        found = tape.gradient(loss, encoder.trainable_weights)
        return found if scale is None else scale.unscaled(found)

    compiled = "jit_compile" in options
    traced = tf.function(step, jit_compile=compiled, autograph=False)
    with splitting(make_strategy(2 if "devices" in options else 1)):
        found = traced(batch)
    return encoder.get_weights(), np.concatenate([np.ravel(g) for g in found]).astype(np.float64)


def pairs() -> dict[str, float]:
    """By pair the distance of the gradient from the plain one, as a share of its length."""
    weights, plain = gradient(None)
    return {
        " + ".join(pair): float(
            np.linalg.norm(gradient(weights, *pair)[1] - plain) / np.linalg.norm(plain)
        )
        for pair in PAIRS
    }


def main(folder: Path) -> None:
    run(folder / "run")
    tf.keras.utils.set_random_seed(3)
    found = {name: compare(make, folder) for name, make in LEARNERS.items()}
    (folder / "found.json").write_text(json.dumps({**found, "pairs": pairs()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
