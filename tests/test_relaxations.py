"""Relaxations against hand-worked numbers, and ops that are left out against all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize
from spaces import CHAIN_3, MICRO_2

from rldarts_tf import ConfigError, Genotype, SearchSpace, Supernet, count_cost, discretize, search
from rldarts_tf.cells import Cell
from rldarts_tf.discretization import discretize_strengths
from rldarts_tf.genotype import dense_topology
from rldarts_tf.search import (
    Relaxation,
    SearchSettings,
    make_relaxation,
    register_relaxation,
    relaxation_registry,
)
from rldarts_tf.search.contribution import contributions
from rldarts_tf.search.relaxations import Moment
from rldarts_tf.space import LEFT_OUT

OPS = ("relu", "conv_3x3", "skip_connect", "none")
Z = tf.constant([[0.0, 1.0, -1.0, 0.5], [2.0, 0.0, 0.0, -3.0]])
OWN = {"alpha_learning_rate": 1e-2}


def moment(progress=0.0, draw=0):
    return Moment(tf.constant(progress), tf.constant([draw, 0], tf.int64))


def softmax(z):
    powers = np.exp(z)
    return powers / powers.sum(axis=-1, keepdims=True)


def test_softmax_is_the_default_to_the_bit():
    p = make_relaxation(SearchSettings(), OPS).op_weights(Z, moment())
    np.testing.assert_array_equal(p, tf.nn.softmax(Z))


def test_sigmoid_and_its_zero_one_penalty():
    relaxation = make_relaxation(SearchSettings(relaxation="sigmoid", **OWN), OPS)
    expected = 1 / (1 + np.exp(-Z.numpy()))
    np.testing.assert_allclose(relaxation.op_weights(Z, moment()), expected, rtol=1e-6)
    penalty = -10 * np.mean((expected - 0.5) ** 2)
    np.testing.assert_allclose(relaxation.penalty(Z), penalty, rtol=1e-6)
    # Edges rank by their largest sigmoid, whatever their other ops.
    z = np.array([[0.1, 0.0, 0.0, 9.0], [0.2, 0.2, 0.2, -9.0], [0.3, 0.3, 0.3, 9.0]])
    space = SearchSpace("ranking", OPS[:2], num_nodes=2, top_k=1)
    genotype = discretize({"normal": relaxation.ranking(z.copy(), 3)}, space)
    assert genotype.cells["normal"] == (((0, "relu"),), ((1, "relu"),))
    ranked = relaxation.ranking(z.copy(), 3)
    odds = ranked[:, 0] - np.log(np.exp(ranked[:, 1:]).sum(axis=1))
    np.testing.assert_allclose(odds - odds[0], z[:, 0] - z[0, 0], atol=1e-12)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_hard_gumbel_draws_one_op_and_its_gradient_is_that_of_the_softmax(progress):
    relaxation = make_relaxation(SearchSettings(relaxation="gumbel"), OPS)
    now = moment(progress, draw=3)
    noise = -np.log(-np.log(now.uniform(Z).numpy()))
    y = np.log(softmax(Z.numpy())) + noise
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(Z)
        p = relaxation.op_weights(Z, now)
        drawn = tf.reduce_sum(p * tf.constant([[1.0, 2.0, 3.0, 4.0]] * 2))
    np.testing.assert_array_equal(p, np.eye(4)[y.argmax(axis=1)])
    np.testing.assert_array_equal(relaxation.selected(Z, now), (p.numpy() == 1)[None])
    # d(c_k q_k)/dz with q = softmax(y / τ): c_k q_k (δ_kj - q_j) / τ for the drawn k alone, and
    # log softmax(z) differs from z by what no softmax sees.
    tau = 10.0 - 9.9 * progress
    q = softmax(y / tau)
    expected = np.zeros((2, 4))
    for e, k in enumerate(y.argmax(axis=1)):
        expected[e] = (k + 1) * q[e, k] * (np.eye(4)[k] - q[e]) / tau
    np.testing.assert_allclose(tape.gradient(drawn, Z), expected, rtol=1e-4, atol=1e-6)


def test_gumbel_draws_with_the_probabilities_of_the_softmax():
    relaxation = make_relaxation(SearchSettings(relaxation="gumbel"), OPS)
    z = tf.repeat(Z[:1], 4000, axis=0)
    frequencies = tf.reduce_mean(relaxation.op_weights(z, moment()), axis=0)
    np.testing.assert_allclose(frequencies, softmax(Z.numpy()[0]), atol=0.03)


def test_of_two_gumbel_ops_one_counts_and_both_have_gradients():
    relaxation = make_relaxation(SearchSettings(relaxation="gumbel_2"), OPS)
    now = moment(0.5, draw=1)
    y = np.log(softmax(Z.numpy())) - np.log(-np.log(now.uniform(Z).numpy()))
    order = np.argsort(-y, axis=1)
    with tf.GradientTape() as tape:
        tape.watch(Z)
        p = relaxation.op_weights(Z, now)
        value = tf.reduce_sum(p * tf.constant([[1.0, 2.0, 3.0, 4.0]] * 2))
    np.testing.assert_array_equal(p, np.eye(4)[order[:, 0]])
    gradient = tape.gradient(value, Z).numpy()
    for e, (a, b) in enumerate(order[:, :2]):
        q = 1 / (1 + np.exp(-(Z[e, a] - Z[e, b])))
        expected = np.zeros(4)
        # c_a q + c_b (1 - q)
        expected[a] = (a - b) * q * (1 - q)
        expected[b] = -expected[a]
        np.testing.assert_allclose(gradient[e], expected, rtol=1e-4, atol=1e-7)
        assert set(relaxation.selected(Z, now).numpy()[:, e].argmax(axis=1)) == {a, b}


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_between_two_gumbel_ops_the_gradient_is_that_of_their_softmax_whatever_was_drawn(progress):
    relaxation = make_relaxation(SearchSettings(relaxation="gumbel_2"), OPS[:2])
    z = tf.constant([[0.3, 0.0]])
    for draw in range(5):
        with tf.GradientTape() as tape:
            tape.watch(z)
            first = relaxation.op_weights(z, moment(progress, draw))[0, 0]
        # σ(0.3) (1 - σ(0.3)) = 0.5744 · 0.4256
        np.testing.assert_allclose(tape.gradient(first, z), [[0.2445, -0.2445]], atol=1e-4)


def test_the_second_gumbel_op_has_its_gradient_under_a_relu():
    ops = ("conv_3x3_relu", "conv_5x5_relu", "none")
    cell = Cell(dense_topology(ops, 1), 4, output_mode="last", op_columns=ops)
    x = tf.random.stateless_normal([2, 6, 6, 4], (0, 0))
    active = tf.constant([[[True, False, False]], [[False, True, False]]])

    def gradient(second):
        p = tf.constant([[1.0, second, 0.0]])
        with tf.GradientTape() as tape:
            tape.watch(p)
            total = tf.reduce_sum(cell(x, p, active=active))
        return tape.gradient(total, p).numpy()[0, :2]

    cell(x, tf.ones([1, 3]))
    # The output is linear in p: its gradient is the same at p = 0, where the second op stands.
    found, expected = gradient(0.0), gradient(0.5)
    assert (np.abs(expected) > 1).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_dirichlet_has_the_mean_of_its_concentrations_and_a_gradient():
    relaxation = make_relaxation(SearchSettings(relaxation="dirichlet", **OWN), OPS)
    c = np.where(Z > 0, Z + 1, np.exp(np.minimum(Z, 0)))
    z = tf.repeat(Z[:1], 4000, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(z)
        p = relaxation.op_weights(z, moment())
        mean = tf.reduce_mean(p[:, 1])
    np.testing.assert_allclose(tf.reduce_mean(p, axis=0), c[0] / c[0].sum(), atol=0.02)
    np.testing.assert_allclose(tf.reduce_sum(p, axis=1), 1.0, rtol=1e-5)
    # The mean of p_1 is c_1 / Σ c, and c_1 = z_1 + 1 there.
    expected = (c[0].sum() - c[0, 1]) / c[0].sum() ** 2
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(mean, z)[:, 1]), expected, atol=0.02)
    ranked = relaxation.ranking(Z.numpy().astype(np.float64), 3)
    np.testing.assert_allclose(softmax(ranked), c / c.sum(axis=1, keepdims=True), rtol=1e-6)
    # Uniform: nothing to pay. Dir(2, 1) beside Dir(1, 1): E log(2 p) = log 2 - 1/2.
    assert float(relaxation.penalty(tf.zeros([3, 4]))) == pytest.approx(0, abs=1e-8)
    two = relaxation.penalty(tf.constant([[1.0, 0.0]]))
    assert float(two) == pytest.approx(1e-3 * (np.log(2) - 0.5), rel=1e-4)


def test_the_auxiliary_skip_fades():
    relaxation = make_relaxation(SearchSettings(auxiliary_skip=1.0), OPS)
    for progress, extra in ((0.0, 1.0), (0.25, 0.75), (1.0, 0.0)):
        difference = relaxation.op_weights(Z, moment(progress)) - softmax(Z.numpy())
        np.testing.assert_allclose(difference, [[0, 0, extra, 0]] * 2, atol=1e-6)


def test_smoothing_reaches_as_far_as_it_says():
    relaxation = make_relaxation(SearchSettings(smoothing=0.3), OPS)
    z = tf.zeros([500, 4])
    for progress, reach in ((0.0, 0.03), (1.0, 0.3)):
        p = relaxation.op_weights(z, moment(progress)).numpy()
        assert reach * 0.95 < np.abs(p - 0.25).max() <= reach or progress == 1.0
        assert p.min() >= 0 and abs(p.mean() - 0.25) < 0.02
    with pytest.raises(ConfigError, match="smoothing"):
        make_relaxation(SearchSettings(smoothing=0.3, relaxation="gumbel"), OPS)


def test_an_auxiliary_skip_is_refused_where_there_is_none_to_add_it_to():
    with pytest.raises(ConfigError, match=r"^SearchSettings\.auxiliary_skip must be 0 in a search"):
        make_relaxation(SearchSettings(auxiliary_skip=1.0), ("relu", "tanh", "none"))


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ({"relaxation": "sigmoid", **OWN}, "with relaxation = 'sigmoid'"),
        ({"auxiliary_skip": 0.5}, r"with auxiliary_skip = 0\.5"),
    ],
)
def test_partial_channels_are_refused_where_op_weights_are_no_shares(method, part):
    with pytest.raises(ConfigError, match=r"^SearchSettings\.partial_channels must be 1 " + part):
        SearchSettings(partial_channels=4, **method)


class Squares(Relaxation):
    """p = z², for tests."""

    def op_weights(self, z, moment):
        return z**2


def test_a_registered_relaxation_says_what_settings_ask_of_it(monkeypatch):
    monkeypatch.setattr(relaxation_registry, "_REGISTRY", dict(relaxation_registry._REGISTRY))
    register_relaxation("squares", lambda *_: Squares(), sums_to_one=False, has_penalty=True)
    with pytest.raises(ConfigError, match="'squares' is registered already"):
        register_relaxation("squares", lambda *_: Squares())
    with pytest.raises(ConfigError, match=r"relaxation = 'squares' is of α's own optimizer"):
        SearchSettings(relaxation="squares")
    settings = SearchSettings(relaxation="squares", **OWN)
    assert not settings.sums_to_one and not settings.reads_logits
    np.testing.assert_array_equal(make_relaxation(settings, OPS).op_weights(Z, moment()), Z**2)
    for change in ({"progressive": "ops"}, {"partial_channels": 2}):
        with pytest.raises(ConfigError, match=r"SearchSettings\.(relaxation|partial_channels)"):
            dataclasses.replace(settings, **change)


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "sigmoid", "dirichlet"])
def test_the_entropy_is_that_of_the_mean_of_p(relaxation):
    made = make_relaxation(SearchSettings(relaxation=relaxation, **OWN), OPS)
    z = np.array([[3.0, 0, 0, 0], [-1, 2, 0.5, -3], [0, 0, 0, 0]], np.float32)
    p = made.op_weights(tf.constant(z), Moment(tf.constant(1.0), None)).numpy()
    expected = -np.sum(p * np.log(p), axis=1)
    if relaxation == "sigmoid":  # Each op is kept or not.
        expected -= np.sum((1 - p) * np.log(1 - p), axis=1)
    if relaxation == "dirichlet":  # p = (4, 1, 1, 1) / 7.
        assert expected[0] == pytest.approx(1.154, abs=1e-3)
    np.testing.assert_allclose(made.entropy(tf.constant(z)), expected, rtol=1e-5)
    # Decided, and finite, however large the logits are; all sigmoids at 1 have decided too.
    large = tf.constant([[1e4, 1e4, -1e4, -1e4] if relaxation == "sigmoid" else [1e30, 0, 0, 0]])
    decided = made.entropy(large).numpy()
    assert decided == pytest.approx(0, abs=1e-6)


def test_the_penalties_of_alpha_grow_with_the_search():
    settings = SearchSettings(entropy_penalty=2.0, beta_decay=3.0, **OWN)
    alpha = Supernet(MICRO_2, [2], inverse_temperature=4.0, search=settings).alpha
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    for node, rows in zip(alpha.logits["normal"], (values[:1], values[1:])):
        node.assign(rows)
    p = softmax(4 * values)
    entropy = -np.sum(p * np.log(p), axis=1).mean()
    decay = np.log(np.exp(values).sum(axis=1)).mean()
    for progress in (0.0, 0.5, 1.0):
        alpha.set_progress(progress)
        expected = progress * (2 * entropy + 3 * decay)
        np.testing.assert_allclose(alpha.penalty(), expected, rtol=1e-5, atol=1e-6)


def test_beta_goes_geometrically_to_its_end():
    search_settings = SearchSettings(inverse_temperature_end=20.0)
    alpha = Supernet(MICRO_2, [2], inverse_temperature=5.0, search=search_settings).alpha
    for progress, beta in ((0.0, 5.0), (0.5, 10.0), (1.0, 20.0)):
        alpha.set_progress(progress)
        assert float(alpha.inverse_temperature) == pytest.approx(beta)


def test_theta_and_alpha_learn_in_turn_after_the_warm_up():
    settings = SearchSettings(alternate=True, warm_up=0.5, **OWN)
    supernet = Supernet(MICRO_2, [2], features=4, search=settings)
    supernet(np.zeros((1, 4, 4, 1), np.float32))
    split = search.optimizer(tf.keras.optimizers.SGD(0.1), supernet)
    variables = supernet.trainable_weights
    of_alpha = {w.ref() for w in supernet.alpha.trainable_weights}

    @tf.function
    def step():
        split.apply_gradients(zip([tf.ones_like(w) for w in variables], variables))

    moved = []
    for progress in (0.0, 0.0, 0.5, 0.5, 0.5, 0.5):
        supernet.alpha.set_progress(progress)
        before = [w.numpy() for w in variables]
        step()
        moved.append(
            {w.ref() in of_alpha for w, b in zip(variables, before) if (w != b).numpy().any()}
        )
    assert moved == [{False}, {False}, {False}, {True}, {False}, {True}]


# --- ops that are left out ---------------------------------------------------------------------

BOTH = SearchSpace(
    "test_selection",
    ["conv_3x3_relu", "conv_3x3", "dil_conv_3x3", "tanh"],
    ["conv_3x3", "max_pool_3x3", "relu"],
    num_reduction=1,
    num_nodes=2,
)


@pytest.mark.parametrize(
    ("settings", "normalization"),
    [
        ({"relaxation": "gumbel"}, None),
        ({"relaxation": "gumbel_2", "unit_ops": "search"}, "layer"),
        ({"relaxation": "random"}, None),
        ({"relaxation": "random", "unit_ops": "search"}, "layer"),
    ],
)
def test_ops_that_are_left_out_change_neither_features_nor_gradients(
    float64, settings, normalization
):
    images = np.random.default_rng(0).uniform(size=(2, 9, 8, 3))
    supernet = Supernet(
        BOTH, [2], features=3, normalization=normalization, search=SearchSettings(**settings)
    )
    supernet.build((None, *images.shape[1:]))
    randomize(supernet.trainable_weights, 0)

    def step(images):
        with tf.GradientTape() as tape:
            features = supernet(images, training=True)
            loss = tf.reduce_sum(tf.sin(features))
        found = tape.gradient(loss, supernet.trainable_weights, unconnected_gradients="zero")
        return features, found

    steps = {}
    for everything in (True, False):
        supernet.computes_all_ops = everything
        steps[everything] = tf.function(step, autograph=False)
        steps[everything].get_concrete_function(tf.constant(images))
    computed = []
    for _ in range(3):
        supernet.alpha.draw()
        (expected, expected_gradients), (features, gradients) = (
            steps[everything](tf.constant(images)) for everything in (True, False)
        )
        np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-9)
        for w, a, b in zip(supernet.trainable_weights, gradients, expected_gradients):
            tolerance = 1e-6 * (1e-3 + np.abs(b).max())
            np.testing.assert_allclose(a, b, atol=tolerance, err_msg=w.name)
        computed.append(features.numpy())
    assert np.abs(computed[0] - computed[1]).max() > 1e-6  # Another sample, another network.


def test_the_cost_of_a_supernet_is_that_of_all_its_ops():
    costs = [
        count_cost(Supernet(BOTH, [2], features=3, search=settings), (8, 8, 3)).multiply_adds
        for settings in (None, SearchSettings(relaxation="gumbel"))
    ]
    assert costs[0] == costs[1]


def test_a_draw_stays_until_the_next_and_follows_the_seed():
    alphas = [
        Supernet(MICRO_2, [2], search=SearchSettings(relaxation="gumbel")).alpha for _ in range(2)
    ]
    drawn = []
    for alpha, seed in zip(alphas, (1, 2)):
        alpha.seed_draws(seed)
        weights = []
        for _ in range(4):
            alpha.draw()
            first = alpha.numpy_op_weights()["normal"]
            np.testing.assert_array_equal(alpha.numpy_op_weights()["normal"], first)
            weights.append(first)
        drawn.append(weights)
        # Under a mask, which is made for all ops of an edge, nothing is drawn.
        alpha.masking = dict
        assert alpha.selected_ops() == {"normal": None}
        np.testing.assert_allclose(alpha.numpy_op_weights()["normal"], 0.2, rtol=1e-6)
    assert len({w.tobytes() for weights in drawn for w in weights}) > 6


# --- whole cells that are drawn -----------------------------------------------------------------

RANDOM = SearchSettings(relaxation="random")
FEW_INPUTS = SearchSpace(
    "few_inputs", ("conv_3x3", "tanh"), ("max_pool_3x3",), num_reduction=1, num_nodes=3, top_k=2
)


def cell_of(alpha):
    """The genotype that stands in one-hot op weights: what has weight 1 is in the cell."""
    cells = {}
    for cell_type, p in alpha.numpy_op_weights().items():
        nodes = [[] for _ in range(alpha.space.num_nodes)]
        for (source, target), row in zip(alpha.space.edges, p):
            for op in np.flatnonzero(row == 1):
                nodes[target - 1].append((source, alpha.space.ops(cell_type)[op]))
        assert set(np.unique(p)) <= {0, 1}
        cells[cell_type] = nodes
    return Genotype.of(alpha.space, cells, output_mode=alpha.space.output_mode("concat"))


@pytest.mark.parametrize("space", [FEW_INPUTS, CHAIN_3])
def test_a_drawn_cell_is_one_of_the_space_and_is_computed_as_its_discrete_network(space):
    supernet = Supernet(space, [2], features=3, search=RANDOM)
    images = np.random.default_rng(0).uniform(size=(2, 9, 8, 3)).astype(np.float32)
    supernet.build((None, *images.shape[1:]))
    randomize(supernet.trainable_weights, 0)
    drawn = set()
    encode = tf.function(lambda x: supernet(x), autograph=False)
    for _ in range(6):
        supernet.alpha.draw()
        # A cell with too few or too many inputs, or with `none`, would be refused here.
        genotype = cell_of(supernet.alpha)
        expected = supernet.extract(genotype)(images)
        np.testing.assert_allclose(encode(images), expected, rtol=1e-4, atol=1e-6)
        drawn.add(genotype)
    assert len(drawn) > 3 and encode.experimental_get_tracing_count() == 1


def test_a_draw_is_algorithm_4_on_uniform_numbers():
    alpha = Supernet(FEW_INPUTS, [2], search=RANDOM).alpha
    for _ in range(20):
        alpha.draw()
        u = {
            t: alpha._moment(i).uniform(tf.zeros([len(FEW_INPUTS.edges), len(FEW_INPUTS.ops(t))]))
            for i, t in enumerate(FEW_INPUTS.cell_types)
        }
        assert cell_of(alpha) == discretize_strengths(
            {t: v.numpy() for t, v in u.items()}, FEW_INPUTS
        )


def test_all_cells_are_drawn_equally_often_and_their_mean_stands_where_nothing_is_drawn():
    # One input of node 1, one of two of node 2, and two ops: 2 · 4 cells.
    space = SearchSpace("eight", ("relu",), num_nodes=2, top_k=1)
    relaxation = make_relaxation(RANDOM, space.ops("normal"), space)
    z = tf.zeros([3, 3])

    @tf.function(autograph=False)
    def draws(numbers):
        return tf.map_fn(
            lambda i: relaxation.op_weights(z, Moment(tf.constant(0.0), tf.stack([i, 0]))),
            numbers,
            fn_output_signature=tf.float32,
        )

    p = draws(tf.range(8000, dtype=tf.int64)).numpy()
    cells, counts = np.unique(p, axis=0, return_counts=True)
    assert len(cells) == space.size() == 8
    # 4 standard deviations of a frequency of 1/8.
    np.testing.assert_allclose(counts / 8000, 1 / 8, atol=4 * np.sqrt(1 / 8 * 7 / 8 / 8000))
    mean = relaxation.op_weights(z, Moment(tf.constant(0.0), None))
    np.testing.assert_allclose(mean, [[1 / 2, 1 / 2, 0], *2 * [[1 / 4, 1 / 4, 0]]])
    np.testing.assert_allclose(p.mean(axis=0), mean, atol=0.02)
    with pytest.raises(ConfigError, match="draws cells of a space"):
        make_relaxation(RANDOM, space.ops("normal"))


def test_alpha_stays_where_whole_cells_are_drawn():
    supernet = Supernet(MICRO_2, [2], features=4, search=RANDOM)
    images = np.random.default_rng(0).uniform(size=(2, 6, 6, 3)).astype(np.float32)
    supernet(images)
    assert not supernet.alpha.trainable_weights
    copy = Supernet.from_config(supernet.get_config())
    assert copy.alpha.search == RANDOM and not copy.alpha.trainable_weights
    supernet.alpha.draw()
    copy(images)
    copy.set_weights(supernet.get_weights())
    np.testing.assert_array_equal(copy(images), supernet(images))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha_learning_rate", 1e-2),
        ("edge_normalization", True),
        ("auxiliary_skip", 1.0),
        ("inverse_temperature_end", 20.0),
        ("stop_by", "parameter_free"),
        ("smoothing", 0.1),
        ("cost", {"weight": 0.1}),
    ],
)
def test_settings_of_a_trained_alpha_are_refused_where_whole_cells_are_drawn(name, value):
    with pytest.raises(ConfigError, match=rf"^SearchSettings\.{name} must .*relaxation = 'random'"):
        SearchSettings(relaxation="random", **{name: value})


# --- partial channels ---------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [False, True])
def test_a_cell_of_partial_channels_by_hand(traced):
    topology = dense_topology(("relu", "none"), 2)
    cell = Cell(topology, 4, stride=2, output_mode="last", op_columns=("relu", "none"), partial=2)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32))
    p = tf.constant([[0.3, 0.2], [0.4, 0.4], [0.1, 0.9]])

    def by_hand(x, p):
        average = tf.nn.relu(tf.nn.avg_pool2d(x[..., :2], 3, 2, "SAME"))
        largest = tf.nn.max_pool2d(x[..., 2:], 2, 2, "SAME")
        w = tf.reduce_sum(p, axis=1)
        first = shuffled(p[0, 0] * average, w[0] * largest)
        mixed = p[1, 0] * average + p[2, 0] * tf.nn.relu(first[..., :2])
        return shuffled(mixed, w[1] * largest + w[2] * first[..., 2:])

    def shuffled(mixed, beside):
        return tf.gather(tf.concat([mixed, beside], axis=-1), [0, 2, 1, 3], axis=-1)

    def with_gradients(function):
        with tf.GradientTape() as tape:
            tape.watch([x, p])
            y = function(x, p)
            loss = tf.reduce_sum(y**3)
        return [y, *tape.gradient(loss, [x, p])]

    cell(x, p)  # Makes variables, which no trace may.
    found = tf.function(with_gradients)(cell) if traced else with_gradients(cell)
    for actual, expected in zip(found, with_gradients(by_hand)):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_channels_that_do_not_part_are_refused():
    with pytest.raises(ConfigError, match="multiple of partial"):
        Cell(dense_topology(("relu", "none"), 2), 6, partial=4)


def test_edge_normalization_multiplies_p_and_counts_in_the_cell_that_is_read_off():
    settings = SearchSettings(edge_normalization=True, **OWN)
    alpha = Supernet(MICRO_2, [2], inverse_temperature=1.0, search=settings).alpha
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    for node, rows in zip(alpha.logits["normal"], (values[:1], values[1:])):
        node.assign(rows)
    alpha.edge_logits["normal"][1].assign([2.0, -1.0])
    shares = np.array([1.0, *softmax(np.array([2.0, -1.0]))])
    p = shares[:, None] * softmax(values)
    np.testing.assert_allclose(alpha.op_weights()["normal"], p, rtol=1e-5)
    assert len(alpha.trainable_weights) == 4
    ranked = softmax(alpha.numpy_logits()["normal"])
    np.testing.assert_allclose(ranked[:, :-1], p[:, :-1], rtol=1e-5)


@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid", "dirichlet"])
def test_with_edge_normalization_the_cell_is_that_of_the_largest_products(relaxation):
    method = {"relaxation": relaxation, "edge_normalization": True, **OWN}
    space = SearchSpace("products", OPS[:2], num_nodes=3, top_k=1)
    supernet = Supernet(space, [2], features=2, search=method)
    rng = np.random.default_rng(0)
    for _ in range(20):
        for v in supernet.alpha.trainable_weights:
            v.assign(rng.normal(size=v.shape))
        weights = supernet.alpha.lasting_op_weights()
        expected = discretize_strengths({t: p.numpy() for t, p in weights.items()}, space)
        assert supernet.discretize() == expected


@pytest.mark.parametrize(
    "method",
    [
        {"relaxation": "gumbel"},
        {"relaxation": "dirichlet", **OWN},
        {"smoothing": 0.3},
        {"auxiliary_skip": 1.0},
    ],
)
def test_what_is_told_of_a_search_is_not_that_of_a_draw_or_of_an_auxiliary_skip(method):
    supernet = Supernet(MICRO_2, [4], features=2, search=method)
    images = tf.random.stateless_uniform([2, 6, 6, 3], (0, 0))
    supernet(images)
    told = []
    for progress in (0.0, 0.5, 1.0):
        supernet.alpha.draw()
        supernet.alpha.set_progress(progress)
        weights = supernet.alpha.lasting_op_weights()["normal"].numpy()
        told.append((weights, contributions(supernet, images)["normal"].numpy()))
    for weights, shares in told:
        np.testing.assert_array_equal(weights, told[0][0])
        np.testing.assert_array_equal(shares, told[0][1])
    np.testing.assert_allclose(told[0][0], 1 / 5, rtol=1e-6)


@pytest.mark.parametrize("relaxation", ["gumbel", "random"])
def test_batch_normalization_is_refused_where_drawn_ops_alone_are_computed(relaxation):
    with pytest.raises(ConfigError, match=r"^normalization: 'batch' needs all channels"):
        Supernet("micro", [4], normalization="batch", search={"relaxation": relaxation})


# --- what a search stands for, in place of what was drawn --------------------------------------


@pytest.mark.parametrize("relaxation", ["gumbel", "gumbel_2"])
def test_hard_ops_settle_on_the_strongest_that_is_not_none_and_compute_it_alone(relaxation):
    relaxation = make_relaxation(SearchSettings(relaxation=relaxation), OPS)
    z = tf.constant(
        [
            [0.0, 1.0, -1.0, 0.5],
            [0.2, 0.1, 0.3, 9.0],  # `none` is no op of a cell
            [LEFT_OUT, LEFT_OUT, LEFT_OUT, 1.0],  # a closed edge
            [LEFT_OUT, -2.0, LEFT_OUT, LEFT_OUT],  # a fixed one
        ]
    )
    now = moment(0.5, draw=3)
    expected = np.eye(4)[[1, 2, 3, 1]]
    assert not np.array_equal(relaxation.op_weights(z[:2], now), expected[:2])
    settled = now._replace(settled=True)
    np.testing.assert_array_equal(relaxation.op_weights(z, settled), expected)
    np.testing.assert_array_equal(relaxation.selected(z, settled), expected[None] == 1)


def test_what_is_disturbed_settles_on_its_mean_and_an_auxiliary_skip_stays():
    settled = moment(0.5)._replace(settled=True)
    smooth = make_relaxation(SearchSettings(smoothing=0.3), OPS)
    np.testing.assert_allclose(smooth.op_weights(Z, settled), softmax(Z.numpy()), rtol=1e-6)
    drawn = make_relaxation(SearchSettings(relaxation="dirichlet", **OWN), OPS)
    c = np.where(Z > 0, Z + 1, np.exp(np.minimum(Z, 0)))
    mean = c / c.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(drawn.op_weights(Z, settled), mean, rtol=1e-6)
    beside = make_relaxation(SearchSettings(relaxation="gumbel", auxiliary_skip=1.0), OPS)
    expected = np.eye(4)[[1, 0]] + [0, 0, 0.5, 0]
    np.testing.assert_array_equal(beside.op_weights(Z, settled), expected)


def test_a_settled_chain_computes_what_its_cell_does_and_draws_go_on_as_before():
    supernet = Supernet(CHAIN_3, [2, 3], features=4, search={"relaxation": "gumbel"})
    images = tf.random.stateless_uniform([2, 6, 6, 3], (0, 0))
    supernet(images)
    alpha = supernet.alpha
    for node in alpha.logits["chain"]:
        node.assign([[0.0, 0.1, 0.2]])
    drawn = [(alpha.draw(), alpha.numpy_op_weights()["chain"])[1] for _ in range(4)]
    assert not all(p[:, 2].all() for p in drawn)
    alpha.draws.assign(0)
    traced = tf.function(search.settled(supernet)(supernet), autograph=False)
    for p in drawn:
        alpha.draw()
        features = traced(images)
        np.testing.assert_allclose(features, supernet.extract()(images), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(alpha.numpy_op_weights()["chain"], p)
    mean = softmax(5.0 * np.array([0.0, 0.1, 0.2]))  # β is 5
    with search.settled(supernet):
        np.testing.assert_array_equal(alpha.numpy_op_weights()["chain"][:, 2], 1)
        # A mask chooses among all ops of an edge; a cost is that of the mean.
        np.testing.assert_allclose(alpha.mean_op_weights()["chain"][0], mean, rtol=1e-6)
        alpha.masking = dict
        np.testing.assert_allclose(alpha.op_weights()["chain"][0], mean, rtol=1e-6)
        assert alpha.selected_ops() == {"chain": None}


def test_samples_and_partial_channels_go_together(float64):
    settings = SearchSettings(relaxation="gumbel", partial_channels=2, edge_normalization=True)
    supernet = Supernet(BOTH, [4], features=3, search=settings)
    images = np.random.default_rng(0).uniform(size=(2, 9, 8, 3))
    supernet.build((None, *images.shape[1:]))
    randomize(supernet.trainable_weights, 0)
    supernet.alpha.draw()
    features = []
    for everything in (True, False):
        supernet.computes_all_ops = everything
        features.append(supernet(images).numpy())
    np.testing.assert_allclose(*features, rtol=1e-6, atol=1e-9)
    with pytest.raises(ConfigError, match="partial_channels"):
        supernet.extract()
