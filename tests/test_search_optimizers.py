"""α's own optimizer: the same numbers as a plain one, in every agent."""

from __future__ import annotations

from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
from learner_paths import PATHS, PPOPath
from spaces import MICRO_2

from rldarts_tf import ConfigError, ImpalaCNN, Supernet, search
from rldarts_tf.launch import gin_files
from rldarts_tf.search import SearchSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

SEARCHES = Path(__file__).resolve().parents[1] / "gin" / "searches"
OWN = SearchSettings(alpha_learning_rate=1e-2, alpha_weight_decay=0.1)


def built(settings=None, **options):
    tf.keras.utils.set_random_seed(0)
    supernet = Supernet(MICRO_2, [2], features=4, search=settings, **options)
    supernet(np.zeros((1, 4, 4, 1), np.float32))
    return supernet


def gradients_of(variables, seed=0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=w.shape), w.dtype) for w in variables]


def values(variables):
    return [w.numpy() for w in variables]


def assert_all_close(found, expected):
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_by_default_the_optimizer_is_returned_as_it_is():
    adam = tf.keras.optimizers.Adam(1e-3)
    assert search.optimizer(adam, built()) is adam
    assert search.optimizer(adam, ImpalaCNN([2])) is adam
    assert built().alpha.progress is None and "search" not in built().get_config()


@pytest.mark.parametrize("kind", ["keras", "sonnet"])
def test_alpha_moves_by_the_adam_of_darts_and_theta_by_its_own(kind):
    supernet = built(OWN)
    alpha = supernet.alpha.trainable_weights
    is_alpha = {w.ref() for w in alpha}
    theta = [w for w in supernet.trainable_weights if w.ref() not in is_alpha]
    for w in alpha:
        w.assign(tf.ones_like(w))
    expected_alpha, expected_theta = ([tf.Variable(w) for w in part] for part in (alpha, theta))
    adam = tf.keras.optimizers.Adam(1e-2, beta_1=0.5, beta_2=0.999, epsilon=1e-8)
    of_theta = tf.keras.optimizers.SGD(0.5)
    if kind == "keras":
        split = search.optimizer(tf.keras.optimizers.SGD(0.5), supernet)
    else:
        snt = pytest.importorskip("sonnet")
        split = search.optimizer(snt.optimizers.SGD(0.5), supernet)
    for step in range(3):
        gradients = dict(zip(is_alpha, gradients_of(alpha, step)))
        gradients.update((w.ref(), g) for w, g in zip(theta, gradients_of(theta, 10 + step)))
        variables = supernet.trainable_weights
        found = [gradients[w.ref()] for w in variables]
        if kind == "keras":
            split.apply_gradients(zip(found, variables))
        else:
            split.apply(found, variables)
        # The L2 penalty of PyTorch's Adam: λ α is added to the gradient.
        adam.apply_gradients(
            (gradients[w.ref()] + 0.1 * e, e) for w, e in zip(alpha, expected_alpha)
        )
        of_theta.apply_gradients((gradients[w.ref()], e) for w, e in zip(theta, expected_theta))
    assert_all_close(values(alpha), values(expected_alpha))
    assert_all_close(values(theta), values(expected_theta))


def test_alpha_rests_in_the_warm_up_and_leaves_no_moments():
    supernet = built(SearchSettings(alpha_learning_rate=1e-2, warm_up=0.5))
    split = search.optimizer(tf.keras.optimizers.SGD(0.1), supernet)
    variables = supernet.trainable_weights

    @tf.function
    def step():
        split.apply_gradients(zip([tf.ones_like(w) for w in variables], variables))

    for progress, moves in ((0.0, False), (0.49, False), (0.5, True)):
        supernet.alpha.set_progress(progress)
        before = values(variables)
        step()
        alpha = {w.ref() for w in supernet.alpha.trainable_weights}
        for w, old in zip(variables, before):
            assert np.any(w.numpy() != old) == (moves or w.ref() not in alpha)
    # The first step of Adam is as long as its learning rate, whatever came before.
    np.testing.assert_allclose(supernet.alpha.logits["normal"][0], -1e-2, rtol=1e-4)


