"""Tasks of the DM Control Suite: alone against plain dm_control, and in batches of processes."""

from __future__ import annotations

import gc
import io
import json
import os
import select
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dm_control")

import dm_env
from absl.testing import absltest
from dm_env import test_utils
from processes import wait_until

from rldarts_tf.envs.dm_control import environment as dm_control
from rldarts_tf.envs.dm_control import rendering
from rldarts_tf.envs.dm_control.batch import DMControlBatch
from rldarts_tf.envs.dm_control.environment import DMControl, action_repeat_of, check_task
from rldarts_tf.envs.pool import batch as pool
from rldarts_tf.envs.pool.process import WorkerProcess
from rldarts_tf.envs.pool.shared_arrays import SharedArrays
from rldarts_tf.envs.pool.worker import RESET
from rldarts_tf.envs.serial import environment_seed
from rldarts_tf.errors import ConfigError, RunError

FIRST, MID, LAST = dm_env.StepType
ROOT = Path(__file__).resolve().parents[1]
# 1000 steps of the task: episodes of ten.
REPEAT = 100


def plain(domain_name, task_name, seed):
    """The suite without anything of ours."""
    rendering.choose_renderer()
    from dm_control import suite

    return suite.load(domain_name, task_name, task_kwargs={"random": seed})


def pendulum(seed=0, **options):
    return DMControl("pendulum", "swingup", seed=seed, **{"observations": "state", **options})


def alive(pid):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_python(program):
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended


# --- one environment --------------------------------------------------------------------------


class Conformance(test_utils.EnvironmentTestMixin, absltest.TestCase):
    """What dm_env asks of every environment."""

    def make_object_under_test(self):
        return pendulum(action_repeat=REPEAT)

    def make_action_sequence(self):
        for action in np.random.default_rng(0).uniform(-1, 1, (25, 1)):
            yield action.astype(np.float32)


@pytest.mark.parametrize(
    ("domain_name", "task_name", "camera_id"), [("reacher", "easy", 0), ("quadruped", "walk", 2)]
)
def test_frames_and_rewards_are_those_of_the_plain_suite(domain_name, task_name, camera_id):
    reference = plain(domain_name, task_name, seed=3)
    bounds = reference.action_spec()
    environment = DMControl(domain_name, task_name, seed=3, action_repeat=3)
    assert environment.action_repeat == 3
    assert environment.observation_spec().shape == (64, 64, 9)
    assert environment.observation_spec().dtype == np.uint8
    spec = environment.action_spec()
    assert spec.shape == bounds.shape and spec.dtype == np.float32
    assert (spec.minimum, spec.maximum) == (-1, 1)

    def render():
        return reference.physics.render(64, 64, camera_id=camera_id)

    reference.reset()
    time_step = environment.reset()
    assert time_step.first() and time_step.reward is None
    frames = [render()] * 3
    assert frames[0].std() > 5
    np.testing.assert_array_equal(time_step.observation, np.concatenate(frames, axis=2))
    observations = [time_step.observation]
    rng = np.random.default_rng(0)
    for _ in range(4):
        action = rng.uniform(-1, 1, bounds.shape).astype(np.float32)
        scaled = bounds.minimum + (action.astype(float) + 1) / 2 * (bounds.maximum - bounds.minimum)
        rewards = [reference.step(scaled).reward for _ in range(3)]
        frames = [*frames[1:], render()]
        time_step = environment.step(action)
        assert time_step.mid() and time_step.discount == 1
        assert time_step.reward.dtype == np.float32
        assert time_step.reward == pytest.approx(sum(rewards), rel=1e-6)
        np.testing.assert_array_equal(time_step.observation, np.concatenate(frames, axis=2))
        observations.append(time_step.observation)
    assert not np.array_equal(frames[0], frames[2])
    reference.reset()
    expected = np.concatenate([render()] * 3, axis=2)
    np.testing.assert_array_equal(environment.reset().observation, expected)
    # The stack moves on by a frame; and what was handed out before has not changed since.
    for before, after in zip(observations, observations[1:]):
        np.testing.assert_array_equal(before[..., 3:], after[..., :-3])


