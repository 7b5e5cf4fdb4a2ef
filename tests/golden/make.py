"""Makes the golden files: what this version writes, for later versions to read.

    python tests/golden/make.py [FOLDER]

Run by hand, once per version whose files shall stay readable; `tests/test_golden.py` reads them. Do
not make them anew because that test fails: people have files like these. Give another folder, and
add it to the test, when a format is changed on purpose.

    ppo/       all stages of Classic: config.gin, summary.json, genotype.json (version 2) and per
               stage metrics.csv and a checkpoint; of the search alphas.npz (format 2) and
               genotypes.jsonl
    rainbow/   a search of Micro, sac/ one of micro_pisac; without what replay held
    models/    a supernet and a discrete network as .keras files
    examples/  per folder above: images, and what the networks said of them (`<stage>/<output>`)

`search_log_1/` is older: alphas.npz of format 1, genotypes of version 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import rldarts_tf.tensorflow_environment  # for its effect, before TensorFlow loads

# isort: split
import numpy as np
import tensorflow as tf

import rldarts_tf
from rldarts_tf.export import policies

ROOT = Path(__file__).resolve().parents[2]
NUM_IMAGES = 3

COMMON = (
    *(f"{stage}/EncoderSettings.depths = [2, 2, 2]" for stage in ("search", "evaluate")),
    "EncoderSettings.features = 8",
    "TrainingSettings.checkpoint_minutes = 60",  # one checkpoint, at the end
    "TrainingSettings.evaluation_interval = 64",
    "TrainingSettings.evaluation_episodes = 1",
    "TrainingSettings.final_evaluation_episodes = 2",
    "TrainingSettings.pictures = 0",
)
PROCGEN = ("--gin_file=hardware/cpu.gin", "--env_name=bossfight", "--num_env_steps=192")
RUNS = {
    # name: (flags, gin bindings)
    "ppo": (
        ("launchers/ppo_procgen.py", "--gin_file=classic.gin", *PROCGEN),
        (
            "PPOSettings.num_envs = 2",
            "PPOSettings.steps_per_update = 16",
            *(f"{scope}PPOSettings.minibatch_size = 16" for scope in ("", "search/", "evaluate/")),
            # α moves far enough for several cells in so few steps.
            "search/PPOSettings.learning_rate = 0.002",
        ),
    ),
    "rainbow": (
        ("launchers/rainbow_procgen.py", "--gin_file=micro.gin", "--stage=search", *PROCGEN),
        (
            "RainbowSettings.num_envs = 2",
            "RainbowSettings.steps_per_update = 16",
            "RainbowSettings.batch_size = 8",
            "RainbowSettings.samples_per_insert = 1.0",
            "RainbowSettings.min_replay_size = 32",
            "RainbowSettings.hidden_size = 8",
            "RainbowSettings.num_atoms = 5",
            "RainbowSettings.learning_rate = 0.002",
        ),
    ),
    "sac": (
        (
            "launchers/sac_dm_control.py",
            "--gin_file=sac.gin",
            "--gin_file=hardware/cpu_sac.gin",
            "--domain_name=pendulum",
            "--task_name=swingup",
            "--stage=search",
            "--num_env_steps=80",
        ),
        (
            "search/EncoderSettings.depths = [4]",
            "SACSettings.num_envs = 2",
            "SACSettings.steps_per_update = 10",
            "SACSettings.min_replay_size = 20",
            "SACSettings.hidden_sizes = (8,)",
            *(
                f"{scope}SACSettings.{setting}"
                for scope in ("", "search/")
                for setting in ("batch_size = 4", "samples_per_insert = 1.0")
            ),
            "DMControlSettings.image_size = 16",
            "DMControlSettings.action_repeat = 50",
        ),
    ),
}


def make_run(name: str, folder: Path) -> None:
    """A tiny run of a launcher, without what only people look at and without replay."""
    flags, bindings = RUNS[name]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / name
        command = [sys.executable, *flags, f"--root_dir={root}"]
        command += [f"--gin_bindings={binding}" for binding in (*COMMON, *bindings)]
        subprocess.run(command, cwd=ROOT, check=True)
        examples = {}
        for stage in ("search", "evaluate"):
            if not (root / stage).exists():
                continue
            policy = policies.load_policy(root, stage)
            if not examples:
                examples["images"] = policies.observations(policy, NUM_IMAGES)
            images = tf.constant(examples["images"])
            examples[f"{stage}/features"] = policy.encoder(images).numpy()
            for output, value in policy.outputs(images).items():
                examples[f"{stage}/{output}"] = value.numpy()
        for pattern in ("*/tensorboard", "*/checkpoints/replay", "cells"):
            for leftover in root.glob(pattern):
                shutil.rmtree(leftover)
        for leftover in (root / ".lock", *root.rglob("*.png")):
            leftover.unlink()
        shutil.copytree(root, folder / name)
    save_examples(folder, name, examples)


def make_models(folder: Path) -> None:
    """A supernet with random weights, and the discrete network that inherits them."""
    (folder / "models").mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, 16, 16, 3)).astype(np.uint8)
    supernet = rldarts_tf.Supernet("classic", [2], inverse_temperature=4.5, features=8)
    supernet(images)
    for weight in supernet.weights:
        if weight is not supernet.alpha.inverse_temperature:
            scale = 1.0 if "alpha" in weight.name else 0.15
            weight.assign(rng.normal(scale=scale, size=weight.shape))
    networks = {"supernet": supernet, "discrete": supernet.extract()}
    examples = {"images": images}
    for name, network in networks.items():
        examples[f"{name}/features"] = network(images).numpy()
        network.save(folder / "models" / f"{name}.keras")
    for cell_type, nodes in supernet.alpha.logits.items():
        examples[f"supernet/alpha/{cell_type}"] = np.concatenate([n.numpy() for n in nodes])
    networks["discrete"].genotype.save(folder / "models" / "genotype.json")
    save_examples(folder, "models", examples)


def save_examples(folder: Path, name: str, examples: dict[str, np.ndarray]) -> None:
    """Writes examples/<name>.npz."""
    (folder / "examples").mkdir(exist_ok=True)
    np.savez_compressed(folder / "examples" / f"{name}.npz", **examples)


def main() -> None:
    """Makes everything in a folder, where none of it may stand yet."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*RUNS, "models", "examples"):
        if (folder / name).exists():
            sys.exit(f"error: {folder / name} is there already")
    make_models(folder)
    for name in RUNS:
        make_run(name, folder)


if __name__ == "__main__":
    main()