def test_the_kernels_of_a_supernet_decay_and_nothing_else():
    supernet = built(SearchSettings(theta_weight_decay=0.5))
    head = tf.keras.layers.Dense(2)
    head(supernet(np.zeros((1, 4, 4, 1), np.float32)))
    variables = [*supernet.trainable_weights, *head.trainable_weights]
    for w in variables:
        w.assign(tf.ones_like(w))
    split = search.optimizer(tf.keras.optimizers.SGD(0.1), supernet)
    split.apply_gradients((tf.zeros_like(w), w) for w in variables)
    alpha = {w.ref() for w in supernet.alpha.trainable_weights}
    decayed = [w for w in supernet.trainable_weights if w.ref() not in alpha and w.shape.rank > 1]
    assert len(decayed) >= 4
    refs = {w.ref() for w in decayed}
    for w in variables:
        np.testing.assert_allclose(w, 0.95 if w.ref() in refs else 1.0, rtol=1e-6)


def test_the_warm_up_of_an_optimizer_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"SearchSettings\.warm_up.*alpha_learning_rate"):
        SearchSettings(warm_up=0.25)


def test_supernets_of_one_optimizer_have_one_method():
    one, other = (
        Supernet("micro", [2], features=2, search={"alpha_learning_rate": rate})
        for rate in (1e-2, 1e-3)
    )
    with pytest.raises(ConfigError, match="SearchSettings: supernets that one optimizer trains"):
        search.optimizers.SearchOptimizer([one, other])


def test_an_alpha_that_is_not_trained_takes_no_turns():
    method = {"alpha_learning_rate": 1e-2, "alternate": True}
    supernet = Supernet("micro", [2], features=2, train_alpha=False, search=method)
    found, moved = search.optimizers.SearchOptimizer([supernet]), []
    for step in range(4):
        found.step([], [], 0.1, lambda step=step: moved.append(step))
    assert moved == [0, 1, 2, 3]


def test_a_search_method_is_saved_with_the_supernet(tmp_path):
    supernet = built(OWN)
    supernet.alpha.set_progress(0.25)
    copy = Supernet.from_config(supernet.get_config())
    assert copy.alpha.search == OWN
    supernet.save(tmp_path / "supernet.keras")
    loaded = tf.keras.models.load_model(tmp_path / "supernet.keras")
    assert loaded.alpha.search == OWN and float(loaded.alpha.progress) == 0.25


@pytest.mark.parametrize("name", ["ppo", "rainbow", "sac"])
def test_every_agent_trains_theta_as_before_and_alpha_by_its_own_adam(name, tmp_path):
    found = {}
    for settings in (None, SearchSettings(alpha_learning_rate=0.5, alpha_weight_decay=0.0)):
        tf.keras.utils.set_random_seed(0)
        path = PATHS[name](Supernet(MICRO_2, [2], features=8, search=settings))
        path.encoder.alpha.set_progress(0.5)
        path.step()
        alpha = {w.ref() for w in path.encoder.alpha.trainable_weights}
        weights = path.encoder.trainable_weights
        found[settings] = [w.numpy() for w in weights if w.ref() not in alpha]
    assert_all_close(*found.values())
    moved = np.concatenate([np.ravel(w) for w in path.encoder.alpha.trainable_weights])
    assert np.count_nonzero(moved) > 0.7 * moved.size
    np.testing.assert_allclose(np.abs(moved[moved != 0]), 0.5, rtol=1e-2)
    # A checkpoint has the moments of α, and the clock.
    file = tf.train.Checkpoint(**path.trackables).write(str(tmp_path / "ckpt"))
    keys = [key for key, _ in tf.train.list_variables(file)]
    assert sum("/moments/" in key for key in keys) == 2 * len(alpha)
    assert any("progress" in key for key in keys)


