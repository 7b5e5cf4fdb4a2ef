"""A search by another method than the paper's, from the settings to the files of a run."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from spaces import MICRO_2
from trainings import TINY, StopAfter

from rldarts_tf import Supernet
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.contribution_history import read_contributions
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search import SearchSettings
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings


def test_a_search_with_samples_rests_then_moves_alpha_and_records_contributions(tmp_path):
    settings = SearchSettings(
        relaxation="gumbel", alpha_learning_rate=0.1, warm_up=0.5, record_contributions=True
    )
    supernet = Supernet(MICRO_2, [2], features=8, search=settings)
    length = TrainingSettings(num_env_steps=96, pictures=1, evaluation_interval=0, seed=3)
    stage = StageSettings(TINY["ppo"], CatchSuite(CatchSettings()), length)
    training = Training(StagePaths(tmp_path), "search", supernet, PPOProgram, stage)
    training._evaluate = lambda number: {}
    with training:
        training.run()
    steps = int(training.step)
    assert float(supernet.alpha.progress) == 1.0
    metrics = read_metrics(StagePaths(tmp_path).metrics_path)
    # The seed's own sequence, one draw for each update.
    assert int(supernet.alpha.draws) == (3 << 32) + len(metrics["step"])
    history = read_alphas(StagePaths(tmp_path).alphas_path)
    moved = [np.any(z != 0) for z in history.logits["normal"]]
    progress = np.concatenate([[0], history.steps[:-1]]) / 96
    assert history.steps[-1] == steps and True in moved
    assert moved[1:] == [bool(m) for m in np.maximum.accumulate(progress[1:] >= 0.5)]
    shares = {name for name in metrics if name.startswith("contribution_normal_")}
    assert shares == {f"contribution_normal_{op}" for op in MICRO_2.ops("normal")}
    for name in shares:
        assert np.all(np.isfinite(metrics[name])) and np.all(metrics[name] >= 0)
    assert np.all(metrics["contribution_normal_none"] == 0)
    tags = set()
    for file in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in event.summary.value}
    assert any("contributions" in tag for tag in tags)


def test_contributions_of_every_edge_are_logged_and_the_same_after_a_resume(tmp_path):
    settings = SearchSettings(alpha_learning_rate=0.1, record_contributions=True)
    length = TrainingSettings(num_env_steps=96, pictures=0, evaluation_interval=0, seed=3)
    stage = StageSettings(TINY["ppo"], CatchSuite(CatchSettings()), length)
    for name, stops in (("whole", [None]), ("parts", [2, None])):
        for stop in stops:
            tf.keras.utils.set_random_seed(0)
            supernet = Supernet(MICRO_2, [2], features=8, search=settings)
            paths = StagePaths(tmp_path / name)
            with Training(
                paths, "search", supernet, PPOProgram, stage, StopAfter(stop)
            ) as training:
                training._evaluate = lambda number: {}
                training.run()
    whole, parts = (
        read_contributions(StagePaths(tmp_path / name).contributions_path)
        for name in ("whole", "parts")
    )
    alphas = read_alphas(StagePaths(tmp_path / "whole").alphas_path)
    assert whole.steps.tolist() == alphas.steps.tolist() and len(whole) > 4
    assert whole.ops == {"normal": MICRO_2.ops("normal")}
    metrics = read_metrics(StagePaths(tmp_path / "whole").metrics_path)
    for column, op in enumerate(MICRO_2.ops("normal")):
        means = whole.values["normal"][1:, :, column].mean(axis=1)
        np.testing.assert_allclose(metrics[f"contribution_normal_{op}"], means, rtol=1e-5)
    assert parts.steps.tolist() == whole.steps.tolist()
    np.testing.assert_array_equal(parts.values["normal"], whole.values["normal"])
