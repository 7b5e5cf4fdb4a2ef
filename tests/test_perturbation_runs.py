"""Discretization by perturbation of a search of Catch: masks, episodes, the command, resuming."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import tensorflow as tf
from spaces import CLASSIC_2
from trained_runs import trained_stage
from trainings import TINY, registers

from rldarts_tf import commands
from rldarts_tf.encoders import Supernet
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.export.policies import load_policy
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.decisions import decide
from rldarts_tf.perturbation.log import DecisionLog
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.returns import PairedReturns
from rldarts_tf.perturbation.selection import Selection, Weights
from rldarts_tf.runs.paths import find_checkpoint
from rldarts_tf.search_space import SearchSpace
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.settings import EncoderSettings

SPACE = SearchSpace("perturbed_catch", ("conv_3x3",), num_nodes=2, top_k=1)
EVALUATIONS = 3 * 2 + 2
ENCODER = EncoderSettings(SPACE.name, [2], features=8)

registered = registers(SPACE)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run directory whose search has made an update."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with trained_stage(folder, "search", TINY["ppo"], ENCODER, CatchSuite(CatchSettings(6, 5))):
        pass
    return folder


def digests(folder):
    """The content of all files but those of discretizations and the lock."""
    return {
        path.relative_to(folder): hashlib.md5(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "discretize" not in path.parts and path.name != ".lock"
    }


def discretized(*argv):
    """Runs the command in this process; returns its exit code."""
    return commands.main(["discretize", *map(str, argv)])


# --- masks --------------------------------------------------------------------------------------


def test_a_mask_changes_the_op_weights_and_nothing_that_is_saved():
    supernet = Supernet(CLASSIC_2, [2], features=4)
    images = tf.random.uniform([2, 8, 8, 3])
    before, variables = supernet(images), [v.name for v in supernet.variables]
    config = supernet.get_config()
    rng = np.random.default_rng(0)
    p = supernet.alpha.numpy_op_weights()
    weights = {
        t: Weights(*rng.uniform(size=(2, *q.shape)).astype(np.float32)) for t, q in p.items()
    }
    mask = Mask(CLASSIC_2)
    encode = tf.function(lambda x: supernet(x), autograph=False)
    with masked({"encoder": supernet, "no module": 3}, mask):
        np.testing.assert_array_equal(encode(images), before)
        mask.assign(weights)
        for cell_type, q in supernet.op_weights().items():
            keep, fixed = weights[cell_type]
            np.testing.assert_allclose(q, keep * p[cell_type] + fixed, rtol=1e-6)
        assert np.abs(encode(images) - before).max() > 1e-3
        assert encode.experimental_get_tracing_count() == 1
        assert [v.name for v in supernet.variables] == variables
        assert supernet.get_config() == config
        with tf.GradientTape() as tape:
            features = supernet(images)
        gradients = tape.gradient(features, supernet.alpha.trainable_weights)
        assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    np.testing.assert_allclose(supernet(images), before, rtol=1e-6)


def test_what_is_left_when_all_is_decided_is_the_discrete_network():
    supernet = Supernet(CLASSIC_2, [2], features=4)
    images = tf.random.uniform([2, 8, 8, 3])
    supernet(images)
    selection, rng = Selection(CLASSIC_2), np.random.default_rng(0)
    while (question := selection.question()) is not None:
        selection.take(decide(question, rng.normal(size=(len(question.candidates), 2))))
    mask = Mask(CLASSIC_2)
    mask.assign(selection.weights())
    with masked({"encoder": supernet}, mask):
        network = supernet.extract(selection.genotype())
        np.testing.assert_allclose(supernet(images), network(images), rtol=1e-5, atol=1e-6)


# --- episodes -----------------------------------------------------------------------------------


def plain_returns(policy, num_episodes, seed):
    """The first episode of each environment, in which all of them act until the last has ended."""
    seed = derived_seed(seed, "paired episodes 0")
    environment = policy.suite.make(num_episodes, seed)
    rng = np.random.default_rng(seed)
    step, returns = environment.reset(), {}
    while len(returns) < num_episodes:
        logits = policy.outputs(tf.constant(step.observation))["logits"].numpy()
        actions = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.int32)
        step = environment.step(actions)
        finished = environment.episodes.take()
        for i, value in zip(finished.environments, finished.returns):
            returns.setdefault(int(i), value)
    return np.array([returns[i] for i in range(num_episodes)])


def test_episodes_are_the_same_for_the_same_policy_and_those_of_a_plain_loop(root):
    policy = load_policy(root, "search")
    play = PairedReturns(policy, 70, seed=3)
    first = play()
    np.testing.assert_array_equal(play(), first)
    assert first.shape == (70,) and set(first) == {-1.0, 1.0}
    np.testing.assert_array_equal(first[:64], plain_returns(policy, 64, seed=3))
    assert play.environment_steps == 2 * 70 * 5
    assert play._choose.experimental_get_tracing_count() == 1
    assert (PairedReturns(policy, 70, seed=4)() != first).any()
    # Stopped before the ball is down: nothing is won or lost.
    assert not PairedReturns(policy, 4, max_steps=3)().any()


# --- the command --------------------------------------------------------------------------------


def test_a_discretization_goes_on_from_what_was_decided(root, tmp_path, capsys):
    before = digests(root)
    output = tmp_path / "found.json"
    argv = (root, "--by=return", "--episodes=8", f"--output={output}")
    assert discretized(*argv) == 0
    out, err = capsys.readouterr()
    assert out == f"{output}\n" and f"{EVALUATIONS}/{EVALUATIONS} evaluations" in err
    folder = root / "discretize" / "return"
    genotype = Genotype.load(output)
    assert Genotype.load(folder / "genotype.json") == genotype and genotype.space == SPACE
    decided, shown = (folder / "decisions.json").read_text(), (folder / "decisions.csv").read_text()
    assert shown.count("\n") == 1 + EVALUATIONS
    # As if the process had been killed after two decisions.
    content = json.loads(decided)
    content["decisions"], content["references"] = content["decisions"][:2], {}
    (folder / "decisions.json").write_text(json.dumps(content))
    assert discretized(*argv) == 0
    assert f"{EVALUATIONS - 4}/{EVALUATIONS - 4} evaluations" in capsys.readouterr().err
    assert (folder / "decisions.json").read_text() == decided
    assert discretized(*argv[:2], "--episodes=9") == 2
    assert "episodes: 8 -> 9" in capsys.readouterr().err
    assert digests(root) == before


def test_fine_tuning_goes_on_from_its_own_checkpoint(root, tmp_path, monkeypatch, capsys):
    before = digests(root)
    argv = (root, "--by=return", "--episodes=2", "--fine_tune_steps=1", f"--work_dir={tmp_path}")
    add = DecisionLog.add

    def add_and_die(log, decision):
        add(log, decision)
        if len(log.decisions) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DecisionLog, "add", add_and_die)
        discretized(*argv)
    assert discretized(*argv) == 0
    made = len(json.loads((tmp_path / "decisions.json").read_text())["decisions"])
    policy = load_policy(root, "search")
    searched = [v.numpy() for v in policy.encoder.trainable_variables]
    policy.restore(tmp_path / "checkpoints" / f"ckpt-{made}")
    tuned = policy.encoder.trainable_variables
    assert all((a != b.numpy()).any() for a, b in zip(searched, tuned) if "output_conv" in b.name)
    # Each decision was followed by one update, of 32 steps.
    last = tmp_path / "checkpoints" / f"ckpt-{made}"
    [trained, tuned] = [
        tf.train.load_checkpoint(str(path)).get_tensor("train_step/.ATTRIBUTES/VARIABLE_VALUE")
        for path in (find_checkpoint(root / "search" / "checkpoints"), last)
    ]
    assert tuned - trained == made * TINY["ppo"].gradient_steps
    assert digests(root) == before


BAD = {
    "no run": (("nowhere", "--by=return"), "'nowhere' is no run directory"),
    "a step that there is not": (("RUN", "--by=return", "--step=7"), "step 7"),
    "one episode": (("RUN", "--by=return", "--episodes=1"), "episodes must be an integer of at"),
    "caps that leave nothing": (("RUN", "--by=return", "--max_parameter_free=-1"), "at least 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it(case, root, capsys):
    argv, message = BAD[case]
    assert discretized(*(root if argument == "RUN" else argument for argument in argv)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
