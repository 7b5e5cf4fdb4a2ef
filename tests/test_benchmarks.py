"""The benchmarks: that they measure what they say, on networks far too small for a number."""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("tf_agents")
pytest.importorskip("procgen")
pytest.importorskip("dm_control")
pytest.importorskip("matplotlib")
pytest.importorskip("minatar")

import numpy as np
import tensorflow as tf
from reference import randomize

import rldarts_tf

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, no package

import agents
import bare_convolutions
import catch
import common
import dm_control_frames
import gymnasium_frames
import kernel_times
import memory
import memory_growth
import networks
import peers
import planted
import replay
import scaling
from minatar_as_procgen import ProcgenEnv
from plain import MIXES, PlainSupernet

from rldarts_tf.search.costs import OpAt, read_latencies

BENCHMARKS = Path(common.__file__).parent
ALGORITHMS = ("ppo", "rainbow", "sac")
TINY = ("--depths=4", "--batch=2", "--image_side=16", "--repeats=1")


def bindings(settings, **values):
    return [f"--gin_bindings={settings}.{name} = {value}" for name, value in values.items()]


COMMANDS = {
    "networks": ("--networks=impala_cnn", "--act_batch=2", *TINY),
    "ppo": (
        "ppo",
        *bindings("PPOSettings", num_envs=2, steps_per_update=4, minibatch_size=4),
        "--depths=4",
        "--updates=1",
        "--repeats=1",
    ),
    "rainbow": (
        "rainbow",
        *bindings(
            "RainbowSettings", num_envs=2, batch_size=4, steps_per_update=2, min_replay_size=4
        ),
        "--depths=4",
        "--updates=1",
        "--repeats=1",
    ),
    "replay": ("--transitions=64", "--num_envs=4", "--batch_size=8", "--batches=2"),
    "catch": ("--seeds=0", "--max_steps=100"),
    "planted": (
        "--task=count",
        "--learner=supervised,ppo",
        "--method=joint,gdas",
        "--seeds=1",
        "--steps=16",
        *bindings("PPOSettings", num_envs=8, steps_per_update=8, minibatch_size=64),
        *bindings("TrainingSettings", num_env_steps=64, final_evaluation_episodes=8),
    ),
    "dm_control_frames": ("--domain_name=pendulum", "--num_envs=1,2", "--steps=2", "--repeats=1"),
    "gymnasium_frames": (
        "--encoders=impala_cnn,supernet",
        "--steps=5",
        "--repeats=1",
        "--updates=1",
        *bindings("PPOSettings", num_envs=2, steps_per_update=4, minibatch_size=4),
        "--gin_bindings=EncoderSettings.features = 8",
        *(f"--gin_bindings={s}/EncoderSettings.depths = [2]" for s in ("search", "baseline")),
    ),
    "sac": (
        "sac",
        "--encoder=micro_pisac",
        "--beside=micro_sac",
        "--depths=2",
        *bindings("DMControlSettings", image_size=16),
        *bindings("SACSettings", batch_size=4, samples_per_insert=2, steps_per_update=2),
        "--updates=1",
        "--repeats=1",
    ),
    "sac_states": (
        "--domain_name=pendulum",
        "--task_name=swingup",
        "--action_repeat=50",
        "--steps=40",
        "--interval=20",
        "--episodes=1",
        "--batch_size=4",
    ),
    "scaling": (
        *(f"--{sweep}=" for sweep in ("nodes", "cells", "batch", "ops")),
        "--blocks=1,2",
        "--depth=4",
        "--image_side=16",
        "--repeats=1",
        "--figure=scaling.png",
    ),
    "kernel_times": ("--network=impala_cnn", *TINY),
    "memory_growth": ("--launchers=ppo_procgen", "--warm_up=1", "--updates=3"),
    "op_latency": (
        "--space=micro",
        "--image=8x8x3",
        "--depths=2",
        "--batch=2",
        "--repeats=1",
    ),
    "search_methods": ("--methods=gumbel", *TINY),
    "memory": ("--networks=micro recompute", "--depths=4", "--batches=1,3", "--image_side=16"),
}