def test_frames_are_drawn_once_for_each_observation():
    environment = DMControl("pendulum", "swingup", seed=0, action_repeat=7)
    draw, frames = environment._camera.render, []
    environment._camera.render = lambda: frames.append(draw()) or frames[-1]
    environment.reset()
    for _ in range(3):
        environment.step([0.0])
    assert len(frames) == 4


def test_states_are_the_entries_of_the_observation_in_order():
    reference = plain("reacher", "easy", seed=3)
    environment = DMControl("reacher", "easy", seed=3, action_repeat=1, observations="state")
    assert environment.observation_spec().dtype == np.float32
    for time_step, expected in (
        (environment.reset(), reference.reset()),
        (environment.step([0.3, -1.0]), reference.step([0.3, -1.0])),
    ):
        values = expected.observation
        assert list(values) == ["position", "to_target", "velocity"]
        np.testing.assert_array_equal(
            time_step.observation,
            np.concatenate([values["position"], values["to_target"], values["velocity"]]).astype(
                np.float32
            ),
        )
        assert environment.observation_spec().shape == time_step.observation.shape == (6,)


@pytest.mark.parametrize("observations", ["pixels", "state"])
def test_an_observation_can_be_written_where_it_is_wanted(observations):
    one, other = (pendulum(observations=observations) for _ in range(2))
    out = np.zeros_like(one.reset().observation)
    other.reset()
    assert other.step([0.5], out=out).observation is out
    np.testing.assert_array_equal(out, one.step([0.5]).observation)
    assert one.reset(out=out).observation is out
    np.testing.assert_array_equal(out, other.reset().observation)
    assert out.any()


def test_actions_are_scaled_to_the_bounds_of_the_task_and_clipped():
    environment = DMControl("quadruped", "walk", seed=0, observations="state")
    bounds = environment._task.action_spec()
    assert bounds.maximum.min() < 1 < bounds.maximum.max()  # there is something to scale
    for value, expected in ((1.0, bounds.maximum), (-1.0, bounds.minimum), (7.0, bounds.maximum)):
        environment.reset()
        environment.step(np.full(12, value))
        np.testing.assert_allclose(environment._task.physics.control(), expected)


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ([[0.0]], r"must have the shape \(1,\), not \(1, 1\)"),
        ([0.0, 0.0], r"must have the shape \(1,\), not \(2,\)"),
        ([np.nan], r"must be finite, in -1 to 1"),
        ([np.inf], r"must be finite"),
    ],
)
def test_wrong_actions_are_refused(action, complaint):
    environment = pendulum()
    environment.reset()
    with pytest.raises(ValueError, match=complaint):
        environment.step(action)


def test_seeds_repeat_episodes_and_different_seeds_differ():
    def play(seed):
        environment = pendulum(seed)
        steps = [environment.reset()] + [environment.step([0.5]) for _ in range(3)]
        steps.append(environment.reset())
        return np.stack([step.observation for step in steps])

    np.testing.assert_array_equal(play(5), play(5))
    assert not np.array_equal(play(5), play(6))
    assert not np.array_equal(play(5)[0], play(5)[-1])


@pytest.mark.parametrize(("action_repeat", "steps"), [(4, 250), (300, 4)])
def test_the_time_limit_is_no_termination(action_repeat, steps):
    environment = pendulum(action_repeat=action_repeat)
    reference = plain("pendulum", "swingup", seed=0)
    environment.reset()
    reference.reset()
    total = sum(reference.step([1.0]).reward for _ in range(1000))
    for expected in [MID] * (steps - 1) + [LAST]:
        time_step = environment.step([1.0])
        total -= time_step.reward
        assert time_step.step_type == expected
        assert time_step.discount == 1
    assert total == pytest.approx(0, abs=1e-3)
    assert environment.step([1.0]).first()
    assert environment.step([1.0]).mid()


