"""A search in a space of layers that knows the cost, from the launcher to the exported policy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tf_agents")

from launching import SMALL_PPO, launch

from rldarts_tf import commands
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.cost import count_cost
from rldarts_tf.envs.catch import CatchSuite
from rldarts_tf.errors import ConfigError
from rldarts_tf.export import policies
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths

OPS = ("conv_3x3_norm_relu", "inv_res_3x3_e3", "skip_connect")
SPACE = [
    "search/LayerSpace.name = 'run_of_layers'",
    f"search/LayerSpace.layer_ops = {list(OPS)}",
    "search/LayerSpace.num_layers = 2",
    "search/EncoderSettings.search_space = 'run_of_layers'",
]
SETTINGS = [
    "Algorithm.name = 'ppo'",
    "CatchSettings.rows = 6",
    "EncoderSettings.features = 8",
    *(f"{stage}/EncoderSettings.depths = [2, 3]" for stage in ("search", "evaluate")),
    "search/SearchSettings.relaxation = 'gumbel'",
    "search/SearchSettings.alpha_learning_rate = 0.1",
    "search/CostSettings.target_multiply_adds = 1000",
    "search/CostSettings.adaptation = 2.0",
    "TrainingSettings.num_env_steps = 96",
    *SMALL_PPO,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory: searched, discretized, evaluated."""
    root = tmp_path_factory.mktemp("layers") / "run"
    launch(PPOProgram, CatchSuite, root, [*SPACE, *SETTINGS], "--stage=all", "--seed=3")
    return RunPaths(root)


def test_a_run_records_the_cost_and_the_weight_that_follows_the_target(run):
    metrics = read_metrics(run.stage("search").metrics_path)
    supernet = policies.load_policy(run.root, "search").encoder
    assert metrics["cost"][-1] == pytest.approx(supernet.expected_cost(), rel=1e-6)
    assert metrics["found_cost"][-1] == supernet.found_cost()
    assert metrics["cost"][-1] < metrics["cost"][0]
    # From 0.1 the weight grows where what is found after an update is above the target of 1000.
    moved = np.diff([0.1, *metrics["cost_weight"]])
    np.testing.assert_array_equal(np.sign(moved), np.sign(metrics["found_cost"] - 1000))
    assert set(np.sign(moved)) == {-1, 1}
    assert metrics["cost_weight"][-1] == pytest.approx(float(supernet.cost_weight))
    history = read_alphas(run.stage("search").alphas_path)
    assert history.ops == {"chain": OPS} and history.num_edges == 2
    assert any(name.startswith("op_weight_chain_") for name in metrics)


def test_the_loss_of_ppo_has_the_cost(run):
    metrics = read_metrics(run.stage("search").metrics_path)
    table = policies.load_policy(run.root, "search").encoder.cost_table
    of_agent = metrics["policy_loss"] + metrics["value_loss"]
    added = (metrics["loss"] - of_agent + PPOSettings().entropy_coefficient * metrics["entropy"])[0]
    # λ is 0.1 in the first update, and α moves from uniform to what the first row has.
    uniform = table.fixed + table.ops["chain"].mean(axis=1).sum()
    assert 0.1 * metrics["cost"][0] < added * table.most < 0.1 * uniform


def test_the_chain_that_was_found_is_trained_and_exported(run, tmp_path, capsys):
    genotype = Genotype.load(run.genotype_path)
    assert [len(node) for node in genotype.cells["chain"]] == [1, 1]
    policy = policies.load_policy(run.root, "evaluate")
    assert policy.encoder.genotype == genotype
    cost = count_cost(policy.encoder, policy.image_shape)
    table = policies.load_policy(run.root, "search").encoder.cost_table
    assert table.fixed <= cost.multiply_adds <= table.most
    output = tmp_path / "policy"
    assert commands.main(["export", str(run.root), f"--output={output}"]) == 0
    assert (run.cells_dir / "chain.svg").exists()
    capsys.readouterr()


def test_the_chain_is_read_off_anew_by_p_and_by_return(run, capsys):
    again = run.root.parent / "again.json"
    assert commands.main(["discretize", str(run.root), f"--output={again}"]) == 0
    assert Genotype.load(again) == Genotype.load(run.genotype_path)
    asked = ["--by=return", "--episodes=2", "--max_skips=1", f"--output={again}"]
    assert commands.main(["discretize", str(run.root), *asked]) == 0
    ops = [op for node in Genotype.load(again).cells["chain"] for _, op in node]
    assert len(ops) == 2 and ops.count("skip_connect") <= 1
    capsys.readouterr()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["search/SearchSpace.name = 'x'", "search/SearchSpace.normal_ops = ['relu']"], "both"),
        (["evaluate/CostSettings.weight = 1"], "only the search has a search method"),
        (["search/CostSettings.measure = 'latency'"], "latency_table must be given"),
        (["search/EncoderSettings.search_space = 'a2d'"], "LayerSpace.name: 'run_of_layers'"),
        (["search/EncoderSettings.depths = [2, 2, 2]"], "depths must be of at most 2 stages"),
    ],
)
def test_settings_that_do_not_fit_end_at_once(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        launch(PPOProgram, CatchSuite, tmp_path / "run", [*SPACE, *SETTINGS, *settings])
