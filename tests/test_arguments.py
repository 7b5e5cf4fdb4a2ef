"""Arguments that anybody may type: a command does what is asked, or says in one line why not."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("tf_agents")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

import gin
from absl import flags as absl_flags

from rldarts_tf import commands
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.envs.catch import CatchSuite
from rldarts_tf.errors import report_error, report_exception
from rldarts_tf.launch import Experiment, experiment, flags

GOLDEN = Path(__file__).with_name("golden")
NUMBERS = [
    "0", "1", "2", "-1", "7.5", "1e9", "nan", "-inf", "٣", "²", "0x10", "1_0", " 1 ",
    "9" * 11, "9" * 40, "9" * 5000,
]  # fmt: skip
TEXTS = [
    "", " ", "a\nb", "\udcff", "日本", "x" * 300, "x/" * 3000, "%s{}", "--", "-", "=", ",", "a,,b",
    "None", "\x1b[31m", "@f()", "import os", "x.y = 1", "classic", "micro", "svg", "64x64x3", "4,4",
    "concat", "loss",
]  # fmt: skip
PATHS = [
    ".", "..", "/", "/dev/null", "/proc/self/mem", "/proc/nothing", "run", "run/search", "empty",
    "file", "file/x", "cell.json", "alphas.npz", "run/config.gin", "nowhere", "nowhere.npz", "日本",
    "out.png", "out.svg", "out.mp4", "out.tflite", "new/out.json", "out.html", "cell.json/..",
]  # fmt: skip


def parsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action
        for action in commands.make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return found.choices


PARSERS = parsers()


def value_of(draw: st.DrawFn, action: argparse.Action) -> str:
    """What may be typed for an argument, of its kind or of any other."""
    kinds = [NUMBERS, TEXTS, PATHS, PATHS]
    if action.choices:
        kinds += [list(action.choices)] * 8
    elif action.type is not None:
        kinds += [NUMBERS] * 8
    return draw(st.sampled_from(draw(st.sampled_from(kinds))))


@st.composite
def argvs(draw: st.DrawFn, name: str) -> list[str]:
    """A command line: mostly with what the command requires, and now and then with the rest."""
    argv = [name]
    for action in PARSERS[name]._actions:
        often = action.required or not action.option_strings
        if isinstance(action, argparse._HelpAction) or not draw(
            st.integers(0, 9).map(lambda k, most=9 if often else 2: k < most)
        ):
            continue
        if not action.option_strings:
            argv.append(value_of(draw, action))
        elif action.nargs == 0:
            argv.append(action.option_strings[0])
        else:
            argv.append(f"{action.option_strings[0]}={value_of(draw, action)}")
    return argv


def assert_ends_well(code: int, err: str, argv: list[str]) -> None:
    """Done, or refused with one line; a bug has code 1."""
    refused = code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert code == 0 or refused, (code, err, argv)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose checkpoints are gone, so that no network is made, and a few other files."""
    folder = tmp_path_factory.mktemp("arguments")
    shutil.copytree(GOLDEN / "ppo", folder / "run", ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copy(GOLDEN / "ppo" / "genotype.json", folder / "cell.json")
    shutil.copy(GOLDEN / "ppo" / "search" / "alphas.npz", folder)
    for name in ("empty", "日本"):
        (folder / name).mkdir()
    (folder / "file").write_text("x")
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


# `train` hands its flags to a launcher: see below.
@pytest.mark.parametrize("name", [name for name in commands.COMMANDS if name != "train"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_command_takes_its_arguments_or_refuses_them_in_one_line(name, folder, data):
    argv = data.draw(argvs(name))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = commands.main(argv)
        except SystemExit as error:
            code = error.code
    assert_ends_well(code, err.getvalue(), argv)


EXPERIMENT = Experiment("fuzzed", "catch.gin", PPOProgram, CatchSuite)
BINDINGS = st.builds(
    "{}PPOSettings.{} = {}".format,
    st.sampled_from(["", "search/", "evaluate/", "serch/", "/"]),
    st.sampled_from([*PPOSettings.__dataclass_fields__, "lerning_rate", ""]),
    st.sampled_from([*NUMBERS[:9], *TEXTS, "'x'", "[1]", "{}", "%X", "(1, ", "True"]),
)
FLAGS = {
    "gin_file": st.sampled_from([*PATHS, *TEXTS, "spaces/micro.gin"]),
    "gin_bindings": BINDINGS,
    "seed": st.sampled_from(NUMBERS),
    "num_env_steps": st.sampled_from(NUMBERS),
    "genotype": st.sampled_from([*PATHS, *TEXTS]),
    "stage": st.sampled_from(["all", "search", "evaluate", "discretize", "", "x"]),
    "intra_op_threads": st.sampled_from(NUMBERS),
}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argv=st.lists(st.sampled_from([*FLAGS]).flatmap(
    lambda name: FLAGS[name].map(lambda value: f"--{name}={value}")), max_size=3))  # fmt: skip
def test_a_launcher_takes_its_flags_or_refuses_them_in_one_line(folder, argv):
    values = flags.define(EXPERIMENT, absl_flags.FlagValues())
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            # The last flag keeps what is right from being trained.
            values(["fuzzed", *argv, f"--root_dir={folder / 'file' / 'run'}"])
            experiment.run(EXPERIMENT, values)
        except absl_flags.Error as error:
            code = report_error(error)
        except Exception as error:
            code = report_exception(error)
        finally:
            gin.clear_config()
    assert code == 2
    assert_ends_well(code, err.getvalue(), argv)
