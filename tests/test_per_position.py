"""Cells whose α differs by their position in a block, from the space to the exported policy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rldarts_tf import CLASSIC, DiscreteNetwork, SearchSpace, Supernet, count_cost
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.search import contributions

SPACE = SearchSpace(
    "by_position", ("conv_3x3", "relu"), ("max_pool_3x3",), 2, 1, 2, 1, per_position=True
)
TYPES = ("reduction1", "normal1", "normal2")


def test_each_cell_of_a_block_has_a_type_of_its_own_that_the_blocks_share():
    assert SPACE.cell_types == TYPES
    cells = [place for place in SPACE.places([4, 6], SPACE) if place.cell_type]
    assert [place.cell_type for place in cells] == [*TYPES, *TYPES]
    assert [place.stride for place in cells] == [2, 1, 1, 2, 1, 1]
    assert SPACE.ops("normal2") == ("conv_3x3", "relu", "skip_connect", "none")
    assert SPACE.ops("reduction1") == ("max_pool_3x3", "skip_connect", "none")
    shared = dataclasses.replace(SPACE, name="shared", per_position=False)
    assert SPACE.size() == shared.size("reduction") * shared.size("normal") ** 2


def test_the_network_around_the_cells_is_that_of_one_alpha():
    by_position = dataclasses.replace(CLASSIC, name="by", num_normal=2, per_position=True)
    one = dataclasses.replace(CLASSIC, name="one", num_normal=2)
    networks = [Supernet(space, [2, 3], features=4) for space in (by_position, one)]
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    for network in networks:
        network(images)
    theta = [
        [w for w in network.trainable_weights if "alpha" not in w.name] for network in networks
    ]
    for target, source in zip(*theta):
        target.assign(source)
    # Where the α of all positions are alike, so is what is computed.
    np.testing.assert_array_equal(*(network(images).numpy() for network in networks))
    networks[0].alpha.logits["normal2"][0].assign_add([[1.0, 0, 0, 0, 0, 0]])
    assert np.abs(networks[0](images) - networks[1](images)).max() > 0


def test_alpha_of_a_position_is_trained_and_discretized_by_itself():
    supernet = Supernet(SPACE, [2], features=4)
    supernet.build((None, 8, 8, 3))
    first, second = (supernet.alpha.logits[t] for t in TYPES[1:])
    for node in first:
        node.assign(np.broadcast_to([1.0, 0, 0, 0], node.shape))
    for node in second:
        node.assign(np.broadcast_to([0, 1.0, 0, 0], node.shape))
    genotype = supernet.discretize()
    ops = {t: {op for node in cell for _, op in node} for t, cell in genotype.cells.items()}
    assert ops["normal1"] == {"conv_3x3"} and ops["normal2"] == {"relu"}
    assert Genotype.from_json(genotype.to_json()) == genotype
    images = tf.zeros([1, 8, 8, 3])
    assert set(contributions(supernet, images)) == set(TYPES)
    network = supernet.extract(genotype)
    assert isinstance(network, DiscreteNetwork)
    convolutions = 2 * 9 * 2 * 2 * 4 * 4  # Of both nodes of the first normal cell, on 4 x 4 maps.
    nothing = Genotype.of(
        SPACE, {**genotype.cells, "normal1": genotype.cells["normal2"]}, output_mode="concat"
    )
    less = count_cost(DiscreteNetwork(nothing, [2], features=4), (8, 8, 3)).multiply_adds
    assert count_cost(network, (8, 8, 3)).multiply_adds == less + convolutions


def test_a_genotype_has_as_many_positions_as_its_space():
    genotype = random_genotype(SPACE, 0)
    with pytest.raises(GenotypeError, match="num_normal: must be 2, as search space"):
        dataclasses.replace(genotype, num_normal=3)
    with pytest.raises(GenotypeError, match=r"cells\.normal2: missing"):
        cells = {t: cell for t, cell in genotype.cells.items() if t != "normal2"}
        dataclasses.replace(genotype, cells=cells)
    with pytest.raises(ConfigError, match=r"per_position must be one of False, True"):
        dataclasses.replace(SPACE, per_position="yes")


def test_a_run_searches_discretizes_evaluates_and_exports(tmp_path, capsys):
    pytest.importorskip("tf_agents")
    from launching import SMALL_PPO, launch

    from rldarts_tf import commands
    from rldarts_tf.agents.ppo.program import PPOProgram
    from rldarts_tf.envs.catch import CatchSuite
    from rldarts_tf.runs.metrics import read_metrics
    from rldarts_tf.runs.paths import RunPaths

    run = RunPaths(tmp_path / "run")
    settings = [
        "Algorithm.name = 'ppo'",
        "search/SearchSpace.name = 'run_by_position'",
        "search/SearchSpace.normal_ops = ['conv_3x3', 'relu']",
        "search/SearchSpace.num_normal = 2",
        "search/SearchSpace.num_nodes = 2",
        "search/SearchSpace.per_position = True",
        "search/EncoderSettings.search_space = 'run_by_position'",
        "EncoderSettings.features = 8",
        "EncoderSettings.depths = [2]",
        "TrainingSettings.num_env_steps = 64",
        *SMALL_PPO,
    ]
    launch(PPOProgram, CatchSuite, run.root, settings, "--stage=all", "--seed=3")
    metrics = read_metrics(run.stage("search").metrics_path)
    assert {"alpha_entropy_normal1", "op_weight_normal2_conv_3x3"} <= set(metrics)
    genotype = Genotype.load(run.genotype_path)
    assert tuple(genotype.cells) == ("normal1", "normal2")
    for command in (
        ["discretize", str(run.root), f"--output={tmp_path / 'again.json'}"],
        ["plot", str(run.root), f"--output={tmp_path / 'p.png'}"],
        ["report", str(run.root)],
        ["show", str(run.genotype_path)],
        ["export", str(run.root), f"--output={tmp_path / 'policy'}"],
    ):
        assert commands.main(command) == 0, command
    assert Genotype.load(tmp_path / "again.json") == genotype
    assert (run.cells_dir / "normal1.svg").exists() and (run.cells_dir / "normal2.svg").exists()
    capsys.readouterr()
