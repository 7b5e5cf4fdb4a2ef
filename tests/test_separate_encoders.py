"""Policy and value, or advantages and value, with an encoder each, and one α or one each."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from spaces import MICRO_2

from rldarts_tf import DiscreteNetwork, Supernet, commands
from rldarts_tf.search import CostSettings, SearchSettings, optimizer
from rldarts_tf.torso import TwinTorsos

pytest.importorskip("tf_agents")

from launching import launch
from trainings import TINY

from rldarts_tf.agents.ppo.agent import make_agent, tensor_specs
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.rainbow import make_network
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.encoders import check_two, with_architecture_loss
from rldarts_tf.envs.catch import CatchSettings, CatchSuite
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.export import policies
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.search.contribution import contributions
from rldarts_tf.search_space import get_search_space, read_config, register_search_space

BY_ENCODER = register_search_space(
    dataclasses.replace(MICRO_2, name="micro_2_by_encoder", per_encoder=True)
)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
SUITE = CatchSuite(CatchSettings(rows=6))


def supernet_of(**method):
    supernet = Supernet(MICRO_2, [2], features=4, search=SearchSettings(**method))
    supernet(IMAGES)
    return supernet


def theta(encoder):
    alpha = {w.ref() for w in encoder.alpha.weights}
    return [w for w in encoder.trainable_weights if w.ref() not in alpha]


def test_a_twin_has_the_same_alpha_and_weights_of_its_own():
    supernet = supernet_of()
    twin = supernet.twin()
    twin(IMAGES)
    assert twin.alpha is supernet.alpha and twin.name != supernet.name
    assert not {w.ref() for w in theta(twin)} & {w.ref() for w in theta(supernet)}
    for mine, theirs in zip(theta(twin), theta(supernet)):
        mine.assign(theirs)
    np.testing.assert_array_equal(twin(IMAGES), supernet(IMAGES))
    before = twin(IMAGES).numpy()
    supernet.alpha.logits["normal"][0].assign_add([[1.0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(twin(IMAGES), supernet(IMAGES))
    assert np.abs(before - twin(IMAGES)).max() > 0


def test_alpha_counts_once_in_optimizer_penalty_and_cost():
    method = {"alpha_learning_rate": 1e-2, "alpha_weight_decay": 0.0, "beta_decay": 1.0}
    supernet = supernet_of(cost=CostSettings(weight=0.5), **method)
    twin = supernet.twin()
    twin(IMAGES)
    pair = tf.Module()
    pair.parts = [supernet, twin]
    loss = with_architecture_loss(tf.constant(1.0), pair)
    np.testing.assert_allclose(loss, 1.0 + supernet.architecture_loss())
    made = optimizer(tf.keras.optimizers.Adam(1e-3), pair)
    assert len(made.alpha.moments[0]) == len(supernet.alpha.trainable_weights)
    supernet.set_progress(1.0)
    (of_node, *_) = made.alpha._penalty_gradients()
    # Of the mean over three edges of logsumexp(α): softmax(0) / 3, and not twice that.
    np.testing.assert_allclose(of_node, np.full((1, 5), 1 / 15), rtol=1e-5)


def test_ppo_trains_the_encoder_of_the_policy_by_the_policy_alone():
    settings = dataclasses.replace(TINY["ppo"], separate_encoders=True)
    specs = tensor_specs(SUITE.observation_spec(), SUITE.action_spec())
    supernet = Supernet(MICRO_2, [2], features=4)
    agent = make_agent(settings, *specs, supernet)
    images = tf.zeros([2, *SUITE.observation_spec().shape], tf.uint8) + tf.constant(
        np.arange(2, dtype=np.uint8)[:, None, None, None]
    )
    step_type = tf.ones([2], tf.int32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(agent.value_net(images, step_type=step_type)[0]))
    of_policy = theta(supernet)
    gradients = tape.gradient(value, [*of_policy, *supernet.alpha.trainable_weights])
    assert all(g is None for g in gradients[: len(of_policy)])
    assert all(g is not None for g in gradients[len(of_policy) :])
    shared = make_agent(TINY["ppo"], *specs, Supernet(MICRO_2, [2], features=4))
    alphas = len(supernet.alpha.trainable_weights)
    more = len({w.ref() for w in agent.value_net.trainable_weights}) - alphas
    assert more == len({w.ref() for w in shared.value_net.trainable_weights}) - alphas
    trained, of_shared = (
        len({w.ref() for n in (a.actor_net, a.value_net) for w in n.trainable_weights})
        for a in (agent, shared)
    )
    assert trained == of_shared + len(of_policy)


def test_copied_twins_are_twins_again_and_targets_follow():
    settings = dataclasses.replace(TINY["rainbow"], separate_encoders=True)
    supernet = Supernet(MICRO_2, [2], features=4)
    network = make_network(supernet, 3, settings)
    q = network(IMAGES).mean()
    target = copy.deepcopy(network)
    np.testing.assert_allclose(target(IMAGES).mean(), q, rtol=1e-6)
    assert len(target.variables) == len(network.variables)
    assert not {w.ref() for w in target.variables} & {w.ref() for w in network.variables}
    for weight in network.trainable_variables:
        weight.assign_add(tf.fill(weight.shape, 0.1))
    for mine, theirs in zip(target.variables, network.variables):
        assert mine.shape == theirs.shape
        mine.assign(theirs)
    np.testing.assert_allclose(target(IMAGES).mean(), network(IMAGES).mean(), rtol=1e-6)
    assert np.abs(target(IMAGES).mean() - q).max() > 1e-4


def test_twin_torsos_give_the_features_of_both():
    supernet = supernet_of()
    first, second = TwinTorsos(supernet)(IMAGES)
    np.testing.assert_array_equal(first, supernet(IMAGES))
    assert second.shape == first.shape and np.abs(first - second).max() > 0


# --- an α for each ------------------------------------------------------------------------------


def test_a_space_by_encoder_has_the_cells_of_both_and_others_are_as_they_were():
    assert BY_ENCODER.cell_types == ("normal", "normal_of_second")
    assert BY_ENCODER.size() == MICRO_2.size() ** 2
    assert read_config(BY_ENCODER.to_config()) == BY_ENCODER
    assert "per_encoder" not in MICRO_2.to_config()
    both = dataclasses.replace(BY_ENCODER, name="both", num_normal=2, per_position=True)
    assert both.cell_types == ("normal1", "normal2", "normal1_of_second", "normal2_of_second")
    with pytest.raises(ConfigError, match=r"SearchSpace\.per_encoder"):
        dataclasses.replace(MICRO_2, per_encoder=2)


def test_a_genotype_by_encoder_has_the_cells_of_both():
    genotype = random_genotype(BY_ENCODER, 0)
    assert tuple(genotype.cells) == BY_ENCODER.cell_types
    assert Genotype.from_json(genotype.to_json()) == genotype
    config = genotype.to_dict()
    del config["cells"]["normal_of_second"]
    with pytest.raises(GenotypeError, match=r"cells\.normal_of_second: missing"):
        Genotype.from_dict(config)


def pair_by_encoder():
    supernet = Supernet(BY_ENCODER, [2], features=4)
    twin = supernet.twin()
    supernet(IMAGES), twin(IMAGES)
    rng = np.random.default_rng(1)
    for of_type in supernet.alpha.logits.values():
        for logits in of_type:
            logits.assign(rng.normal(size=logits.shape))
    return supernet, twin


def test_each_encoder_has_the_gradient_of_its_own_alpha_alone():
    for number, encoder in enumerate(pair_by_encoder()):
        logits = encoder.alpha.logits
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(encoder(IMAGES)))
        of_types = tape.gradient(loss, [logits["normal"], logits["normal_of_second"]])
        own, other = of_types[number], of_types[1 - number]
        assert all(np.abs(g).max() > 0 for g in own)
        assert all(g is None or not np.abs(g).max() for g in other)


def test_each_encoder_extracts_its_own_cell_of_one_genotype():
    supernet, twin = pair_by_encoder()
    genotype = supernet.discretize()
    assert genotype == twin.discretize()
    assert genotype.cells["normal"] != genotype.cells["normal_of_second"]
    # A supernet whose p is one-hot at the genotype's ops computes the same function.
    for cell_type, cell in genotype.cells.items():
        ops = BY_ENCODER.ops(cell_type)
        for logits, node in zip(supernet.alpha.logits[cell_type], cell):
            chosen = dict(node)
            columns = [ops.index(chosen.get(i, "none")) for i in range(logits.shape[0])]
            logits.assign(tf.one_hot(columns, len(ops), on_value=20.0))
    for encoder in (supernet, twin):
        network = encoder.extract(genotype)
        assert network.genotype == genotype
        np.testing.assert_allclose(network(IMAGES), encoder(IMAGES), rtol=1e-5, atol=1e-6)
        again = type(network).from_config(network.get_config())
        again(IMAGES)
        again.set_weights(network.get_weights())
        np.testing.assert_array_equal(again(IMAGES), network(IMAGES))
    # A discrete network has a twin of the other cell too.
    places = supernet.extract().twin().placed_cells
    assert [place.cell_type for place, _ in places] == ["normal_of_second"]


def test_contributions_are_those_of_both_encoders():
    supernet, twin = pair_by_encoder()
    images = tf.constant(IMAGES)
    found = contributions(supernet, images)
    assert tuple(found) == BY_ENCODER.cell_types
    p = supernet.alpha.op_weights()
    for encoder, cell_type in ((supernet, "normal"), (twin, "normal_of_second")):
        ((cell, _, x),) = encoder.cell_inputs(images, p)
        np.testing.assert_allclose(found[cell_type], cell.contributions(x, p[cell_type]))
    alone = Supernet(BY_ENCODER, [2], features=4)
    alone(IMAGES)
    with pytest.raises(ConfigError, match=r"the second encoder, .* make it with twin"):
        contributions(alone, images)


def test_what_has_one_encoder_refuses_cells_of_two():
    specs = tensor_specs(SUITE.observation_spec(), SUITE.action_spec())
    discrete = DiscreteNetwork(random_genotype(BY_ENCODER, 0), [2], features=4)
    for encoder in (Supernet(BY_ENCODER, [2], features=4), discrete):
        with pytest.raises(ConfigError, match=r"PPOSettings\.separate_encoders must be True$"):
            make_agent(TINY["ppo"], *specs, encoder)
        with pytest.raises(ConfigError, match=r"RainbowSettings\.separate_encoders must be True$"):
            make_network(encoder, 3, TINY["rainbow"])
    with pytest.raises(ConfigError, match=r"this agent has one$"):
        check_two(discrete, False, None)
    with pytest.raises(ConfigError, match="CostSettings: not in search space 'micro_2_by_encoder'"):
        Supernet(BY_ENCODER, [2], search=SearchSettings(cost=CostSettings(weight=0.1)))


@pytest.mark.parametrize("space", ["micro_2", "micro_2_by_encoder"])
@pytest.mark.parametrize(
    ("program", "name", "numbers"),
    [
        (
            PPOProgram,
            "PPO",
            {"num_envs": 4, "steps_per_update": 8, "minibatch_size": 16, "num_epochs": 1},
        ),
        (
            RainbowProgram,
            "Rainbow",
            {
                "num_envs": 2,
                "batch_size": 4,
                "min_replay_size": 8,
                "steps_per_update": 8,
                "n_step": 1,
                "replay_capacity": 100,
                "hidden_size": 8,
            },
        ),
    ],
    ids=["ppo", "rainbow"],
)
def test_a_run_searches_and_trains_its_cell_with_separate_encoders(
    program, name, numbers, space, tmp_path
):
    settings = [
        f"Algorithm.name = '{name.lower()}'",
        "CatchSettings.rows = 6",
        f"search/EncoderSettings.search_space = '{space}'",
        "EncoderSettings.features = 8",
        "EncoderSettings.depths = [2]",
        "TrainingSettings.num_env_steps = 64",
        "TrainingSettings.evaluation_interval = 0",
        "TrainingSettings.final_evaluation_episodes = 2",
        "TrainingSettings.pictures = 0",
        f"{name}Settings.separate_encoders = True",
        *(f"{name}Settings.{field} = {value}" for field, value in numbers.items()),
    ]
    run = RunPaths(tmp_path / "run")
    launch(program, CatchSuite, run.root, settings, "--stage=all", "--seed=3")
    history = read_alphas(run.stage("search").alphas_path)
    assert any(np.abs(z).max() > 0 for z in history.logits.values())
    policy = policies.load_policy(run.root, "search")
    cell_types = get_search_space(space).cell_types
    assert tuple(history.logits) == cell_types
    for cell_type, z in policy.encoder.alpha.numpy_logits().items():
        np.testing.assert_allclose(z, history.logits[cell_type][-1], rtol=1e-6)
    evaluated = policies.load_policy(run.root, "evaluate")
    assert evaluated.encoder.genotype == Genotype.load(run.genotype_path)
    assert tuple(evaluated.encoder.genotype.cells) == cell_types
    # Commands that restore the policy have its second encoder too.
    output = tmp_path / "by_contribution.json"
    flags = ["--by=contribution", "--states=16", f"--output={output}"]
    assert commands.main(["discretize", str(run.root), *flags]) == 0
    assert tuple(Genotype.load(output).cells) == cell_types