def test_a_termination_within_the_repeated_steps_ends_them():
    environment = pendulum(action_repeat=5)
    calls = []
    task = environment._task.task
    task.get_reward = lambda physics: 1.0
    task.get_termination = lambda physics: calls.append(0) or (0.0 if len(calls) == 8 else None)
    environment.reset()
    assert environment.step([0.0])[:3] == (MID, 5.0, 1.0)
    assert environment.step([0.0])[:3] == (LAST, 3.0, 0.0)
    assert len(calls) == 8
    assert environment.step([0.0]).first()


def test_action_repeats_of_tasks():
    assert action_repeat_of("cheetah", "run") == 4
    assert action_repeat_of("finger", "spin") == 1
    assert action_repeat_of("cartpole", "balance") == 2
    assert pendulum().action_repeat == 2
    from dm_control import suite

    assert set(dm_control.ACTION_REPEAT) <= set(suite.ALL_TASKS)
    assert set(dm_control.CAMERAS) <= set(suite.TASKS_BY_DOMAIN)


# --- threads ----------------------------------------------------------------------------------


@pytest.fixture
def threads():
    """Two threads that live as long as the test, each as an executor."""
    with futures.ThreadPoolExecutor(1) as one, futures.ThreadPoolExecutor(1) as other:
        yield one, other


def drawing_cartpole(seed=0):
    return DMControl("cartpole", "swingup", seed=seed, image_size=16)


def frames(environment, num_steps):
    """The first frames of an episode."""
    steps = [environment.reset()] + [environment.step([0.5]) for _ in range(num_steps)]
    return [step.observation for step in steps]


def test_any_thread_draws_the_same_frames(threads):
    expected = frames(drawing_cartpole(), 8)
    environment = drawing_cartpole()
    drawn = [environment.reset().observation]
    for k in range(8):
        # One thread, another one, this one, and one that ends at once.
        with futures.ThreadPoolExecutor(1) as short_lived:
            where = (*threads, None, short_lived)[k % 4]
            step = where.submit(environment.step, [0.5]).result() if where else None
        drawn.append((step or environment.step([0.5])).observation)
    np.testing.assert_array_equal(drawn, expected)
    environment.close()


def test_an_environment_may_be_made_used_and_closed_each_in_another_thread(threads):
    expected = frames(drawing_cartpole(), 2)
    one, other = threads
    environment = one.submit(drawing_cartpole).result()
    np.testing.assert_array_equal(other.submit(frames, environment, 2).result(), expected)
    one.submit(environment.close).result()
    environment.close()
    # One that is forgotten is freed in whatever thread that is, without a complaint.
    environment = one.submit(drawing_cartpole).result()
    other.submit(environment.reset).result()
    complaints = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", complaints.append)
        del environment
        gc.collect()
    assert complaints == []


def test_threads_draw_side_by_side(threads):
    expected = [frames(drawing_cartpole(seed), 20) for seed in (1, 2)]
    environments = [drawing_cartpole(seed) for seed in (1, 2)]
    drawn = [t.submit(frames, e, 20) for t, e in zip(threads, environments)]
    for mine, theirs in zip(drawn, expected):
        np.testing.assert_array_equal(mine.result(), theirs)
    for environment in environments:
        environment.close()


