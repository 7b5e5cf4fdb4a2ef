"""Discretization by perturbation of a search of Catch: masks, episodes, the command, resuming."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import tensorflow as tf
from readme import DISCRETIZATION, marked_block
from spaces import CLASSIC_2
from trained_runs import trained_stage
from trainings import TINY, registers

from rldarts_tf import commands
from rldarts_tf.discretization import discretize_strengths
from rldarts_tf.encoders import Supernet
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.export.playing import visited
from rldarts_tf.export.policies import load_policy, read_stage
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.perturbation.agent import SearchAgent
from rldarts_tf.perturbation.decisions import decide
from rldarts_tf.perturbation.inherited import one_hot
from rldarts_tf.perturbation.log import DecisionLog
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.returns import PairedReturns
from rldarts_tf.perturbation.selection import Selection, Weights
from rldarts_tf.runs.budget import read_budget
from rldarts_tf.runs.paths import RunPaths, find_checkpoint
from rldarts_tf.search import contributions
from rldarts_tf.search_space import SearchSpace
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.settings import EncoderSettings

SPACE = SearchSpace("perturbed_catch", ("conv_3x3",), num_nodes=2, top_k=1)
EVALUATIONS = 3 * 2 + 2
SELECTION = Selection(SPACE)
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
    supernet = Supernet(CLASSIC_2, [8], features=8)
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
        np.testing.assert_allclose(encode(images), before, rtol=1e-5, atol=1e-6)
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
    np.testing.assert_array_equal(supernet(images), before)


def test_what_is_left_when_all_is_decided_is_the_discrete_network():
    supernet = Supernet(CLASSIC_2, [8], features=8)
    images = tf.random.uniform([2, 8, 8, 3])
    supernet(images)
    selection, rng = Selection(CLASSIC_2), np.random.default_rng(0)
    while (question := selection.question()) is not None:
        selection.take(decide(question, rng.normal(size=(len(question.candidates), 2))))
    mask, genotype = Mask(CLASSIC_2), selection.genotype()
    expected = supernet.extract(genotype)(images)
    with masked({"encoder": supernet}, mask):
        for weights in (selection.weights(), one_hot(genotype, CLASSIC_2)):
            mask.assign(weights)
            np.testing.assert_allclose(supernet(images), expected, rtol=1e-5, atol=1e-6)


def test_the_documented_loop_gives_a_cell():
    supernet = Supernet(SPACE, [2], features=4)
    asked = []
    namespace = {"supernet": supernet, "returns_of_my_agent": lambda: asked.append(0) or np.ones(2)}
    exec(marked_block("perturbation", DISCRETIZATION), namespace)
    # Equals go to what stands first: the convolution, and of the inputs the first is deleted.
    assert namespace["genotype"].cells["normal"] == (((0, "conv_3x3"),), ((1, "conv_3x3"),))
    assert len(asked) == EVALUATIONS


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
    # The supernet, every candidate and what is left: 8 episodes of 5 steps each.
    assert read_budget(folder).environment_steps == (1 + EVALUATIONS + 1) * 8 * 5
    decided, shown = (folder / "decisions.json").read_text(), (folder / "decisions.csv").read_text()
    assert shown.count("\n") == 1 + EVALUATIONS
    # As if the process had been killed after two decisions.
    content = json.loads(decided)
    content["decisions"], content["references"] = content["decisions"][:2], {}
    (folder / "decisions.json").write_text(json.dumps(content))
    assert discretized(*argv) == 0
    assert f"{EVALUATIONS - 4}/{EVALUATIONS - 4} evaluations" in capsys.readouterr().err
    assert (folder / "decisions.json").read_text() == decided
    measured = (1 + EVALUATIONS + 1) + (1 + EVALUATIONS - 4 + 1)
    assert read_budget(folder).environment_steps == measured * 8 * 5
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
    # An update has 32 steps, of which one in six begins an episode; and what was played beside.
    spent = read_budget(tmp_path).environment_steps
    assert spent >= made * 4 * 6 + 2 * 5 * (1 + EVALUATIONS + 1)
    assert digests(root) == before


# --- held-out experience ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(root, tmp_path_factory):
    """The agent of the search, and its mask."""
    mask, folder = Mask(SPACE), tmp_path_factory.mktemp("agent")
    stage_dir = RunPaths(root).stage("search")
    with SearchAgent(read_stage(root, "search"), mask, stage_dir, folder, 0, seed=1) as agent:
        yield agent, mask


def test_the_held_out_loss_is_that_of_value_and_entropy_until_something_is_masked(agent):
    searched, _ = agent
    program, settings = searched._program, TINY["ppo"]
    before = {name: value.copy() for name, value in program.state().items()}
    with program.held_out(seed=5) as held_out:
        experience = held_out.collect(3)
        assert experience.reward.shape == (3, settings.minibatch_size, 1)
        losses = held_out.losses(experience).numpy()
    info = tf.nest.map_structure(lambda x: x.numpy().astype(np.float64), experience.policy_info)
    log_p = info["dist_params"]["logits"]
    log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    entropy = -(np.exp(log_p) * log_p).sum(axis=-1).mean()
    squares = (info["return"] - info["value_prediction"]) ** 2
    advantages = info["advantage"] - info["advantage"].mean()
    # The ratio is 1, and nothing is clipped: of the policy's loss minus the advantage is left.
    expected = (
        settings.value_coefficient * squares.mean(axis=(1, 2))
        - settings.entropy_coefficient * entropy
        - advantages.mean(axis=(1, 2)) / info["advantage"].std()
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=2e-4)
    for name, value in program.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_the_loss_is_asked_for_without_a_new_trace_and_a_mask_changes_it(agent):
    searched, mask = agent
    value = searched.held_out_loss(2)
    whole = value()
    nothing = np.zeros_like(SELECTION.weights()["normal"].keep)
    mask.assign({"normal": Weights(nothing, nothing)})
    assert (value() != whole).all() and value().shape == (2,)
    mask.assign(SELECTION.weights())
    np.testing.assert_array_equal(value(), whole)
    assert value._losses.experimental_get_tracing_count() == 1


def test_a_search_is_discretized_by_loss_and_by_contribution(root, tmp_path, capsys):
    before = digests(root)
    loss = (root, "--by=loss", "--minibatches=2", f"--work_dir={tmp_path}")
    assert discretized(*loss) == 0
    assert f"evaluations             {EVALUATIONS}" in capsys.readouterr().err
    assert Genotype.load(tmp_path / "genotype.json").space == SPACE
    # Of 4 environments: 32 collections of 8 steps until episodes are mixed, and 2 for 32
    # transitions. Of 6 steps one begins an episode.
    assert read_budget(tmp_path).environment_steps == 4 * (34 * 8 - 34 * 8 // 6)
    output = tmp_path / "contribution.json"
    assert discretized(root, "--by=contribution", "--states=40", f"--output={output}") == 0
    assert "40 states" in capsys.readouterr().err
    supernet = load_policy(root, "search").encoder
    strengths = contributions(supernet, visited(load_policy(root, "search"), 40))
    assert Genotype.load(output) == discretize_strengths(strengths, SPACE)
    # trained_stage has left a cell of the run; it may be replaced until it has been evaluated.
    (tmp_path / "run" / "evaluate").mkdir(parents=True)
    other = random_genotype(CLASSIC_2, 0)
    other.save(tmp_path / "run" / "genotype.json")
    kept = (tmp_path / "run" / "genotype.json").read_bytes()
    argv = (root, f"--output={tmp_path / 'run' / 'genotype.json'}")
    assert discretized(*argv) == 2
    assert "holds an evaluation of another cell" in capsys.readouterr().err
    assert (tmp_path / "run" / "genotype.json").read_bytes() == kept
    assert digests(root) == before


# --- whole cells --------------------------------------------------------------------------------


def test_cells_are_ranked_with_the_weights_of_the_supernet(root, tmp_path, capsys):
    argv = [root, "--by=evolution", "--episodes=8", f"--work_dir={tmp_path}"]
    assert discretized(*argv, "--cells=3") == 0
    capsys.readouterr()
    few = json.loads((tmp_path / "ranking.json").read_text())["cells"]
    assert discretized(*argv, "--cells=6") == 0
    err = capsys.readouterr().err
    many = json.loads((tmp_path / "ranking.json").read_text())["cells"]
    assert many[: len(few)] == few and f"{len(many)}/6 cells" in err
    best = max(many, key=lambda cell: cell["mean"])
    assert Genotype.load(tmp_path / "genotype.json") == Genotype.from_dict(best["genotype"])
    # The mean is that of the cell's own network.
    policy, mask = load_policy(root, "search"), Mask(SPACE)
    play = PairedReturns(policy, 8)
    mask.assign(one_hot(Genotype.from_dict(best["genotype"]), SPACE))
    with masked({"policy": policy.encoder}, mask):
        assert play().mean() == best["mean"]
    (tmp_path / "ranking.json").write_text("{}")
    assert discretized(*argv) == 2
    assert "holds no ranking" in capsys.readouterr().err


def test_the_best_cells_of_a_ranking_are_files_and_its_budget_adds_up(root, tmp_path, capsys):
    work, output = tmp_path / "work", tmp_path / "cell.json"
    argv = [root, "--by=random", "--episodes=8", f"--work_dir={work}", f"--output={output}"]
    assert discretized(*argv, "--cells=3", "--best=2") == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(output), str(tmp_path / "cell-02.json")]
    cells = json.loads((work / "ranking.json").read_text())["cells"]
    # An episode of this game has 5 steps.
    steps = len(cells) * 8 * 5
    assert json.loads((work / "budget.json").read_text())["environment_steps"] == steps
    assert re.search(rf"environment steps +{steps}\n", err)
    # The sort of Python is stable: of equals the one that was scored first.
    ranked = [Genotype.from_dict(c["genotype"]) for c in sorted(cells, key=lambda c: -c["mean"])]
    for name, folder in (("cell", tmp_path), ("genotype", work)):
        files = sorted(path.name for path in folder.glob(f"{name}*.json"))
        assert files == [f"{name}-02.json", f"{name}.json"]
        assert [Genotype.load(folder / file) for file in reversed(files)] == ranked[:2]

    # Another command goes on: its cells are added to those before, and the rest is not paid twice.
    before = json.loads((work / "budget.json").read_text())
    assert discretized(*argv, "--cells=200") == 0
    after = json.loads((work / "budget.json").read_text())
    assert len(json.loads((work / "ranking.json").read_text())["cells"]) == SPACE.size() == 8
    assert after["environment_steps"] == 8 * 8 * 5 and after["seconds"] > before["seconds"]
    assert not (work / "genotype-02.json").exists()
    capsys.readouterr()
    assert discretized(*argv, "--cells=200", "--best=9") == 2
    assert "best: must be at most 8, the distinct cells" in capsys.readouterr().err
    # Nothing was measured: nothing is added.
    assert json.loads((work / "budget.json").read_text()) == after
    (work / "budget.json").write_text('{"environment_steps": -1, "seconds": 0}')
    assert discretized(*argv, "--cells=200") == 2
    assert "holds no budget" in capsys.readouterr().err


def test_a_search_by_random_cells_is_ranked_and_has_no_cell_by_its_alpha(tmp_path, capsys):
    run, method = tmp_path / "run", {"relaxation": "random"}
    suite = CatchSuite(CatchSettings(6, 5))
    with trained_stage(run, "search", TINY["ppo"], ENCODER, suite, 64, method) as program:
        [supernet] = program._supernets
        # A cell for each of three updates, of 32 steps of which some begin episodes.
        assert int(supernet.alpha.draws) % (1 << 32) == 3
        drawn = supernet.alpha.numpy_op_weights()["normal"]
        # Node 1 has one input, and of node 2 one of two is drawn.
        assert [rows.sum() for rows in (drawn[:1], drawn[1:])] == [1, 1]
        assert all(not np.any(z.numpy()) for z in supernet.alpha.logits["normal"])
    assert discretized(run) == 2
    err = capsys.readouterr().err
    assert "'random' does not train α, so no cell can be read off it" in err
    assert discretized(run, "--by=random", "--cells=3", "--episodes=4") == 0
    assert Genotype.load(run / "discretize" / "random" / "genotype.json").space == SPACE
    # What acts is what has been saved: also the draw.
    restored = load_policy(run, "search").encoder.alpha
    np.testing.assert_array_equal(restored.numpy_op_weights()["normal"], drawn)


BAD = {
    "more cells than are ranked": (
        ("RUN", "--by=random", "--cells=3", "--best=4"),
        "best: must be at most 3, the cells that are ranked",
    ),
    "the best of no ranking": (("RUN", "--best=2"), "best: not with --by=p"),
    "an option of another criterion": (("RUN", "--episodes=9"), "episodes: not with --by=p"),
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
