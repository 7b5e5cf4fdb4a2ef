"""Videos of trained policies: what is shown, what was played, and the report that has them."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("tf_agents")

import tensorflow as tf
from PIL import Image
from trained_runs import trained_stage

from rldarts_tf import commands
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.envs.suite import suite_of
from rldarts_tf.errors import RunError
from rldarts_tf.export import playing
from rldarts_tf.export.playing import play
from rldarts_tf.export.policies import load_policy
from rldarts_tf.pictures import report, video
from rldarts_tf.training.evaluation import evaluate
from rldarts_tf.training.settings import EncoderSettings

PPO = PPOSettings(num_envs=4, steps_per_update=8, minibatch_size=16, num_epochs=1)
SAC = SACSettings(
    num_envs=2, steps_per_update=4, batch_size=4, samples_per_insert=1.0, min_replay_size=8,
    replay_capacity=50, hidden_sizes=(8,),
)  # fmt: skip
CASES = {
    "catch": (PPO, "CatchSettings", {}, None),
    "minatar": (PPO, "GymnasiumSettings", {"env": "MinAtar/Asterix-v1"}, "minatar"),
    "procgen": (PPO, "ProcgenSettings", {"game": "bossfight"}, "procgen"),
    "dm_control": (
        SAC,
        "DMControlSettings",
        {"domain_name": "pendulum", "action_repeat": 50, "image_size": 16},
        "dm_control",
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run whose baseline was trained for an update, by its case."""
    made = {}

    def train(case):
        if case not in made:
            settings, name, options, package = CASES[case]
            if package:
                pytest.importorskip(package)
            made[case] = tmp_path_factory.mktemp(case)
            suite = suite_of(name)(suite_of(name).settings_class(**options))
            encoders = EncoderSettings(depths=[4], features=8)
            with trained_stage(made[case], "baseline", settings, encoders, suite):
                pass
        return made[case]

    return train


# --- what was played --------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_episodes_are_those_of_an_evaluation_with_the_same_seed(case, trained):
    policy = load_policy(trained(case), "baseline")
    episodes = play(policy, 2, seed=3)
    environment = policy.suite.make(1, 3)
    act = tf.function(policy.outputs)
    expected = evaluate(environment, lambda images: act(images)["action"].numpy(), 2)
    environment.close()
    lasts = [episode.moments[-1] for episode in episodes]
    assert [last.step for last in lasts] == expected.lengths.tolist()
    np.testing.assert_allclose([last.episode_return for last in lasts], expected.returns)
    for episode in episodes:
        assert episode.ended and episode.game == policy.suite.games[0]
        assert [moment.step for moment in episode.moments] == list(range(len(episode.moments)))
        assert episode.moments[0].episode_return == 0


def test_the_last_moment_of_an_episode_is_its_own(trained):
    catch, bossfight = (load_policy(trained(case), "baseline") for case in ("catch", "procgen"))
    (episode,) = play(catch, 1)
    # The ball has reached the paddle's row.
    assert np.count_nonzero(episode.moments[-1].observation[:-1]) == 0
    assert episode.moments[-1].episode_return in (-1, 1)
    # Procgen shows the next episode's first frame there: see `Environments.last_is_first`.
    before, last = play(bossfight, 1)[0].moments[-2:]
    np.testing.assert_array_equal(before.observation, last.observation)


def test_sampled_actions_follow_the_probabilities_and_the_seed(trained):
    policy = load_policy(trained("minatar"), "baseline")
    first, again, greedy = (
        [moment.observation for moment in play(policy, 1, 0, 200, sampled)[0].moments]
        for sampled in (True, True, False)
    )
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(greedy) or (np.array(first) != greedy).any()
    act = playing._actor(policy, 0)
    images = np.repeat(first[:1], 4000, axis=0)
    logits = policy.outputs(tf.constant(images[:1]))["logits"]
    shares = np.bincount(act(images), minlength=logits.shape[-1]) / 4000
    np.testing.assert_allclose(shares, tf.nn.softmax(logits)[0], atol=0.03)


def test_a_policy_without_probabilities_is_not_sampled(trained):
    with pytest.raises(RunError, match="sampled: only PPO"):
        play(load_policy(trained("dm_control"), "baseline"), 1, sampled=True)


def test_a_long_episode_is_stopped(trained):
    (episode,) = play(load_policy(trained("catch"), "baseline"), 3, max_steps=4)
    assert not episode.ended and len(episode.moments) == 5


# --- what is shown ----------------------------------------------------------------------------


def test_gray_and_red_green_blue_are_shown_as_they_are():
    colours = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    np.testing.assert_array_equal(video.picture(colours), colours)
    gray = colours[..., :1]
    np.testing.assert_array_equal(video.picture(gray), np.repeat(gray, 3, axis=-1))


def test_of_stacked_frames_the_newest_is_shown():
    stack = np.arange(108, dtype=np.uint8).reshape(3, 4, 9)
    np.testing.assert_array_equal(video.picture(stack, 3), stack[..., 6:])
    np.testing.assert_array_equal(video.picture(stack[..., :4], 4)[..., 0], stack[..., 3])