def test_a_program_ends_quietly_whose_environments_other_threads_have_used():
    program = (
        "import threading; from rldarts_tf.envs.dm_control.environment import DMControl\n"
        "e = DMControl('cartpole', 'swingup', seed=0, image_size=16)\n"
        "t = threading.Thread(target=e.reset); t.start(); t.join(); print('drawn')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "drawn\n", "")


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"domain_name": "cartpol"},
            "domain_name: .* no domain 'cartpol'; did you mean 'cartpole'",
        ),
        ({"domain_name": "pong"}, "domain_name: .* no domain 'pong'; choose one of acrobot, "),
        ({"task_name": "Swingup "}, "task_name: .* no task 'Swingup '; did you mean 'swingup'"),
        (
            {"domain_name": "lqr", "task_name": "lqr_2_1"},
            "task_name: .* lqr/lqr_2_1 have no bounds",
        ),
        ({"seed": -1}, "seed: must be an integer from 0 to 4294967295, got -1"),
        ({"seed": None}, "seed: must be an integer from 0 to 4294967295, got None"),
        ({"action_repeat": 0}, "action_repeat: must be an integer of at least 1, got 0"),
        ({"frame_stack": 1.5}, "frame_stack: must be an integer of at least 1, got 1.5"),
        ({"image_size": True}, "image_size: must be an integer of at least 1, got True"),
        ({"observations": "images"}, "observations: must be one of pixels, state, not 'images'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(options, complaint):
    arguments = {"domain_name": "cartpole", "task_name": "swingup", "seed": 0, **options}
    with pytest.raises(ConfigError, match=complaint) as error:
        DMControl(**arguments)
    assert "\n" not in str(error.value)


def test_tasks_are_checked():
    check_task("cartpole", "swingup")
    with pytest.raises(ConfigError, match="did you mean 'walk'"):
        check_task("walker", "wlak")


@pytest.mark.parametrize("package", ["dm_control", "mujoco"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    find = dm_control.importlib.util.find_spec
    monkeypatch.setattr(
        dm_control.importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    for make in (lambda: check_task("cartpole", "swingup"), lambda: make_batch(1)):
        with pytest.raises(ConfigError, match=rf"{package} is not .*rldarts_tf\[dm-control\]$"):
            make()


def test_importing_the_modules_loads_no_simulator():
    program = (
        "import json, sys\n"
        "from rldarts_tf.envs.dm_control import batch, environment, rendering, worker\n"
        "early = sorted(sys.modules)\n"
        "environment.check_task('cartpole', 'swingup')\n"
        "print(json.dumps([early, sorted(sys.modules)]))\n"
    )
    ended = run_python(program)
    early, late = (set(names) for names in json.loads(ended.stdout))
    assert {"dm_control", "mujoco"}.isdisjoint(early)
    assert {"dm_control", "mujoco"} <= late
    assert "tensorflow" not in late
    assert ended.stderr == ""


# --- the renderer -----------------------------------------------------------------------------


@pytest.fixture
def renderers(monkeypatch):
    """Those that work, in a process that has not chosen one; and what was tried."""
    working, tried = set(), []

    def probe(renderer):
        tried.append(renderer)
        return None if renderer in working else f"no {renderer} here"

    monkeypatch.setattr(rendering, "probe", probe)
    monkeypatch.setattr(rendering, "_working", None)
    monkeypatch.setattr(rendering, "_failure", None)
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.setenv(name, "")  # so that it is as before when the test is over
    return working, tried


def test_the_first_renderer_that_works_is_chosen_once(renderers):
    working, tried = renderers
    working.update(("osmesa", "egl"))
    assert rendering.choose_renderer() == "egl"
    assert tried == ["egl"]
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "egl"
    assert rendering.choose_renderer() == rendering.choose_renderer_if_any() == "egl"
    assert tried == ["egl"]


def test_the_second_renderer_is_tried_too(renderers):
    working, tried = renderers
    working.add("osmesa")
    assert rendering.choose_renderer() == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "osmesa"


def test_a_renderer_that_the_user_has_chosen_is_kept(renderers, monkeypatch):
    working, tried = renderers
    working.update(("osmesa", "egl", "glfw"))
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert rendering.choose_renderer() == "glfw"
    assert os.environ["MUJOCO_GL"] == "glfw" and os.environ["PYOPENGL_PLATFORM"] == ""
    assert tried == ["glfw"]
    rendering.choose_renderer()
    assert tried == ["glfw"]


def test_a_chosen_renderer_that_does_not_work_is_refused(renderers, monkeypatch):
    working, tried = renderers
    working.update(("osmesa", "egl"))
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ConfigError, match=r"^MUJOCO_GL: 'glfw' does not work .*no glfw here"):
        rendering.choose_renderer()
    assert tried == ["glfw"] and os.environ["MUJOCO_GL"] == "glfw"


def test_without_a_renderer_the_packages_are_named(renderers):
    _, tried = renderers
    for _ in range(2):
        with pytest.raises(ConfigError) as error:
            rendering.choose_renderer()
        message = str(error.value)
        assert "\n" not in message
        assert "no egl here" in message and "libegl1 libopengl0 libgl1-mesa-dri" in message
        assert "no osmesa here" in message and "libosmesa6" in message
        # States need none, and dm_control is told so, which does not hide the reason.
        rendering.choose_renderer_if_any()
        assert os.environ["MUJOCO_GL"] == "disabled"
    assert tried == ["egl", "osmesa"]
    with pytest.raises(ConfigError, match="libosmesa6"):
        make_batch(1)


def test_a_worker_trusts_the_choice_of_its_parent(renderers, monkeypatch):
    _, tried = renderers
    monkeypatch.setenv("MUJOCO_GL", "egl")
    rendering.trust_renderer()
    assert rendering.choose_renderer() == "egl"
    assert not tried


def test_the_probe_draws_for_real():
    assert any(rendering.probe(name) is None for name in rendering.RENDERERS)
    assert "nonsense" in rendering.probe("nonsense")
    assert "\n" not in rendering.probe("nonsense")


def test_states_need_no_renderer():
    program = (
        "import os\n"
        "from rldarts_tf.envs.dm_control import rendering\n"
        "rendering.probe = lambda renderer: 'broken'\n"
        "from rldarts_tf.envs.dm_control.environment import DMControl\n"
        "environment = DMControl('pendulum', 'swingup', seed=0, observations='state')\n"
        "print(environment.reset().observation.size)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "")


# --- batches ----------------------------------------------------------------------------------


def make_batch(num_envs, task=("cartpole", "swingup"), seed=7, **options):
    return DMControlBatch(*task, num_envs, seed=seed, **{"action_repeat": REPEAT, **options})


def pids(batch):
    return [worker.pid for worker in batch._workers]


class Twins:
    """A batch, and single environments with the same seeds that must do just the same."""

    def __init__(self, num_envs, **options):
        self.batch = make_batch(num_envs, **options)
        self.options = options
        self.rng = np.random.default_rng(0)
        self.generations = [0] * num_envs
        self.singles = [self.make(index) for index in range(num_envs)]

    def make(self, index):
        seed = environment_seed(7, index, self.generations[index])
        return DMControl("cartpole", "swingup", seed=seed, action_repeat=REPEAT, **self.options)

    def replace(self, index):
        """The worker of an environment has been replaced."""
        self.generations[index] += 1
        self.singles[index] = self.make(index)

    def actions(self):
        return self.rng.uniform(-1, 1, (len(self.singles), 1)).astype(np.float32)

    def reset(self):
        time_step = self.batch.reset()
        self.compare(time_step, [single.reset() for single in self.singles])
        return time_step

    def step(self, actions=None):
        actions = self.actions() if actions is None else actions
        time_step = self.batch.step(actions)
        self.compare(time_step, [s.step(action) for s, action in zip(self.singles, actions)])
        return time_step

    def compare(self, time_step, expected):
        assert [a.dtype for a in time_step[:3]] == [np.int32, np.float32, np.float32]
        for i, single in enumerate(expected):
            assert time_step.step_type[i] == single.step_type
            assert time_step.reward[i] == (0 if single.first() else single.reward)
            assert time_step.discount[i] == (1 if single.first() else single.discount)
            np.testing.assert_array_equal(time_step.observation[i], single.observation)
        assert time_step is self.batch.current_time_step()


@pytest.fixture(scope="module")
def _twins():
    twins = Twins(2)
    yield twins
    twins.batch.close()


@pytest.fixture
def twins(_twins):
    """Two environments at the start of episodes, nothing counted yet."""
    _twins.reset()
    _twins.batch.episodes.take()
    return _twins


def test_a_batch_does_what_single_environments_do(twins):
    batch = twins.batch
    assert batch.batch_size == 2 and batch.games == ("cartpole/swingup",) * 2
    assert batch.action_repeat == REPEAT
    assert batch.observation_spec() == twins.singles[0].observation_spec()
    assert batch.action_spec() == twins.singles[0].action_spec()
    steps = [twins.reset()]
    kept = [steps[0].observation.copy()]
    returns, lengths = np.zeros(2), 0
    for expected in ([MID] * 9 + [LAST]) * 2:
        if steps[-1].step_type[0] == LAST:
            first = twins.step()
            assert (first.step_type == FIRST).all()
            assert batch.episodes.take().returns.size == 0
            returns, lengths = np.zeros(2), 0
        steps.append(twins.step())
        kept.append(steps[-1].observation.copy())
        assert (steps[-1].step_type == expected).all()
        returns, lengths = returns + steps[-1].reward, lengths + 1
        if expected == LAST:
            finished = batch.episodes.take()
            np.testing.assert_allclose(finished.returns, returns)
            assert finished.lengths.tolist() == [lengths] * 2 == [10] * 2
            assert finished.environments.tolist() == [0, 1]
    assert returns.min() > 0
    # Time steps own their arrays.
    for step, observation in zip(steps, kept):
        np.testing.assert_array_equal(step.observation, observation)
    frames = steps[5].observation
    assert not np.array_equal(frames[0], frames[1])


def test_workers_have_no_tensorflow(twins):
    for pid in pids(twins.batch):
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "mujoco" in loaded and "numpy" in loaded
        assert "tensorflow" not in loaded


def test_ctrl_c_is_for_the_parent(twins):
    for pid in pids(twins.batch):
        os.kill(pid, signal.SIGINT)
    twins.step()
    assert all(map(alive, pids(twins.batch)))


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (np.zeros((2, 2)), r"must have the shape \(2, 1\), not \(2, 2\)"),
        (np.zeros(2), r"must have the shape \(2, 1\), not \(2,\)"),
        (np.array([[0.0], [np.nan]]), "must be finite"),
    ],
)
def test_wrong_actions_step_nothing(actions, complaint, twins):
    with pytest.raises(ValueError, match=complaint):
        twins.batch.step(actions)
    twins.step()


def assert_replaced(twins, capfd, actions, words):
    """Worker 1 fails in a step three steps into its episode, and only its episode is lost."""
    batch = twins.batch
    crashes, pid = batch.crashes, pids(batch)
    capfd.readouterr()
    returns = sum(step.reward[0] for step in (twins.step(), twins.step(), twins.step()))
    played = actions()
    time_step = batch.step(played)
    twins.replace(1)
    expected = twins.singles[0].step(played[0])
    twins.compare(time_step, [expected, twins.singles[1].reset()])
    assert time_step.step_type.tolist() == [MID, FIRST]
    returns += time_step.reward[0]
    assert batch.crashes == crashes + 1
    assert batch.get_state()["generation"].tolist() == twins.generations
    assert not alive(pid[1]) and pids(batch)[0] == pid[0]
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("environment 1 (cartpole/swingup): ")
    assert words in error
    # The episode that was lost is counted nowhere; the other one has its ten steps.
    for _ in range(6):
        time_step = twins.step()
        returns += time_step.reward[0]
    assert time_step.step_type.tolist() == [LAST, MID]
    finished = batch.episodes.take()
    assert finished.environments.tolist() == [0] and finished.lengths.tolist() == [10]
    np.testing.assert_allclose(finished.returns, [returns])
    for _ in range(4):
        time_step = twins.step()
    assert time_step.step_type.tolist() == [MID, LAST]
    finished = batch.episodes.take()
    assert finished.environments.tolist() == [1] and finished.lengths.tolist() == [10]
    assert batch.crashes == crashes + 1
    assert not batch._failures_in_a_row.any()  # only failures without a step between add up


def test_a_worker_that_is_killed_is_replaced(twins, capfd):
    def actions():
        os.kill(pids(twins.batch)[1], signal.SIGKILL)
        return twins.actions()

    assert_replaced(twins, capfd, actions, "ended by SIGKILL; started again")


def test_a_worker_that_hangs_is_replaced(twins, capfd, monkeypatch):
    monkeypatch.setattr(twins.batch, "_timeout", 3.0)

    def actions():
        os.kill(pids(twins.batch)[1], signal.SIGSTOP)
        return twins.actions()

    assert_replaced(twins, capfd, actions, "no answer within 3")


def test_a_worker_with_an_exception_is_replaced(twins, capfd, monkeypatch):
    # What the batch would not let through.
    monkeypatch.setattr(twins.batch, "_checked", np.asarray)

    def actions():
        actions = twins.actions()
        actions[1] = np.nan
        return actions

    words = "ended with exit code 1: ValueError: action: must be finite"
    assert_replaced(twins, capfd, actions, words)


def test_a_state_goes_on_with_new_episodes(twins):
    batch = twins.batch
    for _ in range(10):
        time_step = twins.step()
    assert (time_step.step_type == LAST).all()
    twins.step()
    twins.step()
    file = io.BytesIO()
    np.savez(file, **batch.get_state())
    file.seek(0)
    state = dict(np.load(file, allow_pickle=False))
    returns = batch.episodes.take().returns

    for wrong, complaint in (
        ({"generation": None}, "'generation' is missing"),
        ({"generation": np.zeros(3, np.int64)}, r"'generation' is int64 of shape \(3,\)"),
        ({"generation": np.full(2, -1)}, "'generation' is negative"),
        ({"crashes": np.int64(-1)}, "'crashes' is negative"),
        ({"crashes": np.zeros(2, np.int64)}, r"'crashes' is int64 of shape \(2,\)"),
        ({"running_lengths": None}, "'running_lengths' is missing"),
        ({"settings": None}, "'settings' is missing"),
        ({"settings": np.array("[1")}, "'settings' is not a JSON object"),
        ({"settings": np.array('{"domain_name": "x"}')}, "domain_name was 'x' and is 'cartpole'"),
    ):
        broken = {k: v for k, v in {**state, **wrong}.items() if v is not None}
        with pytest.raises(RunError, match=complaint):
            batch.set_state(broken)
    twins.step()

    old = pids(batch)
    batch.set_state(state)
    assert not any(map(alive, old))
    for index in range(2):
        twins.replace(index)
    twins.compare(batch.current_time_step(), [single.reset() for single in twins.singles])
    for _ in range(10):
        time_step = twins.step()
    assert (time_step.step_type == LAST).all()
    finished = batch.episodes.take()
    assert finished.lengths.tolist() == [10] * 4
    np.testing.assert_array_equal(finished.returns[:2], returns)
    assert batch.get_state()["generation"].tolist() == twins.generations


def test_crashes_are_counted_across_a_resume():
    batches = [make_batch(1, ("pendulum", "swingup"), observations="state") for _ in range(2)]
    batches[0].reset()
    os.kill(pids(batches[0])[0], signal.SIGKILL)
    batches[0].step(np.zeros((1, 1)))
    state = batches[0].get_state()
    batches[1].set_state(state)
    assert batches[0].crashes == batches[1].crashes == 1
    # What is written by a version that did not count is still read.
    del state["crashes"]
    batches[1].set_state(state)
    assert batches[1].crashes == 0
    for batch in batches:
        batch.close()


def test_a_batch_of_states_closes_and_gives_up(capfd, monkeypatch):
    batch = make_batch(1, ("pendulum", "swingup"), observations="state", action_repeat=4)
    assert batch.observation_spec().shape == (3,)
    single = pendulum(environment_seed(7, 0, 0), action_repeat=4)
    # Without a reset, the first step is one.
    for expected in (single.reset(), single.step([0.5])):
        time_step = batch.step(np.full((1, 1), 0.5))
        assert time_step.step_type == [expected.step_type]
        np.testing.assert_array_equal(time_step.observation[0], expected.observation)
    state = batch.get_state()
    (pid,) = pids(batch)
    started = []

    class Broken(WorkerProcess):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self.pid)
            self._process.kill()

    monkeypatch.setattr(pool, "WorkerProcess", Broken)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunError, match="failed 4 times without a step between: ended by SIGKILL"):
        batch.step(np.zeros((1, 1)))
    assert len(started) == 3 == capfd.readouterr().err.count("\n")
    assert not any(map(alive, [pid, *started]))
    batch.close()
    batch.close()
    for use in (batch.reset, lambda: batch.set_state(state), lambda: batch.step([[0.0]])):
        with pytest.raises(RunError, match="closed"):
            use()
    assert batch.get_state()["generation"].tolist() == [3]