FRESH = ("memory_growth", "dm_control_frames", "sac", "sac_states", "scaling")


def script_of(name):
    """One script measures every algorithm."""
    return BENCHMARKS / f"{'agents' if name in ALGORITHMS else name}.py"


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory, server):
    """Every script in a process of its own, two at a time, from the first test on."""
    folder = tmp_path_factory.mktemp("benchmarks")

    def launch(name):
        flags = (*COMMANDS[name], f"--output={name}.json")
        # A new process of theirs is a fork, too, unless its size is what a script looks at, or it
        # is a worker of DM Control, which chooses a renderer when it is imported.
        python = sys.executable if name in FRESH else str(server.python)
        return server.run([str(script_of(name)), *flags], cwd=folder, executable=python)

    with ThreadPoolExecutor(max_workers=2) as pool:
        yield folder, {name: pool.submit(launch, name) for name in COMMANDS}
        pool.shutdown(cancel_futures=True)


def results_of(runs, name):
    """The results that a script wrote, after it has ended as it should."""
    folder, launched = runs
    ended = launched[name].result()
    assert ended.code == 0, ended.err
    assert "┏" in ended.out
    assert "warning" not in ended.err.lower()
    document = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert document["benchmark"] == script_of(name).name
    assert document["command_line"] == [*COMMANDS[name], f"--output={name}.json"]
    machine = document["machine"]
    assert machine["tensorflow"] == tf.__version__
    assert machine["cpu"] and machine["date"]
    assert machine["onednn"] is False  # As conftest.py has it.
    assert 1 <= machine["cores"] <= machine["cores_of_machine"]
    return document["results"]


def assert_positive(values, keys):
    for key in keys:
        assert math.isfinite(values[key]) and values[key] > 0, (key, values[key])


PACKAGE_KEYS = [
    f"{step}_{key}"
    for step in ("train", "act")
    for key in ("seconds", "seconds_min", "samples_per_second", "gflops", "share_of_matmul")
]
FRESH_KEYS = ("first_call_seconds", "peak_memory_bytes")
NETWORK_KEYS = ("parameters", "multiply_adds", "activation_bytes", "matmul_gflops")
BARE_KEYS = ("bare_convolutions", "bare_seconds", "bare_seconds_min", "bare_share")


# --- what they measure ------------------------------------------------------------------------


def test_latencies_are_a_table_that_a_search_reads(runs):
    data = results_of(runs, "op_latency")
    assert {entry["op"] for entry in data["ops"]} == {*rldarts_tf.MICRO.ops("normal")} - {"none"}
    for entry in data["ops"]:
        assert_positive(entry, ["seconds"])
    # Micro's cells stand behind a pool.
    latency = read_latencies(str(runs[0] / "op_latency.json"))
    assert latency(OpAt("conv_3x3", 4, 4, 2, 1)) > 0


