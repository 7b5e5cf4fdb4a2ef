"""The loss of Rainbow and SAC on held-out experience: what it is of, and that nothing changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("acme")
pytest.importorskip("reverb")

import reverb
import tensorflow as tf
from acme import specs, types
from dm_env import StepType
from hypothesis import given
from hypothesis import strategies as st
from replay_reader import read_items
from trained_runs import trained_stage
from trainings import TINY, registers

from rldarts_tf import commands
from rldarts_tf.agents.off_policy.held_out import Steps, n_step_transitions
from rldarts_tf.agents.off_policy.replay import BatchAdder, Replay, environment_spec
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.selection import Weights
from rldarts_tf.runs.budget import read_budget
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths, StagePaths
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import SearchSpace
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

SPACE = SearchSpace("held_out", ("conv_3x3", "relu"), num_nodes=1, top_k=1)
ENCODER = EncoderSettings(SPACE.name, [2], features=4)
CATCH = CatchSuite(CatchSettings(4, 3))

registered = registers(SPACE)


# --- transitions --------------------------------------------------------------------------------


def steps_of(rows):
    """Steps of one environment from (action, reward, discount, step type after it)."""
    actions, rewards, discounts, types_after = zip(*rows)
    length = len(rows)
    return Steps(
        np.arange(length + 1, dtype=np.float32).reshape(-1, 1, 1),
        np.array([[StepType.FIRST], *([t] for t in types_after)]),
        np.array(actions, np.int32).reshape(-1, 1),
        np.array(rewards, np.float32).reshape(-1, 1),
        np.array(discounts, np.float32).reshape(-1, 1),
    )


def as_rows(transitions):
    """(s, a, R, D, s') of each."""
    columns = (*transitions[:4], transitions.next_observation)
    return [tuple(float(np.ravel(x)[0]) for x in row) for row in zip(*columns)]


MID, LAST, FIRST = StepType.MID, StepType.LAST, StepType.FIRST


def test_windows_are_whole_or_end_with_the_episode():
    rows = [
        *[(1, 1, 1, MID), (2, 2, 1, MID), (3, 4, 0, LAST), (4, 9, 1, FIRST), (5, 8, 1, MID)],
        *[(6, 16, 1, MID)],
    ]
    found = as_rows(n_step_transitions(steps_of(rows), 2, 0.5))
    assert found == [
        (0, 1, 2, 0.5, 2),
        (1, 2, 4, 0, 3),
        (2, 3, 4, 0, 3),
        # The step that begins an episode is none; of the last there is no second one yet.
        (4, 5, 16, 0.5, 6),
    ]


def test_a_truncated_episode_keeps_the_value_of_its_last_state():
    rows = [(1, 1, 1, MID), (2, 2, 1, LAST), (3, 4, 1, FIRST)]
    assert as_rows(n_step_transitions(steps_of(rows), 3, 0.5)) == [
        (0, 1, 2, 0.5, 2),
        (1, 2, 2, 1, 2),
    ]


def test_an_episode_that_was_given_up_has_no_end():
    rows = [(1, 1, 1, MID), (2, 2, 1, FIRST), (3, 4, 1, MID), (4, 8, 1, MID)]
    assert as_rows(n_step_transitions(steps_of(rows), 2, 0.5)) == [(2, 3, 8, 0.5, 4)]


@given(st.data())
def test_they_are_those_of_acmes_adder_but_for_beginnings(data):
    n_step = data.draw(st.integers(1, 3))
    rows, running = [], True
    for _ in range(data.draw(st.integers(4, 12))):
        kind = data.draw(st.sampled_from([MID, MID, LAST])) if running else FIRST
        discount = data.draw(st.sampled_from([0.0, 1.0])) if kind == LAST else 1.0
        rows.append((data.draw(st.integers(0, 6)), data.draw(st.integers(-3, 3)), discount, kind))
        running = kind != LAST
    steps = steps_of(rows)
    spec = environment_spec(specs.Array((1,), np.float32), specs.DiscreteArray(7, dtype=np.int32))
    replay = Replay(spec, 100, None)
    adder = BatchAdder(replay, 1, n_step, 0.5)
    adder.add_first(steps.observations[0])
    for t in range(len(rows)):
        adder.add(
            steps.actions[t],
            steps.rewards[t],
            steps.discounts[t],
            steps.step_types[t + 1],
            steps.observations[t + 1],
        )
    adder.flush()
    adder.close()
    expected = sorted(as_rows(types.Transition(*zip(*(d for _, d in read_items(replay).values())))))
    replay.close()
    ends = {t + 1 for t, row in enumerate(rows) if row[3] == LAST}
    whole = [row for row in expected if row[4] - row[0] == n_step or row[4] in ends]
    assert sorted(as_rows(n_step_transitions(steps, n_step, 0.5))) == whole


# --- losses -------------------------------------------------------------------------------------


def box_suite():
    pytest.importorskip("dm_control")
    from rldarts_tf.envs.dm_control.settings import DMControlSettings
    from rldarts_tf.envs.dm_control.suite import DMControlSuite

    return DMControlSuite(DMControlSettings("pendulum", "swingup", image_size=16, action_repeat=50))


SUITES = {"rainbow": lambda: CATCH, "sac": box_suite}
PROGRAMS = {"rainbow": RainbowProgram, "sac": SACProgram}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request, tmp_path_factory):
    """A program that has made an update, with its algorithm's name."""
    suite = SUITES[request.param]()
    settings = TINY[request.param]
    if request.param == "sac":
        settings = dataclasses.replace(settings, random_shift=0)
    tf.keras.utils.set_random_seed(1)
    encoder = ENCODER.make("supernet")
    folder = StagePaths(tmp_path_factory.mktemp("held_out"))
    with PROGRAMS[request.param](encoder, suite, suite.fit(settings), 0, folder) as made:
        made.start()
        while not made.gradient_steps:
            made.advance(lambda: False)
        yield made