def test_a_batch_that_is_interrupted_or_forgotten_ends_its_workers(monkeypatch):
    batch = make_batch(1, ("pendulum", "swingup"), observations="state")
    other = make_batch(1, ("pendulum", "swingup"), observations="state")
    running = pids(batch) + pids(other)
    assert len(set(running)) == 2 and all(map(alive, running))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.reset()
    assert [alive(pid) for pid in running] == [False, True]
    del other
    gc.collect()
    assert not any(map(alive, running))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_envs": 0}, "num_envs: must be an integer of at least 1, got 0"),
        ({"seed": "x"}, "seed: must be an integer"),
        ({"action_repeat": -1}, "action_repeat: must be an integer of at least 1, got -1"),
        ({"observations": "images"}, "observations: must be one of"),
        ({"timeout": 0}, "timeout: must be more than 0"),
    ],
)
def test_a_batch_refuses_wrong_arguments_before_it_starts_a_worker(options, complaint, monkeypatch):
    monkeypatch.setattr(pool, "WorkerProcess", None)
    with pytest.raises(ConfigError, match=complaint):
        make_batch(**{"num_envs": 2, **options})


def test_a_task_that_does_not_exist_ends_all_workers(monkeypatch):
    started = []
    start = WorkerProcess.__init__

    def recorded(self, *arguments):
        start(self, *arguments)
        started.append(self.pid)

    monkeypatch.setattr(WorkerProcess, "__init__", recorded)
    with pytest.raises(ConfigError) as error:
        make_batch(2, ("cartpole", "swingpu"))
    assert str(error.value) == "task_name: cartpole has no task 'swingpu'; did you mean 'swingup'?"
    assert len(started) == 2 and not any(map(alive, started))