@pytest.mark.parametrize("space", ["classic", "micro"])
def test_plain_forms_are_the_same_function_of_as_many_weights(space):
    supernet = rldarts_tf.Supernet(space, depths=[4, 6], features=8)
    supernet.build((None, 12, 12, 3))
    randomize(supernet.trainable_weights, seed=1)
    images = common.make_images(3, 12)
    expected = supernet(images).numpy()
    assert expected.std() > 0
    for mix in MIXES:
        plain = PlainSupernet(supernet, mix)
        weights = plain.trainable_weights
        with tf.GradientTape() as tape:
            got = plain(images)
        assert np.abs(got.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
        assert all(gradient is not None for gradient in tape.gradient(got, weights))
        sizes = [sum(int(tf.size(w)) for w in ws) for ws in (weights, supernet.trainable_weights)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_bare_convolutions_are_those_of_the_step(nested):
    layers = [
        tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        tf.keras.layers.Conv2D(6, 5, strides=2, padding="same"),
        tf.keras.layers.DepthwiseConv2D(3, padding="same"),
        tf.keras.layers.Dense(2),
    ]
    network = tf.keras.Sequential(layers)
    network.build((None, 8, 8, 3))
    forward = tf.function(network) if nested else network
    train = common.train_step(
        lambda images: forward(tf.cast(images, tf.float32)), network.trainable_weights
    )
    ops = bare_convolutions.collect(train.get_concrete_function(common.make_images(2, 8)))
    assert sorted(op.type for op in ops) == [
        "Conv2D",
        "Conv2D",
        "Conv2DBackpropFilter",
        "Conv2DBackpropFilter",
        "Conv2DBackpropInput",  # of the second: nobody asks for the gradient of the images
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropFilter",
        "DepthwiseConv2dNativeBackpropInput",
    ]
    first, second, depthwise = 2 * 64 * 4 * 27, 2 * 16 * 6 * 100, 2 * 16 * 6 * 9
    by_type: dict[str, list[int]] = {}
    for op in ops:
        by_type.setdefault(op.type, []).append(bare_convolutions.multiply_adds(op))
    assert sorted(by_type["Conv2D"]) == sorted(by_type["Conv2DBackpropFilter"]) == [first, second]
    assert by_type["Conv2DBackpropInput"] == [second]
    assert {n for t, ns in by_type.items() if t.startswith("Depth") for n in ns} == {depthwise}
    bare_convolutions.runner(ops)()


def test_interleaved_takes_turns_and_pairs_ratios():
    order = []
    timings = common.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2
    )
    assert order == ["a", "b"] * 3  # the first round warms up
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]
    slow, fast = common.Timing([2.0, 40.0, 6.0]), common.Timing([1.0, 10.0, 2.0])
    assert slow.times(fast) == 3  # the median of 2, 4 and 3
    assert (slow.median, slow.minimum) == (6.0, 2.0)


def test_peak_memory_sees_what_is_freed_again():
    common.reset_peak_memory()
    before = common.resident_memory_bytes()
    np.ones(1 << 25)  # 256 MiB of float64
    assert common.peak_memory_bytes() - before > 0.9 * (8 << 25)
    assert common.resident_memory_bytes() - before < 0.5 * (8 << 25)


def test_fit_is_a_least_squares_line():
    assert scaling.fit([1, 2, 3], [3, 5, 7]) == pytest.approx(
        {"slope": 2, "intercept": 1, "r_squared": 1}
    )
    assert scaling.fit([0, 1, 2], [0, 3, 0])["r_squared"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("op_type", "group"),
    [
        ("_MklNativeConv2DBackpropFilterWithBias", "convolution"),
        ("_FusedMatMul", "matmul"),
        ("SpaceToBatchND", "copies"),
        ("BiasAddGrad", "reductions"),
        ("MaxPoolGrad", "reductions"),
        ("AddN", "elementwise"),
        ("ResourceApplyAdam", "elementwise"),
        ("ReadVariableOp", "other"),
    ],
)
def test_kernels_are_grouped(op_type, group):
    assert kernel_times.group_of(op_type) == group


def test_minatar_in_the_place_of_procgen_begins_the_next_episode_at_once():
    envs = ProcgenEnv(num_envs=3, env_name="starpilot", distribution_mode="easy")
    first = envs.reset()["rgb"].copy()
    space = envs.observation_space["rgb"]
    assert first.shape == (3, *space.shape) == (3, 10, 10, 4)
    ended = np.zeros(3, bool)
    for _ in range(200):
        observation, rewards, dones, infos = envs.step(np.zeros(3, int))
        assert observation["rgb"].dtype == np.uint8
        assert {*np.unique(observation["rgb"])} <= {0, 255}
        assert rewards.shape == dones.shape == (3,) and len(infos) == 3
        # The ball (plane 1) of a new episode is in row 3; that of an old one is at the bottom.
        assert observation["rgb"][dones, 3, :, 1].any(axis=-1).all()
        ended |= dones
    envs.close()
    assert ended.all()


