"""The layout of a run directory: its names, and that one module has them and does nothing else."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from rldarts_tf.errors import RunError
from rldarts_tf.runs.paths import (
    CHECKPOINT_PREFIX,
    TRAINED_STAGES,
    RunPaths,
    StagePaths,
    checkpoint_steps,
    find_checkpoint,
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rldarts_tf"
OWNER = "runs/paths.py"
# A name of the layout that means something else there: a field of a genotype, of a report or of a
# state, a module, the title of a table.
OTHER_MEANINGS = {
    "__init__.py": {"cells"},
    "agents/off_policy/program.py": {"replay"},
    "commands/compare.py": {"cells"},
    "commands/discretize.py": {"cells"},
    "extras.py": {"tensorboard"},
    "genotype.py": {"cells"},
    "perturbation/ranking.py": {"cells"},
    "pictures/report/__init__.py": {"cells"},
    "studies/report/contents.py": {"cells"},
}
# What users find, and what programs of theirs may read: written out, so that no change of the
# module goes unseen.
LAYOUT = {
    "config_path": "config.gin",
    "changes_path": "changes.jsonl",
    "genotype_path": "genotype.json",
    "summary_path": "summary.json",
    "cells_dir": "cells",
    "returns_path": "returns.png",
    "report_path": "report.html",
    "lock_path": ".lock",
}
STAGE_LAYOUT = {
    "metrics_path": "metrics.csv",
    "tensorboard_dir": "tensorboard",
    "checkpoints_dir": "checkpoints",
    "replay_dir": "checkpoints/replay",
    "alphas_path": "alphas.npz",
    "contributions_path": "contributions.npz",
    "genotypes_path": "genotypes.jsonl",
    "op_weights_path": "op_weights.png",
}


def properties(paths):
    """{name: its path} of all properties."""
    names = [n for n, value in vars(type(paths)).items() if isinstance(value, property)]
    return {name: getattr(paths, name) for name in names}


def names_of_the_layout():
    """The last part of every path of a run."""
    run = RunPaths(Path("run"))
    return {
        path.name for paths in (run, run.stage("search")) for path in properties(paths).values()
    }


def test_every_file_and_folder_of_a_run_has_its_name():
    run = RunPaths(Path("some/run"))
    expected = {name: Path("some/run") / path for name, path in LAYOUT.items()}
    assert properties(run) == expected
    assert TRAINED_STAGES == ("search", "evaluate", "baseline")
    for stage in TRAINED_STAGES:
        folder = Path("some/run") / stage
        assert run.stage(stage) == StagePaths(folder)
        expected = {name: folder / path for name, path in STAGE_LAYOUT.items()}
        assert properties(run.stage(stage)) == expected


def test_paths_are_plain_values_and_touch_no_disk(tmp_path):
    run = RunPaths(tmp_path / "run")
    for paths in (run, run.stage("search")):
        properties(paths)
        assert paths == dataclasses.replace(paths) and len({paths, dataclasses.replace(paths)}) == 1
        for field in dataclasses.fields(paths):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(paths, field.name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "Search", "cells", ".lock"])
def test_a_stage_of_a_reader_cannot_leave_the_root_either(name):
    with pytest.raises(RunError, match="stage"):
        RunPaths(Path("run")).stage(name)


def test_the_documentation_shows_the_layout_that_there_is():
    page = (ROOT / "docs" / "launchers.md").read_text("utf-8")
    (block,) = re.findall(r"```\nruns/starpilot/\n(.*?)```", page, re.S)
    tokens = [token.strip(":,;") for token in block.split()]
    # Files have a suffix, folders a slash at the end.
    documented = {Path(t).name for t in tokens if re.search(r"[a-z_]\.[a-z]+\Z|[a-z]/\Z", t)}
    # The report is asked for, the lock and replay are of no use to a reader.
    undocumented = {"report.html", ".lock", "replay"}
    assert documented == names_of_the_layout() - undocumented | set(TRAINED_STAGES)


def spelled_names(path):
    """The names of the layout that a module has in its code as text which could be a path."""
    names, found = names_of_the_layout(), set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        # With a blank it is a message, a help text or a docstring.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            found |= names.intersection(node.value.split("/"))
            found |= {CHECKPOINT_PREFIX} if node.value.startswith(CHECKPOINT_PREFIX) else set()
    return found


def test_no_other_module_spells_the_names_of_the_layout():
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert spelled_names(modules.pop(OWNER)) == names_of_the_layout() | {CHECKPOINT_PREFIX}
    found = {module: names for module, path in modules.items() if (names := spelled_names(path))}
    assert found == OTHER_MEANINGS


def test_no_other_module_lists_the_stages():
    def lists_of_stages(path):
        return [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, (ast.Tuple, ast.List, ast.Set))
            and [getattr(item, "value", None) for item in node.elts] == [*TRAINED_STAGES]
        ]

    assert len(lists_of_stages(PACKAGE / OWNER)) == 1
    others = set(PACKAGE.rglob("*.py")) - {PACKAGE / OWNER}
    assert {str(path): found for path in others if (found := lists_of_stages(path))} == {}


def test_a_checkpoint_is_found_by_its_step(tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(RunError, match=r"holds no checkpoint$"):
        find_checkpoint(folder)
    folder.mkdir()
    # The last one has no index: it was not completed.
    for name in ("ckpt-9.index", "ckpt-9.json", "ckpt-100.index", "ckpt-200.json", "checkpoint"):
        (folder / name).touch()
    assert find_checkpoint(folder) == folder / "ckpt-100"
    assert find_checkpoint(folder, 9) == folder / "ckpt-9"
    with pytest.raises(RunError, match=r"holds no checkpoint of step 200; it has 9, 100$"):
        find_checkpoint(folder, 200)


def test_the_steps_of_checkpoints_are_read_from_their_names():
    paths = [Path("a/ckpt-3.index"), "a/ckpt-3", "ckpt-20.data-00000-of-00001", "ckpt-7_temp", "x"]
    assert checkpoint_steps(paths) == {3, 20}
