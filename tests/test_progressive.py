"""Searches that leave out edges and ops as they go: rules by hand, and all that must agree."""

from __future__ import annotations

import gin
import numpy as np
import pytest
import tensorflow as tf
from reference import randomize
from spaces import CHAIN_3, CLASSIC_2, MICRO_2
from trainings import TINY, StopAfter, arrays_of, state_of

pytest.importorskip("tf_agents")

from launching import launch

from rldarts_tf import ConfigError, SearchSpace, Supernet, commands, search
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.alpha import Alpha
from rldarts_tf.envs.catch import CatchSuite
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_checkpoint import read_logits
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths, StagePaths
from rldarts_tf.search import SearchSettings
from rldarts_tf.search.progressive import certainty_scores, make_rule
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings

EDGES = SearchSettings(progressive="edges", alpha_learning_rate=0.1)
OPS = SearchSettings(
    progressive="ops", progressive_from=0.25, progressive_ops=(3, 2), alpha_learning_rate=0.1
)
METHODS = {"edges": EDGES, "ops": OPS}


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def random_alpha(settings, space=MICRO_2, seed=0, **options):
    alpha = Alpha(space, inverse_temperature=2.0, search=settings, **options)
    rng = np.random.default_rng(seed)
    for nodes in alpha.logits.values():
        for node in nodes:
            node.assign(rng.normal(size=node.shape))
    return alpha


# --- SGAS ---------------------------------------------------------------------------------------


def test_the_score_of_an_edge_by_hand():
    # S_EI = 0.8, 0.8, 0.4, 0.6, normalized 1, 1, 0, 0.5. q = (1/2, 1/2), (3/4, 1/4), (3/4, 1/4),
    # (0.7, 0.3), of 1, 0.811278, 0.811278, 0.881291 bits: 1 - H is 0, 0.188722, 0.188722, 0.118709.
    p = np.array([[0.4, 0.4], [0.6, 0.2], [0.3, 0.1], [0.42, 0.18]])
    expected = [0, 1, 0, 0.5 * 0.118709 / 0.188722]
    np.testing.assert_allclose(certainty_scores(np.log(p)), expected, atol=1e-5)
    # What does not tell edges apart has no say: here S_EI, as in a chain, and then both.
    p /= p.sum(axis=1, keepdims=True)
    expected = [0, 1, 1, 0.118709 / 0.188722]
    np.testing.assert_allclose(certainty_scores(np.log(p)), expected, atol=1e-5)
    np.testing.assert_array_equal(certainty_scores(np.log(p[[1, 1, 1]])), [1, 1, 1])


THREE_NODES = SearchSpace("three_nodes", ("relu", "conv_3x3"), num_nodes=3, top_k=1)
P = np.array(
    [  # relu, conv_3x3, skip_connect, none
        [0.20, 0.30, 0.20, 0.30],  # (0, 1): S_EI 0.7, hardly certain
        [0.02, 0.02, 0.06, 0.90],  # (0, 2): 0.1, more certain
        [0.10, 0.50, 0.10, 0.30],  # (1, 2): 0.7, more certain
        [0.10, 0.10, 0.40, 0.40],  # (0, 3)
        [0.05, 0.80, 0.05, 0.10],  # (1, 3): the largest of both
        [0.30, 0.20, 0.20, 0.30],  # (2, 3)
    ]
)


def test_the_most_certain_edges_are_fixed_one_by_one_and_the_rest_of_their_nodes_is_closed():
    rule = make_rule(EDGES, THREE_NODES, "normal")
    z, everything = np.log(P), np.ones(P.shape, bool)
    # K = 1: three decisions, at 0.2, 0.2 + 0.8 / 3 and 0.2 + 1.6 / 3.
    expected = everything.copy()
    np.testing.assert_array_equal(rule.kept(z, everything, 0.199), expected)
    expected[4] = [False, True, False, False]
    expected[[3, 5]] = [False, False, False, True]
    first = rule.kept(z, everything, 0.2)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(rule.kept(z, first, 0.46), expected)
    # Of (0, 1), (0, 2) and (1, 2) S_EI is 0.7, 0.1, 0.7, and (1, 2) is more certain than (0, 1).
    expected[2] = [False, True, False, False]
    expected[1] = [False, False, False, True]
    second = rule.kept(z, first, 0.47)
    np.testing.assert_array_equal(second, expected)
    # Later logits do not change what was decided; an edge that would rather have none has an op.
    later = np.log(P[::-1])
    later[0] = [-1.0, -2.0, 0.0, 9.0]
    expected[0] = [False, False, True, False]
    np.testing.assert_array_equal(rule.kept(later, second, 0.74), expected)
    # A clock that passes several moments at once makes all of their decisions.
    expected[0] = [False, True, False, False]
    np.testing.assert_array_equal(rule.kept(z, everything, 1.0), expected)
    np.testing.assert_array_equal(rule.kept(z, expected, 1.0), expected)