# --- the scripts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps"), [("ppo", 8), ("rainbow", 4), ("sac", 4)], ids=ALGORITHMS
)
def test_agents_split_the_time_of_updates(runs, name, steps):
    result = results_of(runs, name)
    rates = [f"env_steps_per_second{suffix}" for suffix in ("", "_median", "_max")]
    assert_positive(result, [*rates, "warm_up_seconds", "peak_memory_bytes"])
    assert_positive(result, ["one_by_one_times_all"])
    sample = () if name == "ppo" else ("sample",)
    for split in (result["seconds"], result["share"], *result["updates"]):
        assert_positive(split, ("act", "simulate", "store", *sample, "learn", "rest"))
    assert sum(result["share"].values()) == pytest.approx(1)
    assert result["env_steps_per_second"] == pytest.approx(steps / sum(result["seconds"].values()))
    assert result["settings"]["num_envs"] == 2


@pytest.mark.parametrize("name", ["rainbow", "sac"])
def test_agents_compare_a_learner_step_with_one_on_a_batch_that_is_held(runs, name):
    result = results_of(runs, name)
    assert_positive(
        result, ("learner_step_seconds", "held_step_seconds", "learner_step_times_held")
    )
    # One batch of four for each environment step with Rainbow, for two with SAC.
    rate = result["env_steps_per_second"] / {"rainbow": 1, "sac": 2}[name]
    assert result["learner_steps_per_second"] == pytest.approx(rate)
    if name == "sac":
        assert_positive(result["beside"]["micro_sac"], ("step_seconds", "times"))


def test_replay_measures_memory_and_rates(runs):
    result = results_of(runs, "replay")
    # At the start of an episode there is no transition for the first frame alone.
    assert result["transitions"] >= 64 and result["frame_bytes"] == 64 * 64 * 3
    rates = ("insertions_per_second", "samples_per_second", "save_seconds", "disk_bytes")
    assert_positive(result, (*rates, "load_seconds", "memory_bytes"))
    assert result["bytes_per_transition"] == result["memory_bytes"] / result["transitions"]


def test_catch_counts_steps_or_gives_up(runs):
    result = results_of(runs, "catch")
    assert set(result) == {"rainbow", "dqn", "plain_dqn"}
    for (run,) in result.values():
        # 20 episodes of 5 steps are not enough to learn it.
        assert run["steps"] is None and run["seconds"] > 0


def test_planted_searches_with_and_without_an_agent(runs):
    result = results_of(runs, "planted")
    assert set(result) == {"count joint", "count gdas", "count ppo"}
    ops = planted.space_of("count").ops("normal")
    for label, (search,) in result.items():
        for reading in ("by_contribution", "by_loss"):
            assert search[reading] in (ops[:-1] if label != "count ppo" else (None,))
        assert search["op"] in ops[:-1]
        assert search["recovered"] == (search["op"] == "conv_3x3")
        assert 0 <= search["accuracy"] <= 1 and search["seconds"] > 0
        # Recorded from near the start on, where nothing is decided.
        assert len(search["steps"]) == len(search["op_weights"]) >= 1
        np.testing.assert_allclose(search["op_weights"][0], 1 / len(ops), atol=0.1)


def test_the_interval_of_a_share_is_exact():
    # All of n: the lower end is the p where p^n is 2.5 %.
    assert planted.interval(10, 10) == (pytest.approx(0.025 ** (1 / 10)), 1)
    assert planted.interval(0, 10) == (0, pytest.approx(1 - 0.025 ** (1 / 10)))


def test_dm_control_frames_compares_batches_with_a_plain_loop(runs):
    result = results_of(runs, "dm_control_frames")
    assert_positive(result, ("plain_frames_per_second", "plain_seconds"))
    assert [row["num_envs"] for row in result["batches"]] == [1, 2]
    for row in result["batches"]:
        assert_positive(row, ("frames_per_second", "batch_seconds"))
        ratio = row["frames_per_second"] / result["plain_frames_per_second"]
        assert row["times_plain"] == pytest.approx(ratio)  # of one round