def test_gin_gives_the_search_its_method_and_names_none_by_default():
    gin_files.load(["minatar.gin"])
    gin_files.resolve(TrainingSettings)
    assert gin_files.search_settings() == SearchSettings()
    assert "SearchSettings" not in gin.operative_config_str()
    gin_files.load(["minatar.gin", "searches/own_optimizer.gin"])
    found = gin_files.search_settings()
    assert found == SearchSettings(
        alpha_learning_rate=3e-3, warm_up=0.25, theta_weight_decay=0.1, record_contributions=True
    )
    assert type(found) is SearchSettings
    gin_files.load(["minatar.gin"], ["evaluate/SearchSettings.warm_up = 0.5"])
    with pytest.raises(ConfigError, match="only the search has a search method"):
        gin_files.search_settings()
    gin_files.load(["minatar.gin"], ["SearchSettings.warm_up = 0.5"])
    with pytest.raises(ConfigError, match=r"SearchSettings\.warm_up = 0\.5 is of"):
        gin_files.search_settings()
    gin.clear_config()


def test_the_entropy_bonus_trains_theta_and_not_alpha_where_they_alternate():
    # With no reward and no value loss the bonus is all there is to learn from.
    def path(coefficient):
        tf.keras.utils.set_random_seed(0)
        own = SearchSettings(alpha_learning_rate=0.5, alpha_weight_decay=0.0, alternate=True)
        made = PPOPath(Supernet(MICRO_2, [2], features=8, search=own))
        made.agent._entropy_regularization = coefficient
        return made

    with_bonus, without = path(1e3), path(0.0)
    for made in (with_bonus, without):
        made.step()
    theta = [made.encoder.cells[0].get_weights() for made in (with_bonus, without)]
    assert not np.array_equal(theta[0][0], theta[1][0])
    without.encoder.set_weights(with_bonus.encoder.get_weights())
    for mine, theirs in zip(without.head, with_bonus.head):
        mine.assign(theirs)
    for made in (with_bonus, without):
        made.step()
    of_alpha = [values(made.encoder.alpha.trainable_weights) for made in (with_bonus, without)]
    assert np.any(of_alpha[0][0] != 0)
    assert_all_close(*of_alpha)


@pytest.mark.parametrize("relaxation", ["gumbel", "dirichlet"])
def test_an_agent_learns_with_samples_and_its_target_network_has_them(relaxation):
    settings = SearchSettings(relaxation=relaxation, alpha_learning_rate=0.5)
    path = PATHS["sac"](Supernet(MICRO_2, [2], features=8, search=settings))
    for _ in range(3):
        path.step()
    assert int(path.encoder.alpha.draws) == 3
    (target,) = search.supernets(path.learner._target_critics)
    assert target is not path.encoder and int(target.alpha.draws) == 2
    assert np.any(path.encoder.alpha.logits["normal"][1].numpy() != 0)


@pytest.mark.parametrize("file", sorted(path.name for path in SEARCHES.glob("*.gin")))
def test_every_overlay_of_a_search_gives_a_method_that_a_supernet_can_have(file):
    gin_files.load(["minatar.gin", f"searches/{file}"])
    (options,) = gin_files.resolve(EncoderSettings)["search"]
    found = gin_files.search_settings()
    gin.clear_config()
    assert not found.is_default
    supernet = options.make("supernet", search=found)
    assert supernet.alpha.search == found
    # Sigmoid, Gumbel and Dirichlet take α as it is.
    alone = found.relaxation != "softmax"
    assert options.inverse_temperature == (1.0 if alone else 5.0)
    page = (SEARCHES.parents[1] / "docs" / "searching.md").read_text("utf-8")
    assert f"`{file}`" in page