@pytest.mark.parametrize("channels", [2, 3, 4, 10])
def test_every_plane_has_a_colour_of_its_own(channels):
    planes = np.eye(channels, dtype=bool)[None]
    shown = video.picture(planes)[0]
    assert len({tuple(pixel) for pixel in shown}) == channels and shown.max(axis=-1).min() == 255
    assert video.picture(np.zeros_like(planes)).max() == 0


def test_floats_are_shown_between_their_bounds_or_between_their_extremes():
    image = np.array([[[-1.0], [0.0], [0.5]]], np.float32)
    assert video.picture(image, bounds=(-1, 1))[0, :, 0].tolist() == [0, 128, 191]
    assert video.picture(image)[0, :, 0].tolist() == [0, 170, 255]
    assert video.picture(np.zeros_like(image)).max() == 0


@pytest.mark.parametrize("shape", [(10, 5), (10, 10), (64, 64), (84, 84), (400, 301)])
def test_pixels_become_blocks_above_the_caption(shape):
    colours = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    shown = video.captioned(colours, ["game", "return"])
    assert shown.shape[0] % 2 == shown.shape[1] % 2 == 0
    factor = max(1, 320 // max(shape))
    left = (shown.shape[1] - shape[1] * factor) // 2
    blocks = shown[: shape[0] * factor : factor, left : left + shape[1] * factor : factor]
    np.testing.assert_array_equal(blocks, colours)
    assert shown[shape[0] * factor :].max() == 255


# --- files ------------------------------------------------------------------------------------


def frames_of(path):
    """The pictures of a video file."""
    if path.suffix == ".gif":
        with Image.open(path) as image:
            for number in range(image.n_frames):
                image.seek(number)
                yield np.asarray(image.convert("RGB"))
        return
    frames = pytest.importorskip("imageio_ffmpeg").read_frames(str(path))
    width, height = next(frames)["size"]
    for frame in frames:
        yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)


@pytest.mark.filterwarnings("ignore:pkg_resources")
@pytest.mark.parametrize(
    ("case", "file"),
    [("catch", "baseline.mp4"), ("catch", "baseline.gif"), ("minatar", "baseline.gif")],
)
def test_the_command_writes_a_picture_for_each_moment(case, file, trained, capsys):
    root = trained(case)
    output = root / file
    arguments = ["--stage=baseline", "--episodes=2", f"--output={output}"]
    assert commands.main(["watch", str(root), *arguments]) == 0
    printed = capsys.readouterr().out
    policy = load_policy(root, "baseline")
    episodes = play(policy, 2)
    moments = [moment for episode in episodes for moment in episode.moments]
    shown = list(frames_of(output))
    assert len(shown) == len(moments)
    for frame, moment in zip(shown, moments):
        colours = video.picture(moment.observation, bounds=(0, 1))
        factor = 320 // max(colours.shape[:2])
        side = factor * np.array(colours.shape[:2])
        left = (frame.shape[1] - side[1]) // 2
        middles = frame[
            factor // 2 : side[0] : factor, left + factor // 2 : left + side[1] : factor
        ]
        np.testing.assert_allclose(middles, colours, atol=12)
    for episode in episodes:
        last = episode.moments[-1]
        assert f"return {last.episode_return:g}, {last.step} steps" in printed


def test_the_report_shows_a_video_that_is_small(trained, monkeypatch, capsys):
    pytest.importorskip("jinja2")
    root = trained("procgen")
    for name in ("baseline.gif", "evaluate.mp4"):
        (root / name).write_bytes(b"a video")
    page = report.make_page([root])
    assert '<img src="data:image/gif;base64,YSB2aWRlbw=="' in page
    assert '<video src="data:video/mp4;base64,YSB2aWRlbw=="' in page
    assert "media-src data:" in page
    monkeypatch.setattr(report, "_LARGEST_VIDEO", 3)
    page = report.make_page([root])
    assert "YSB2aWRlbw" not in page and page.count("too large for this page") == 2


def test_a_video_in_memory_is_one_of_its_format():
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (0, 100, 200)]
    with Image.open(io.BytesIO(video.encode(iter(pictures), "gif", fps=10))) as image:
        assert (image.format, image.n_frames, image.size) == ("GIF", 3, (60, 40))
        assert image.info["duration"] == 100


# --- errors -----------------------------------------------------------------------------------

BAD = {
    "no run": (["nowhere"], "nowhere"),
    "a stage that was not run": (["RUN", "--stage=search"], "search"),
    "another format": (["RUN", "--output=x.avi"], "'x.avi': its name must end in .mp4 or .gif"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it(case, trained, tmp_path, monkeypatch, capsys):
    argv, message = BAD[case]
    root = trained("catch")
    monkeypatch.chdir(tmp_path)
    assert commands.main(["watch", *(argument.replace("RUN", str(root)) for argument in argv)]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "file"), [("imageio_ffmpeg", "x.mp4"), ("PIL", "x.gif")])
def test_a_package_that_is_missing_is_named_with_its_extra(module, file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert commands.main(["watch", "nowhere", f"--output={file}"]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1 and module in err and "pip install rldarts_tf[video]" in err