def test_gymnasium_frames_measures_environments_and_ppo(runs):
    result = results_of(runs, "gymnasium_frames")
    assert (result["env"], result["num_envs"]) == ("MinAtar/Breakout-v1", 2)
    rates = ("vector_steps_per_second", "batch_steps_per_second", "batch_times_vector")
    assert_positive(result, rates)
    assert list(result["ppo"]) == ["impala_cnn", "supernet"]
    for trained in result["ppo"].values():
        assert_positive(trained, ("env_steps_per_second",))
        assert sum(trained["share"].values()) == pytest.approx(1)


def test_sac_from_states_is_beside_a_random_player(runs):
    curve = results_of(runs, "sac_states")["curve"]
    assert [(point["steps"], point["player"]) for point in curve] == [
        (0, "random"),
        (20, "SAC"),
        (40, "SAC"),
    ]
    assert all(0 <= point["return"] <= 1000 for point in curve)


def test_scaling_fits_lines_and_draws(runs):
    result = results_of(runs, "scaling")
    (sweep,) = result["sweeps"]
    assert [point["blocks"] for point in sweep["points"]] == [1, 2]
    for point in sweep["points"]:
        assert_positive(point, ("x", "multiply_adds", "train_seconds", "train_seconds_min"))
    for line in (sweep["fit"], sweep["fit_multiply_adds"]):
        assert line["r_squared"] == pytest.approx(1)  # of two points
        assert math.isfinite(line["slope"]) and math.isfinite(line["intercept"])
    assert len(sweep["per_block"]) == 1
    assert (runs[0] / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_kernel_times_have_the_convolutions(runs):
    result = results_of(runs, "kernel_times")
    assert_positive(result, ("wall_seconds", "unprofiled_seconds", "kernel_seconds"))
    assert_positive(result["groups"], ("convolution", "matmul", "elementwise", "reductions"))
    assert sum(result["groups"].values()) == pytest.approx(1)
    assert sum(op["share"] for op in result["ops"]) == pytest.approx(1)
    # Forward and kernel gradients of 5 convolutions; the images need no gradient.
    counts = [op["count"] for op in result["ops"] if op["group"] == "convolution"]
    assert sum(counts) == 5 + 5 + 4


def test_memory_is_a_line_over_the_batch(runs):
    (result,) = results_of(runs, "memory")
    assert result["network"] == "micro recompute"
    assert [point["batch"] for point in result["points"]] == [1, 3]
    for point in result["points"]:
        assert_positive(point, ("peak_memory_bytes",))
    assert_positive(result, ("activation_bytes",))
    line, (first, last) = result["fit"], (point["peak_memory_bytes"] for point in result["points"])
    assert line["slope"] == pytest.approx((last - first) / 2)
    assert result["largest_batch"] == int((16e9 - line["intercept"]) / line["slope"])


def test_memory_growth_is_that_after_warming_up(runs):
    result = results_of(runs, "memory_growth")["ppo_procgen"]
    assert len(result["resident_bytes"]) == 1 + result["updates"] == 4
    assert_positive(result, ("first_mb", "last_mb"))
    # Tenths of so few updates are one each.
    second, last = (result["resident_bytes"][i] / 1e6 for i in (1, -1))
    assert (result["first_mb"], result["last_mb"]) == (second, last)
    assert result["growth"] == pytest.approx(last / second - 1)


def test_networks_measures_a_network(runs):
    (result,) = results_of(runs, "networks")
    assert result["network"] == "impala_cnn"
    assert_positive(result, (*NETWORK_KEYS, *BARE_KEYS))
    assert result["bare_convolutions"] == 5 + 5 + 4
    assert list(result["forms"]) == ["package"]
    assert_positive(result["forms"]["package"], (*PACKAGE_KEYS, *FRESH_KEYS))


def test_search_methods_are_beside_impala_cnn(runs):
    results = results_of(runs, "search_methods")
    assert list(results) == ["impala_cnn", "gumbel"]
    for values in results.values():
        assert_positive(values, ("seconds", "processor_seconds", *FRESH_KEYS))


def test_networks_compares_a_supernet_with_a_plain_form(monkeypatch, tmp_path, capsys):
    fresh = {"first_call_seconds": 1.0, "peak_memory_bytes": 1}
    monkeypatch.setattr(networks, "measure_fresh", lambda *_: fresh)
    output = tmp_path / "networks.json"
    networks.main(
        ["--networks=micro", "--forms=stack", "--act_batch=2", f"--output={output}", *TINY]
    )
    captured = capsys.readouterr()
    assert "micro, stack" in captured.out
    assert "warning" not in captured.err  # the bare convolutions are those that count_cost counts
    (result,) = json.loads(output.read_text("utf-8"))["results"]
    assert_positive(result, (*NETWORK_KEYS, *BARE_KEYS))
    assert list(result["forms"]) == ["package", "stack"]
    for form, values in result["forms"].items():
        ratios = () if form == "package" else ("train_times_package", "act_times_package")
        assert_positive(values, (*PACKAGE_KEYS, *ratios))


@pytest.mark.parametrize(
    ("module", "argument", "complaint"),
    [
        (networks, "--networks=impala_cnn,nano", "unknown name 'nano'"),
        (networks, "--depths=16,x", "2147483647, got 'x'"),
        (networks, "--output=/no/such/folder/a.json", "cannot be written"),
        (networks, "--output=results.txt", "must end in .json"),
        (agents, "pong", "invalid choice: 'pong'"),
        (agents, ("ppo", "--gin_bindings=PPOSettings.num_envs = 0"), "an integer of at least 1"),
        (agents, ("ppo", "--gin_bindings=PPOSettings.minibatch_size = 5"), "must divide"),
        (agents, ("ppo", "--gin_bindings=PPOSettings.envs = 5"), "--gin_bindings: "),
        (agents, ("ppo", "--gin_bindings=nonsense"), "--gin_bindings: "),
        (agents, ("ppo", "--beside=micro"), "--beside: ppo has no replay"),
        (agents, ("sac", "--beside=nano"), "unknown name 'nano'"),
        (agents, ("rainbow", "--encoder=nano"), "invalid choice: 'nano'"),
        (replay, "--transitions=0", "must be an integer of at least 1"),
        (dm_control_frames, "--domain_name=pendulun", "did you mean 'pendulum'"),
        (gymnasium_frames, "--encoders=nano", "unknown name 'nano'"),
        (gymnasium_frames, "--gin_file=pong.gin", "gin_file: 'pong.gin' is neither a path nor"),
        (catch, "--max_steps=none", "2147483647, got 'none'"),
        (scaling, "--nodes=3", "at least two values"),
        (scaling, "--ops=1,9", "--ops: at most 4, got 9"),
        (memory, "--networks=impala_cnn recompute", "unknown name 'impala_cnn recompute'"),
        (memory_growth, "--launchers=dqn", "unknown name 'dqn'"),
        (peers, "--networks=nature_cnn", "unknown name 'nature_cnn'"),
        (peers, "--networks=impala_cnn", "--cleanrl and --cleanrl_python are required"),
        (peers, "--threads=0", "must be an integer of at least 1"),
        (peers, "--minibatch_size=500", "must divide"),
        (kernel_times, "--form=knitted", "invalid choice: 'knitted'"),
        (kernel_times, "--nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_ends_with_one_line(module, argument, complaint, monkeypatch, capsys):
    arguments = [argument] if isinstance(argument, str) else argument
    monkeypatch.setattr(sys, "argv", [module.__file__, *arguments])
    with pytest.raises(SystemExit) as stop:
        common.run(module.main)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert complaint in line
    assert line.startswith("error: ") and line.count("\n") == 1
