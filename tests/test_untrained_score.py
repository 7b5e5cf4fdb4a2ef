"""Jacobian covariance by another way, and the study of whether it tells good cells."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("rich")
pytest.importorskip("scipy")
pytest.importorskip("tf_agents")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, no package

import untrained_score
from trained_runs import trained_stage

from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.baselines import ImpalaCNN
from rldarts_tf.cost import count_cost
from rldarts_tf.encoders import DiscreteNetwork
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.genotype import Genotype
from rldarts_tf.search.signals.jacobian import jacobian_covariance
from rldarts_tf.studies.loading import load_study
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.training.settings import EncoderSettings

PPO = PPOSettings(num_envs=4, steps_per_update=8, minibatch_size=16, num_epochs=1)
SMOKE = ["studies/search_pays.gin", "studies/sizes/smoke.gin"]


@pytest.fixture(scope="module")
def encoder():
    tf.keras.utils.set_random_seed(0)
    network = ImpalaCNN([4], features=8)
    network.build((None, 12, 12, 2))
    return network


def images(number):
    return np.random.default_rng(1).integers(0, 256, (number, 12, 12, 2)).astype(np.uint8)


def test_the_score_is_that_of_the_gradients_of_one_image_after_the_other(encoder):
    rows = []
    for image in images(5):
        x = tf.Variable(image[None] / np.float32(255))
        with tf.GradientTape() as tape:
            f = tf.reduce_sum(encoder(x))
        row = tape.gradient(f, x).numpy().ravel().astype(float)
        rows.append((row - row.mean()) / np.linalg.norm(row - row.mean()))
    sigma = np.linalg.svd(np.array(rows), compute_uv=False) ** 2 + 1e-5
    expected = -np.sum(np.log(sigma) + 1 / sigma)
    assert expected < -5  # Of uncorrelated rows it is -B.
    assert jacobian_covariance(encoder, images(5)) == pytest.approx(expected, rel=1e-3)


def test_images_that_are_alike_are_not_told_apart(encoder):
    assert jacobian_covariance(encoder, np.repeat(images(1), 2, axis=0)) < -9e4


def test_a_network_that_does_not_look_has_the_least_score(encoder):
    blind = ImpalaCNN([4], features=8)
    blind.build((None, 12, 12, 2))
    for weight in blind.trainable_weights:
        weight.assign(tf.zeros_like(weight))
    assert jacobian_covariance(blind, images(3)) == -np.inf


def test_cells_of_a_study_are_drawn_again_scored_and_ranked(tmp_path, capsys):
    policy = tmp_path / "policy"
    suite = CatchSuite(CatchSettings())
    with trained_stage(policy, "baseline", PPO, EncoderSettings(depths=[4], features=8), suite):
        pass
    study = load_study(SMOKE, ["StudySettings.random_cells = 5"])
    maker = TrialMaker(study, tmp_path)
    names = [Path(maker.random_cell(number)) for number in range(5)]
    gin.clear_config()
    untrained_score.gin_files.load(study.gin_files, study.bindings)
    settings = untrained_score.gin_files.resolve(EncoderSettings)["evaluate"][0]
    shape = suite.observation_spec().shape
    trainings = tmp_path / "trainings.csv"
    with trainings.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["arm", "architecture", "final_return", "multiply_adds"])
        table.writerow(["baseline", "impala_cnn", 3.0, 7])
        for number, name in enumerate(names):
            network = settings.make("discrete", Genotype.load(tmp_path / name))
            assert isinstance(network, DiscreteNetwork)
            size = count_cost(network, shape).multiply_adds
            for seed in (-0.5, 0.5):
                table.writerow(["random", name.stem, number + seed, size])
    output = tmp_path / "score.json"
    arguments = [
        f"--trainings={trainings}", f"--policy={policy}", "--batches=1", "--seeds=1",
        *(f"--gin_file={file}" for file in SMOKE),
    ]  # fmt: skip
    untrained_score.main([*arguments, f"--output={output}"])
    assert "Rank correlation" in capsys.readouterr().out
    results = json.loads(output.read_text("utf-8"))["results"]
    cells = results["cells"]
    assert [cells[f"random-0{i}"]["final_return"] for i in range(5)] == [0, 1, 2, 3, 4]
    assert all(cell["score"] <= -16 for cell in cells.values())
    assert -1 <= results["correlations"]["Jacobian covariance"]["value"] <= 1

    other = trainings.read_text("utf-8").replace(f",{size}", f",{size + 1}")
    trainings.write_text(other, "utf-8")
    with pytest.raises(untrained_score.ConfigError, match="multiply-adds"):
        untrained_score.main(arguments)
