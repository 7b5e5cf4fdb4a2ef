"""Exported policies against the live ones, on observations of the real environments."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("procgen")
pytest.importorskip("acme")
pytest.importorskip("dm_control")

import tensorflow as tf
from readme import EXPORT, marked_block
from spaces import MICRO_2
from trained_runs import trained_stage
from trainings import TINY, registers

from rldarts_tf import commands, export
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.errors import RLDartsError, RunError
from rldarts_tf.export import policies
from rldarts_tf.search_space import MICRO_SAC
from rldarts_tf.training.settings import EncoderSettings

MAZE = ProcgenSuite(ProcgenSettings("maze"))
PENDULUM = DMControlSuite(DMControlSettings("pendulum", "swingup", action_repeat=50, image_size=16))
SUITES = {"ppo": MAZE, "rainbow": MAZE, "sac": PENDULUM}
MICRO_SAC_2 = dataclasses.replace(MICRO_SAC, name="micro_sac_2", num_normal=1, num_nodes=2)
SAC_ENCODER = EncoderSettings("micro_sac_2", [4], features=8, head="layer_norm")
STAGES = {
    "ppo, supernet": ("ppo", "search", EncoderSettings(MICRO_2.name, [4], features=8)),
    "ppo, cell": ("ppo", "evaluate", EncoderSettings("classic", [4], features=8)),
    "ppo, baseline": ("ppo", "baseline", EncoderSettings(depths=[4], features=8)),
    "rainbow, supernet": ("rainbow", "search", EncoderSettings(MICRO_2.name, [4], features=8)),
    "rainbow, cell": ("rainbow", "evaluate", EncoderSettings("classic", [4], features=8)),
    "sac, supernet": ("sac", "search", SAC_ENCODER),
    "sac, cell": ("sac", "evaluate", SAC_ENCODER),
}


registered = registers(MICRO_SAC_2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a stage for an update; returns the run's root, and what its policy says of images."""
    made = {}

    def train(case):
        if case in made:
            return made[case]
        name, stage, encoders = STAGES[case]
        settings, suite = TINY[name], SUITES[name]
        root = tmp_path_factory.mktemp("run")
        with trained_stage(root, stage, settings, encoders, suite) as live:
            images = policies.observations(policies.load_policy(root, stage), 24)
            if name == "ppo":
                _, parameters, value = live._act(tf.constant(images))
                expected = {"logits": parameters["logits"].numpy(), "value": value.numpy()}
            elif name == "sac":
                expected = {"action": live.evaluation_policy(0)(images)}
            else:
                # Evaluations are greedy by default.
                q = live._act_evaluating(tf.constant(images))[1].numpy()
                expected = {"q": q, "action": live.evaluation_policy(0)(images)}
        made[case] = root, stage, images, expected
        return made[case]

    return train


@pytest.mark.parametrize("case", STAGES)
def test_a_policy_is_loaded_as_the_program_left_it(case, trained):
    root, stage, images, expected = trained(case)
    policy = policies.load_policy(root, stage)
    outputs = policy.outputs(tf.constant(images))
    assert set(outputs) == {"action", *expected, *(["q"] if "sac" in case else [])}
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    scores = expected.get("logits", expected.get("q"))
    if scores is not None:
        np.testing.assert_array_equal(outputs["action"], scores.argmax(-1))


