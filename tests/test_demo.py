"""`make demo`: the runs of its script, small, and the report of all of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("minatar")

from processes import ROOT, Server
from tiny import COMMON, PPO, SMALL_SPACE

from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.summary import read_summary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = {
    "found": {"search", "discretize", "evaluate"},
    "impala_cnn": {"baseline"},
    **{f"random-{i}": {"evaluate"} for i in range(3)},
}
BINDINGS = (*COMMON, *PPO.settings, *SMALL_SPACE)
SMALL = ("--num_env_steps=64", *(f"--gin_bindings={binding}" for binding in BINDINGS))


def demo(server: Server, root: Path, *flags: str) -> subprocess.CompletedProcess:
    command = ["bash", "scripts/demo.sh", str(server.python), str(root), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_demo_trains_a_found_cell_beside_others_and_ends_with_a_report(tmp_path, server):
    root = tmp_path / "a demo"
    ended = demo(server, root, *SMALL)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = root / "report.html"
    assert ended.stdout.rstrip().endswith(str(report.resolve()))
    page = report.read_text("utf-8")
    for name, stages in STAGES.items():
        paths = RunPaths(root / name)
        entries = read_summary(paths.summary_path)["stages"]
        assert {stage: entry["exit_state"] for stage, entry in entries.items()} == dict.fromkeys(
            stages, "finished"
        )
        assert f"<td>{name}</td>" in page
        assert f"{name} | " in ended.stdout
    cells = [Genotype.load(RunPaths(root / f"random-{i}").genotype_path) for i in range(3)]
    assert len(set(cells)) == 3


def test_a_wrong_flag_ends_the_demo_with_its_line_and_no_report(tmp_path, server):
    ended = demo(server, tmp_path, "--seed=minus")
    assert ended.returncode != 0
    assert "found | error: " in ended.stdout and "--seed" in ended.stdout
    assert not (tmp_path / "report.html").exists()