def test_a_node_with_k_inputs_or_fewer_keeps_all_of_them():
    alpha = random_alpha(EDGES)  # K = 2: of nodes 1 and 2 all edges stay, after three decisions.
    fixed = []
    for progress in (0.1, 0.2, 0.5, 0.7, 0.8, 1.0):
        alpha.set_progress(progress)
        rows = alpha.kept["normal"].numpy()
        fixed.append(int(np.sum(rows.sum(axis=1) == 1)))
    assert fixed == [0, 1, 2, 2, 3, 3] and not rows[:, -1].any()


def test_in_a_chain_every_layer_is_decided_once():
    alpha = random_alpha(EDGES, CHAIN_3)
    before = alpha.numpy_logits()["chain"]
    alpha.set_progress(1.0)
    np.testing.assert_array_equal(alpha.kept["chain"].numpy().argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_array_equal(alpha.kept["chain"].numpy().sum(axis=1), 1)


# --- P-DARTS ------------------------------------------------------------------------------------


def test_the_weakest_ops_of_every_edge_leave_in_stages():
    rule = make_rule(OPS, MICRO_2, "normal")
    z = np.array([[5.0, 1, 3, 2, 4], [0, 0, 0, 0, 0], [-1, -2, -3, -5, -4]])
    everything = np.ones(z.shape, bool)
    assert rule.kept(z, everything, 0.24).all()
    # Of equals the first stay; `none`, the last, leaves as any other.
    three = np.array([[1, 0, 1, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(rule.kept(z, everything, 0.25), three)
    np.testing.assert_array_equal(rule.kept(z, three, 0.6), three)
    # Two moments, 0.25 and 0.625. What has left does not come back, however strong it would be.
    later = np.array([[1.0, 9, 3, 9, 4], [0, 0, 0, 1, 1], [-5, -2, -3, -1, -1]])
    two = np.array([[0, 0, 1, 0, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(rule.kept(later, three, 0.625), two)
    straight = np.array([[1, 0, 0, 0, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(rule.kept(z, everything, 1.0), straight)


def test_an_edge_with_fewer_ops_than_are_left_keeps_them():
    method = SearchSettings(progressive="ops", progressive_ops=(5, 3))
    rule = make_rule(method, MICRO_2, "normal")
    z, everything = np.zeros((3, 5)), np.ones((3, 5), bool)
    assert rule.kept(z, everything, 0.2).all()
    np.testing.assert_array_equal(rule.kept(z, everything, 0.6).sum(axis=1), 3)


# --- α: everything that follows from it ---------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("progress", [0.3, 1.0])
def test_all_that_follows_from_alpha_is_of_what_is_kept(name, progress):
    alpha = random_alpha(METHODS[name], CLASSIC_2)
    free = random_alpha(SearchSettings(alpha_learning_rate=0.1), CLASSIC_2)
    traced = tf.function(alpha.op_weights)
    traced()
    alpha.set_progress(progress)
    for cell_type, z in free.numpy_logits().items():
        kept = alpha.kept[cell_type].numpy()
        assert not kept.all()
        p = softmax(np.where(kept, z, -np.inf))
        np.testing.assert_array_equal(p == 0, ~kept)
        for found in (
            traced(), alpha.op_weights(), alpha.lasting_op_weights(), alpha.mean_op_weights(),
        ):  # fmt: skip
            np.testing.assert_allclose(found[cell_type], p, rtol=1e-5)
            np.testing.assert_array_equal(found[cell_type] == 0, ~kept)
        logits = alpha.numpy_logits()[cell_type]
        np.testing.assert_array_equal(logits[kept], z[kept])
        np.testing.assert_allclose(softmax(logits), p, rtol=1e-9)
        log_p = np.log(p, out=np.zeros_like(p), where=kept)
        entropy = -np.sum(p * log_p, axis=1).mean()
        np.testing.assert_allclose(alpha.entropy()[cell_type], entropy, rtol=1e-5, atol=1e-7)
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "gumbel_2"])
@pytest.mark.parametrize("name", METHODS)
def test_what_was_left_out_is_never_drawn_and_has_no_gradient(name, relaxation):
    settings = {**vars(METHODS[name]), "relaxation": relaxation}
    settings |= {"entropy_penalty": 1.0, "beta_decay": 1.0, "gumbel_temperature_end": 0.1}
    alpha = random_alpha(settings, CLASSIC_2)
    alpha.set_progress(1.0 if name == "ops" else 0.6)
    kept = {t: variable.numpy() for t, variable in alpha.kept.items()}
    moved = {t: np.zeros(mask.shape, bool) for t, mask in kept.items()}
    for _ in range(20):
        alpha.draw()
        with tf.GradientTape() as tape:
            loss = alpha.penalty() + tf.add_n(
                [tf.reduce_sum(tf.sin(1.0 + p) * p) for p in alpha.op_weights().values()]
            )
        for t, p in alpha.numpy_op_weights().items():
            assert (p[~kept[t]] == 0).all()
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
        gradients = tape.gradient(loss, alpha.logits)
        for t, nodes in gradients.items():
            found = np.concatenate(nodes)
            assert np.isfinite(found).all() and (found[~kept[t]] == 0).all()
            moved[t] |= found != 0
    for t, mask in kept.items():
        np.testing.assert_array_equal(moved[t], mask)


def test_edge_normalization_multiplies_what_is_left():
    settings = {**vars(OPS), "edge_normalization": True}
    alpha = random_alpha(settings)
    alpha.edge_logits["normal"][1].assign([2.0, -1.0])
    alpha.set_progress(1.0)
    kept = alpha.kept["normal"].numpy()
    p = alpha.lasting_op_weights()["normal"].numpy()
    np.testing.assert_array_equal(p == 0, ~kept)
    np.testing.assert_allclose(p.sum(axis=1), [1, *softmax(np.array([2.0, -1.0]))], rtol=1e-5)
    ranked = softmax(alpha.numpy_logits()["normal"])
    np.testing.assert_allclose(ranked[:, :-1], p[:, :-1], rtol=1e-5)


def test_a_search_that_leaves_out_nothing_has_no_variable_for_it():
    plain, frozen = Alpha(MICRO_2), random_alpha(EDGES, trainable=False)
    assert [len(alpha.weights) for alpha in (plain, frozen)] == [3, 5]
    # A mixture that is not trained stays as it is.
    frozen.set_progress(1.0)
    assert (frozen.numpy_op_weights()["normal"] > 0).all()


@pytest.mark.parametrize("unit_ops", [None, "search"])
def test_a_supernet_whose_edges_are_all_fixed_is_the_cell_that_is_read_off(float64, unit_ops):
    space = SearchSpace(
        "test_progressive",
        ("conv_3x3_relu", "conv_3x3", "tanh"),
        ("conv_3x3", "max_pool_3x3", "relu"),
        num_reduction=1,
        num_nodes=3,
        top_k=1,
    )
    settings = {**vars(EDGES), "unit_ops": unit_ops}
    supernet = Supernet(space, [2], features=3, search=settings)
    images = np.random.default_rng(0).uniform(size=(2, 9, 8, 3))
    supernet.build((None, *images.shape[1:]))
    randomize(supernet.trainable_weights, 0)
    for progress in (0.2, 0.5, 1.0):
        supernet.set_progress(progress)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(supernet(images, training=True)))
        for w, g in zip(
            supernet.trainable_weights, tape.gradient(loss, supernet.trainable_weights)
        ):
            assert g is None or np.isfinite(g).all(), w.name
    np.testing.assert_allclose(supernet(images), supernet.extract()(images), rtol=1e-6, atol=1e-9)
    # Every node has one input, so the cell is the same whatever caps or K say.
    for t, kept in supernet.alpha.kept.items():
        found = [(i, op) for node in supernet.discretize().cells[t] for i, op in node]
        fixed = kept.numpy() & (np.array(space.ops(t)) != "none")
        rows, columns = np.nonzero(fixed)
        assert found == [(space.edges[r][0], space.ops(t)[c]) for r, c in zip(rows, columns)]


def test_what_is_kept_is_saved_with_the_supernet(tmp_path):
    supernet = Supernet(MICRO_2, [2], features=4, search=OPS)
    supernet(np.zeros((1, 4, 4, 1), np.float32))
    randomize(supernet.alpha.trainable_weights, 0)
    supernet.set_progress(0.3)
    expected = supernet.alpha.kept["normal"].numpy()
    assert 0 < expected.sum() < expected.size
    supernet.save(tmp_path / "supernet.keras")
    loaded = tf.keras.models.load_model(tmp_path / "supernet.keras")
    assert loaded.alpha.search == OPS
    np.testing.assert_array_equal(loaded.alpha.kept["normal"], expected)


@pytest.mark.parametrize("name", ["rainbow", "sac"])
def test_target_networks_take_over_what_is_kept(name):
    paths = pytest.importorskip("learner_paths").PATHS
    path = paths[name](Supernet(MICRO_2, [2], features=8, search=EDGES), **(
        {"target_update_period": 1} if name == "rainbow" else {}
    ))  # fmt: skip
    path.encoder.set_progress(0.5)
    kept = path.encoder.alpha.kept["normal"].numpy()
    assert np.sum(kept.sum(axis=1) == 1) == 2
    path.step()
    path.step()
    target = getattr(path.learner, "_target_network" if name == "rainbow" else "_target_critics")
    (of_target,) = search.supernets(target)
    assert of_target is not path.encoder
    np.testing.assert_array_equal(of_target.alpha.kept["normal"], kept)


# --- runs ---------------------------------------------------------------------------------------


def make_training(folder, method, *stopping):
    tf.keras.utils.set_random_seed(0)
    supernet = Supernet(MICRO_2, [2], features=8, search=METHODS[method])
    length = TrainingSettings(num_env_steps=160, pictures=0, evaluation_interval=0, seed=3)
    stage = StageSettings(TINY["ppo"], CatchSuite(CatchSettings()), length)
    training = Training(StagePaths(folder), "search", supernet, PPOProgram, stage, *stopping)
    training._evaluate = lambda number: {}
    return training


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_search_goes_on_to_the_bit(method, tmp_path):
    ends = []
    for name, stops in (("whole", [None]), ("parts", [2, 1, None])):
        for stop in stops:
            with make_training(tmp_path / name, method, StopAfter(stop)) as training:
                training.run()
                alpha = training._encoder.alpha
                ends.append({**arrays_of(encoder=training._encoder), **state_of(training)})
    assert not np.all(alpha.kept["normal"])
    whole, *between, parts = ends
    assert len(between) == 2 and whole.keys() == parts.keys()
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value, err_msg=key)
    logs = [read_alphas(StagePaths(tmp_path / name).alphas_path) for name in ("whole", "parts")]
    np.testing.assert_array_equal(logs[0].logits["normal"], logs[1].logits["normal"])
    # Ever fewer ops are left, and each row of metrics is of what was left after its update.
    left = [(p > 0).sum() for p in logs[0].op_weights()["normal"]]
    numbers = {"edges": {15, 11, 7, 3}, "ops": {15, 9, 6}}[method]
    assert set(left) == numbers and left == sorted(left, reverse=True)
    metrics = read_metrics(StagePaths(tmp_path / "whole").metrics_path)
    for column, op in enumerate(MICRO_2.ops("normal")):
        means = logs[0].op_weights()["normal"][1:, :, column].mean(axis=1)
        np.testing.assert_allclose(metrics[f"op_weight_normal_{op}"], means, atol=1e-6)


def test_a_run_by_the_launcher_is_read_off_alike_from_all_that_it_leaves(tmp_path, capsys):
    root = tmp_path / "run"
    settings = [
        "Algorithm.name = 'ppo'",
        "search/SearchSpace.name = 'progressive_space'",
        "search/SearchSpace.normal_ops = ['relu', 'conv_3x3']",
        "search/SearchSpace.num_nodes = 2",
        "search/SearchSpace.top_k = 1",
        "search/EncoderSettings.search_space = 'progressive_space'",
        "EncoderSettings.features = 8",
        *(f"{stage}/EncoderSettings.depths = [2]" for stage in ("search", "evaluate")),
        "TrainingSettings.num_env_steps = 128",
        "TrainingSettings.evaluation_interval = 0",
        "TrainingSettings.final_evaluation_episodes = 2",
        "TrainingSettings.pictures = 1",
        *(f"PPOSettings.{field} = {getattr(TINY['ppo'], field)!r}" for field in (
            "num_envs", "steps_per_update", "minibatch_size", "num_epochs")),
    ]  # fmt: skip
    launch(PPOProgram, CatchSuite, root, settings, "--gin_file=searches/sgas.gin", "--stage=all")
    gin.clear_config()
    run = RunPaths(root)
    genotype = Genotype.load(run.genotype_path)
    stage = run.stage("search")
    p = read_alphas(stage.alphas_path).op_weights()["normal"][-1]
    np.testing.assert_array_equal(np.sort(p, axis=1), [[0, 0, 0, 1]] * 3)
    assert np.sum(p[:, -1]) == 1  # K = 1 of two inputs of node 2: the other one is closed.
    assert read_metrics(stage.metrics_path)["alpha_entropy_normal"][-1] == 0
    (checkpoint,) = sorted(stage.checkpoints_dir.glob("*.index"))[-1:]
    logits = read_logits(checkpoint)["normal"]
    np.testing.assert_array_equal(logits, read_alphas(stage.alphas_path).logits["normal"][-1])
    capsys.readouterr()
    for source in (root, checkpoint):
        assert commands.main(["discretize", str(source)]) == 0
        assert genotype.to_json() in capsys.readouterr().out
    assert commands.main(["discretize", str(root), "--by=return", "--episodes=2"]) == 2
    assert "by: must be p or contribution" in capsys.readouterr().err


# --- what is refused ----------------------------------------------------------------------------

REFUSED = {
    "an unknown rule": ({"progressive": "nodes"}, "progressive must be one of None, edges, ops"),
    "no time to learn": ({"progressive_from": 0}, r"progressive_from must be .* above warm_up"),
    "a decision in the warm-up": ({"warm_up": 0.2}, r"progressive_from must be .* = 0\.2"),
    "decisions at the end": ({"progressive_from": 1.0}, "progressive_from must be below 1"),
    "sigmoids": ({"relaxation": "sigmoid"}, "relaxation must be 'softmax', 'gumbel'"),
    "dirichlet": ({"relaxation": "dirichlet"}, "relaxation must be 'softmax', 'gumbel'"),
    "noise": ({"smoothing": 0.1}, r"smoothing must be 0\.0 with progressive = 'edges'"),
    "a skip beside": ({"auxiliary_skip": 1.0}, r"auxiliary_skip must be 0\.0"),
    "partial channels": ({"partial_channels": 4}, "partial_channels must be 1 with"),
    "shares of edges": ({"edge_normalization": True}, "edge_normalization must be False"),
    "a cap": ({"max_skips": 2}, "max_skips must be None with progressive = 'edges'"),
    "numbers that rise": ({"progressive_ops": (3, 5)}, "progressive_ops must fall"),
    "one op": ({"progressive_ops": (3, 1)}, "progressive_ops must be an integer of at least 2"),
    "a number": ({"progressive_ops": 3}, "progressive_ops must be a list of integers"),
    "no number": ({"progressive_ops": ()}, "progressive_ops must be a list of integers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_go_together_are_refused(case):
    changes, message = REFUSED[case]
    fields = {"progressive": "edges", "alpha_learning_rate": 0.1, **changes}
    with pytest.raises(ConfigError, match=rf"^SearchSettings\.{message}"):
        SearchSettings(**fields)


def test_numbers_of_ops_that_no_edge_exceeds_are_refused():
    method = {"progressive": "ops", "progressive_ops": (6, 5)}
    with pytest.raises(ConfigError, match=r"^SearchSettings\.progressive_ops must end below the 5"):
        Supernet(MICRO_2, [2], search=method)