# --- workers ----------------------------------------------------------------------------------


def test_workers_end_when_their_parent_is_killed():
    program = (
        "import os, signal\n"
        "from rldarts_tf.envs.dm_control.batch import DMControlBatch\n"
        "batch = DMControlBatch('pendulum', 'swingup', 2, seed=0, observations='state')\n"
        "batch.reset()\n"
        "print(*[worker.pid for worker in batch._workers], flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2 and all(map(alive, workers))
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not any(map(alive, workers)), 20)


FAKE = """
import sys
import numpy as np
import dm_env
from dm_env import specs
from rldarts_tf.envs.pool import worker

class Noisy:
    def __init__(self, message):
        print(message)
        self.message = message
    def observation_spec(self):
        return specs.Array((2,), np.float32)
    def action_spec(self):
        return specs.BoundedArray((1,), np.float32, -1, 1)
    def reset(self, out):
        print("in", self.message, flush=True)
        out[:] = 1, 2
        return dm_env.restart(out)

worker.run(Noisy)
"""


def test_only_the_protocol_goes_to_stdout():
    memory = os.memfd_create("test")
    arguments = {"environment": {"message": "noise"}, "memory": memory, "num_envs": 1, "index": 0}
    worker = subprocess.Popen(
        [sys.executable, "-c", FAKE, json.dumps(arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(memory,),
        bufsize=0,
    )
    try:
        greeting = json.loads(worker.stdout.readline())
        shared = SharedArrays(memory, 1, **greeting)
        worker.send_signal(signal.SIGINT)
        worker.stdin.write(RESET)
        assert worker.stdout.read(1) == b"."
        assert shared.observation.tolist() == [[1, 2]]
        assert not select.select([worker.stdout], [], [], 0)[0]
        out, err = worker.communicate(timeout=60)  # which closes its stdin
    finally:
        worker.kill()
        os.close(memory)
    assert (out, err, worker.returncode) == (b"", b"noise\nin noise\n", 0)