def test_a_run_with_settings_that_are_gone_is_still_loaded(trained):
    root, stage, images, expected = trained("rainbow, cell")
    config = root / "config.gin"
    text = config.read_text()
    gone = "".join(f"{stage}/RainbowSettings.epsilon_{end} = 0.05\n" for end in ("start", "end"))
    try:
        config.write_text(text + gone)
        outputs = policies.load_policy(root, stage).outputs(tf.constant(images))
    finally:
        config.write_text(text)
    np.testing.assert_allclose(outputs["q"], expected["q"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file_format", export.FORMATS)
@pytest.mark.parametrize("case", STAGES)
def test_an_exported_policy_says_what_the_live_one_says(case, file_format, trained, tmp_path):
    root, stage, images, _ = trained(case)
    policy = policies.load_policy(root, stage)
    path = tmp_path / "policy"
    export.save(policy, path, file_format)
    assert export.largest_difference(policy, path, file_format, images) < 1e-4
    # Any number of images.
    for number in (1, 3):
        assert export.largest_difference(policy, path, file_format, images[:number]) < 1e-4


def test_a_head_of_constants_normalizes_as_one_of_variables(trained):
    root, stage, images, _ = trained("sac, cell")
    policy = policies.load_policy(root, stage)
    # TensorFlow takes another ε for Keras's own layer, which shows where the variance is small.
    policy.encoder._dense.kernel.assign(policy.encoder._dense.kernel * 0.01)
    live = policy.outputs(tf.constant(images))
    frozen = export.Frozen(policy).act(tf.constant(images))
    for name, value in live.items():
        np.testing.assert_allclose(frozen[name], value, atol=1e-4, err_msg=name)


def test_a_saved_model_runs_without_this_package(trained, tmp_path):
    root, stage, images, _ = trained("ppo, supernet")
    policy = policies.load_policy(root, stage)
    export.save(policy, tmp_path / "policy")
    np.save(tmp_path / "images.npy", images[:2])
    program = (
        "import json, sys, numpy as np, tensorflow as tf\n"
        "act = tf.saved_model.load('policy').signatures['serving_default']\n"
        "out = act(observation=tf.constant(np.load('images.npy')))\n"
        "assert not any(name.startswith('rldarts') for name in sys.modules)\n"
        "print(json.dumps({name: value.numpy().tolist() for name, value in out.items()}))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    for name, value in policy.outputs(tf.constant(images[:2])).items():
        np.testing.assert_allclose(json.loads(ended.stdout)[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("file_format", "file"), [("saved_model", ""), ("tflite", ".tflite")])
def test_the_documented_way_to_read_a_policy(file_format, file, trained, tmp_path, monkeypatch):
    root, stage, images, _ = trained("ppo, cell")
    policy = policies.load_policy(root, stage)
    export.save(policy, tmp_path / f"policy{file}", file_format)
    monkeypatch.chdir(tmp_path)
    namespace = {"tf": tf, "images": images}
    exec(compile(marked_block(file_format, EXPORT), file_format, "exec"), namespace)
    np.testing.assert_array_equal(
        namespace["action"], policy.outputs(tf.constant(images))["action"]
    )


def test_the_command_exports_and_compares(trained, tmp_path, capsys):
    root, stage, *_ = trained("ppo, cell")
    output = tmp_path / "policy.tflite"
    argv = ["export", str(root), f"--stage={stage}", "--format=tflite", f"--output={output}"]
    assert commands.main(argv) == 0
    assert "largest difference" in capsys.readouterr().out
    assert output.stat().st_size > 1000


BAD = {
    "no run": (["export", "nowhere", "--output=x"], "nowhere"),
    "a stage that was not run": (["export", "RUN", "--stage=baseline", "--output=x"], "baseline"),
    "a step that there is not": (["export", "RUN", "--step=7", "--output=x"], "step 7"),
    "a directory that exists": (["export", "RUN", "--output=."], "exists already"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it(case, trained, tmp_path, monkeypatch, capsys):
    root, *_ = trained("ppo, cell")
    argv, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert commands.main([argument.replace("RUN", str(root)) for argument in argv]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", export.FORMATS)
def test_nothing_remains_of_an_export_that_fails(file_format, trained, tmp_path):
    root, stage, *_ = trained("ppo, cell")
    output = tmp_path / "policy"

    def refuse(path):
        assert path.exists() and not output.exists()
        raise RunError("it differs")

    with pytest.raises(RunError, match="it differs"):
        export.save(policies.load_policy(root, stage), output, file_format, refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_an_error_of_one_line(trained, tmp_path):
    import shutil

    root, stage, *_ = trained("ppo, baseline")
    shutil.copytree(root, tmp_path / "copy")
    (index,) = Path(tmp_path / "copy" / stage / "checkpoints").glob("ckpt-*.index")
    whole = index.read_bytes()
    for damaged in (b"nothing", b"", whole[: len(whole) // 2], whole[:-1]):
        index.write_bytes(damaged)
        with pytest.raises(RLDartsError) as caught:
            policies.load_policy(tmp_path / "copy", stage)
        assert "\n" not in str(caught.value)
