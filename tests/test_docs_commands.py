"""Commands in README.md and docs/: each is read as far as it can be without being run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import gin
import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

from absl import flags as absl_flags
from readme import README, ROOT

from rldarts_tf import commands
from rldarts_tf.genotype import random_genotype
from rldarts_tf.launch import experiment, flags
from rldarts_tf.search_space import CLASSIC
from rldarts_tf.studies.loading import load_study

PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
OF_THE_READERS_OWN = ("my_", "My/", "Own/")
"""Parts of names that stand for what a reader has."""


def commands_of(page):
    """The arguments after `python` of each command in a block of code."""
    text = page.read_text("utf-8")
    for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```$", text, re.M | re.S):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            match = re.match(r"(?:CUDA_VISIBLE_DEVICES=\S+ )?(?:\.venv/bin/)?python (.*)", line)
            if match and not any(part in line for part in OF_THE_READERS_OWN):
                yield tuple(shlex.split(match[1], comments=True))


COMMANDS = sorted({(page.name, *command) for page in PAGES for command in commands_of(page)})


def read(script, arguments):
    """Reads what stands after `python`: a file or a module, and its arguments."""
    if script == "-m":
        module, name, *rest = arguments
        assert module == "rldarts_tf"
        if name == "train":
            read(f"launchers/{rest[0]}.py", rest[1:])
        elif name == "study":
            read("launchers/study.py", rest)
        else:
            commands.make_parser().parse_args(arguments[1:])
        return
    assert (ROOT / script).is_file(), script
    folder, name = script.split("/")
    if script == "launchers/study.py":
        parsed = commands.make_parser().parse_args(["study", *arguments])
        load_study(parsed.gin_file, parsed.gin_bindings)
    elif folder == "launchers":
        spec = importlib.util.spec_from_file_location(
            f"documented_{Path(name).stem}", ROOT / script
        )
        launcher = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(launcher)
        values = flags.define(launcher.EXPERIMENT, absl_flags.FlagValues())
        rest = values([script, *arguments])
        assert rest == [script], rest
        with pytest.raises(BegunError):
            experiment.run(launcher.EXPERIMENT, values)


class BegunError(Exception):
    """All settings have been read, and the run would begin."""


@pytest.fixture(autouse=True)
def nothing_begins(monkeypatch):
    def begin(root):
        raise BegunError

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(experiment, "RunDirectory", begin)
    # Files of earlier commands of the page: a teacher, a cell.
    monkeypatch.setattr(experiment.Teaching, "check", lambda self, stage: None)
    load = experiment._load_genotype
    monkeypatch.setattr(
        experiment,
        "_load_genotype",
        lambda path: load(path) if Path(path).exists() else random_genotype(CLASSIC, 0),
    )
    yield
    gin.clear_config()


def test_there_are_commands():
    assert len(COMMANDS) > 50


@pytest.mark.parametrize(
    "command", COMMANDS, ids=[f"{page} {' '.join(rest)}"[:100] for page, *rest in COMMANDS]
)
def test_a_command_names_only_what_there_is(command):
    _, script, *arguments = command
    read(script, arguments)
