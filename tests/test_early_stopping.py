"""A search that stops early: when, what it says and keeps, and that measuring changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tf_agents")

from trainings import TINY, registers

from rldarts_tf.agents.algorithm_settings import AlgorithmSettings
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.encoders import Supernet
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.errors import ConfigError
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import SearchSpace
from rldarts_tf.training.early_stopping import EigenvalueStopping, ParameterFreeStopping
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import AgentProgram, StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

SPACE = SearchSpace("stopped", ("relu",), num_nodes=1, top_k=1)
SUITE = CatchSuite(CatchSettings(4, 3))
UPDATES = 5

registered = registers(SPACE)


class OwnSettings(AlgorithmSettings):
    """Of an algorithm whose program has no held-out experience."""

    gradient_steps = minibatch_size = 1


def search(folder, **settings):
    """Searches for some updates, with a measurement after each; (variables, summary, metrics)."""
    method = SearchSettings(stop_measurements=UPDATES, stop_after=0.0, **settings)
    encoder = EncoderSettings(SPACE.name, [2], features=4).make("supernet", search=method)
    training = TrainingSettings(
        num_env_steps=24 * UPDATES, pictures=0, evaluation_interval=0, final_evaluation_episodes=1
    )
    stage_settings = StageSettings(TINY["ppo"], SUITE, training)
    with Training(StagePaths(folder), "search", encoder, PPOProgram, stage_settings) as session:
        summary = session.run()
    return [v.numpy() for v in encoder.variables], summary, read_metrics(folder / "metrics.csv")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search whose rule lets it go on."""
    return search(tmp_path_factory.mktemp("whole"), stop_by="parameter_free", stop_parameter_free=1)


def test_a_rule_that_is_not_met_ends_nothing(whole):
    _, summary, metrics = whole
    assert summary["env_steps"] >= 24 * UPDATES and "stopped_early" not in summary
    assert set(metrics["parameter_free_ops"][:-1]) == {1.0}


def test_a_search_that_is_stopped_says_why_and_keeps_the_cell_of_before(tmp_path, capsys):
    method = {"stop_by": "parameter_free", "stop_parameter_free": 0}
    _, summary, metrics = search(tmp_path, **method)
    steps = metrics["step"].tolist()
    assert summary["exit_state"] == "finished" and summary["env_steps"] == steps[-1]
    assert len(steps) == 2 and summary["kept_step"] == steps[0]
    assert "is 1, more than 0" in summary["stopped_early"]
    assert f"the cell of step {steps[0]} is kept" in capsys.readouterr().err
    # Started again, it has nothing left to do.
    _, again, metrics = search(tmp_path, **method)
    assert metrics["step"].tolist() == steps
    assert {name: again[name] for name in ("env_steps", "kept_step", "stopped_early")} == {
        name: summary[name] for name in ("env_steps", "kept_step", "stopped_early")
    }


def test_a_cap_hides_no_op_from_the_rule_that_counts_them():
    space = SearchSpace("capped", ("conv_3x3", "relu"), num_nodes=2, top_k=1)
    method = SearchSettings(
        stop_by="parameter_free", stop_measurements=5, stop_after=0.0, max_parameter_free=0
    )
    supernet = Supernet(space, [2], features=2, search=method)
    for node in supernet.alpha.logits["normal"]:
        node.assign(np.broadcast_to([op == "relu" for op in space.ops("normal")], node.shape) * 1.0)
    assert ParameterFreeStopping(supernet, 10).after_update(0, 2) == {"parameter_free_ops": 2.0}


@pytest.mark.parametrize(
    ("algorithm", "method", "trained", "refusal"),
    [
        ("own", {}, True, "held-out experience, which Own does not have"),
        (
            "ppo",
            {"relaxation": "dirichlet", "alpha_learning_rate": 1e-3},
            True,
            "second derivative",
        ),
        ("ppo", {}, False, "an α that is trained"),
    ],
)
def test_an_eigenvalue_is_refused_before_the_search_where_there_is_none(
    algorithm, method, trained, refusal
):
    encoder = EncoderSettings(SPACE.name, [2], train_alpha=trained)
    supernet = encoder.make("supernet", search=SearchSettings(stop_by="eigenvalue", **method))
    settings = StageSettings({**TINY, "own": OwnSettings()}[algorithm], SUITE, TrainingSettings())
    with pytest.raises(ConfigError, match=f"stop_by = 'eigenvalue' .*{refusal}"):
        settings.check_gradient_steps("search", supernet)


def test_measuring_the_eigenvalue_changes_nothing_of_the_search(whole, tmp_path):
    variables, _, metrics = search(tmp_path, stop_by="eigenvalue", stop_factor=1e9)
    for found, expected in zip(variables, whole[0]):
        np.testing.assert_array_equal(found, expected)
    measured = metrics["alpha_eigenvalue"]
    assert np.isfinite(measured[:-1]).all() and np.any(measured[:-1] != 0)


def test_the_eigenvalue_has_what_the_optimizer_of_alpha_adds():
    """The loss is a² + 2 b², of two of α's numbers: λ = 4 and the decay, less what R bends."""
    eigenvalues = {}
    for name, method in {
        "joint": {},
        "decay": {"alpha_learning_rate": 0.1, "alpha_weight_decay": 0.25},
        # R = -10 mean (σ(z) - ½)², whose second derivative at z = β α = 0 is -10 β² / (8 n).
        "penalty": {
            "alpha_learning_rate": 0.1,
            "alpha_weight_decay": 0.25,
            "relaxation": "sigmoid",
        },
    }.items():
        settings = SearchSettings(stop_by="eigenvalue", stop_measurements=5, **method)
        supernet = Supernet(SPACE, [2], features=2, inverse_temperature=2.0, search=settings)
        (alpha,) = supernet.alpha.logits["normal"]

        def losses(experience, alpha=alpha):
            return (alpha[0, 0] ** 2 + 2 * alpha[0, 1] ** 2)[None]

        held_out = SimpleNamespace(losses=losses, collect=lambda groups: ())
        program = SimpleNamespace(held_out=lambda seed, held_out=held_out: held_out)
        eigenvalues[name] = EigenvalueStopping(supernet, program, 10, seed=0)._measure()
    n = len(SPACE.ops("normal"))
    assert eigenvalues["joint"] == pytest.approx(4, rel=1e-5)
    assert eigenvalues["decay"] == pytest.approx(4.25, rel=1e-5)
    assert eigenvalues["penalty"] == pytest.approx(4.25 - 10 * 4 / (8 * n), rel=1e-5)


def test_an_algorithm_without_held_out_experience_is_refused():
    class Other(PPOProgram):
        held_out = AgentProgram.held_out

    with pytest.raises(ConfigError, match="Other has no loss on held-out experience"):
        Other.held_out(object.__new__(Other), 0)