def state_of(program):
    arrays = {name: value.copy() for name, value in program.state().items()}
    for name, part in program.trackables.items():
        for i, variable in enumerate(getattr(part, "variables", [part])):
            arrays[f"{name}/{i}"] = np.array(
                variable.state if isinstance(variable, tf.random.Generator) else variable
            )
    return arrays


def collected(program, groups=3, seed=5):
    with program.held_out(seed) as held_out:
        return held_out, held_out.collect(groups)


def test_its_experience_is_of_environments_and_draws_of_its_own(program):
    before = state_of(program)
    held_out, experience = collected(program)
    batch = program._settings.batch_size
    transitions = experience.transitions
    assert transitions.reward.shape == transitions.discount.shape == (3, batch)
    assert transitions.observation.shape == (3, batch, *program._spec.observations.shape)
    assert experience.targets.shape[:2] == (3, batch)
    assert held_out.environment_steps > 256
    losses = held_out.losses(experience).numpy()
    assert losses.shape == (3,) and np.isfinite(losses).all()
    np.testing.assert_array_equal(held_out.losses(experience), losses)
    one = held_out.losses(tf.nest.map_structure(lambda x: x[:1], experience))
    np.testing.assert_allclose(one, losses[:1], rtol=1e-5)
    _, again = collected(program)
    for x, y in zip(tf.nest.flatten(experience), tf.nest.flatten(again)):
        np.testing.assert_array_equal(x, y)
    _, other = collected(program, seed=6)
    assert (other.transitions.observation.numpy() != transitions.observation.numpy()).any()
    for name, value in state_of(program).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_it_is_the_loss_that_a_learner_step_of_the_same_transitions_has(program):
    held_out, experience = collected(program, groups=1)
    data, targets = tf.nest.map_structure(lambda x: x[0], tuple(experience))
    learner = program.learner
    found = held_out.losses(experience)[0]
    if isinstance(program, SACProgram):
        # The actions in the learner's targets are of its own generator.
        generator = tf.random.Generator.from_state(
            learner._generator.state.numpy(), learner._generator.algorithm
        )
        seed = tf.cast(tf.unstack(generator.make_seeds(4), axis=1)[2], tf.int32)
        assert np.abs(learner.target_of(data, seed) - targets).max() > 0
        found = learner.loss_of(data, learner.target_of(data, seed))
        expected = learner._step(data, {})["critic_loss"]
    else:
        info = reverb.SampleInfo(*[tf.ones(len(data.reward))] * len(reverb.SampleInfo._fields))
        expected = learner._step(reverb.ReplaySample(info, data), {})[0]["loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_mask_of_the_ops_changes_it_and_it_has_second_derivatives(program):
    held_out, experience = collected(program, groups=1)
    (alpha,) = program.learner._alphas
    whole = held_out.losses(experience).numpy()
    mask = Mask(SPACE)
    shape = next(iter(alpha.op_weights().values())).shape
    with masked(program.trackables, mask):
        mask.assign({"normal": Weights(np.zeros(shape, np.float32), np.zeros(shape, np.float32))})
        assert (held_out.losses(experience).numpy() != whole).all()
        # The targets stay those of the whole network, which a new collection's are not.
        _, again = collected(program, groups=1)
        assert (again.targets.numpy() != experience.targets.numpy()).any()
    np.testing.assert_array_equal(held_out.losses(experience), whole)
    (logits,) = alpha.trainable_weights
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = held_out.losses(experience)[0]
        gradient = inner.gradient(loss, logits)
        squared = tf.reduce_sum(gradient**2)
    assert np.abs(gradient).max() > 0
    assert np.abs(outer.gradient(squared, logits)).max() > 0


# --- searches -----------------------------------------------------------------------------------


def test_a_search_of_rainbow_is_stopped_by_the_eigenvalue(tmp_path):
    method = SearchSettings(stop_by="eigenvalue", stop_measurements=4, stop_after=0.0)
    encoder = ENCODER.make("supernet", search=method)
    training = TrainingSettings(
        num_env_steps=96, pictures=0, evaluation_interval=0, final_evaluation_episodes=1
    )
    settings = StageSettings(TINY["rainbow"], CATCH, training)
    with Training(StagePaths(tmp_path), "search", encoder, RainbowProgram, settings) as session:
        session.run()
    measured = read_metrics(tmp_path / "metrics.csv")["alpha_eigenvalue"]
    assert np.isfinite(measured[:-1]).any() and np.nanmax(np.abs(measured)) > 0


def test_a_search_of_rainbow_is_discretized_by_loss(tmp_path, capsys):
    root, work = tmp_path / "run", tmp_path / "work"
    with trained_stage(root, "search", TINY["rainbow"], ENCODER, CATCH):
        pass
    argv = ["discretize", str(root), "--by=loss", "--minibatches=2", f"--work_dir={work}"]
    assert commands.main(argv) == 0, capsys.readouterr().err
    assert Genotype.load(work / "genotype.json").space == SPACE
    assert read_budget(work).environment_steps > 256
    assert RunPaths(root).stage("search").checkpoints_dir.exists()
