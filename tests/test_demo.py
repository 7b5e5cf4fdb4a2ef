"""`make demo`: the runs of its script, small, and the report of all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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
    environment = {**os.environ, "CI": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("environment", "opens"),
    [
        ({"DISPLAY": ":7"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ":7", "CI": "true"}, False),
        ({}, sys.platform == "darwin"),
    ],
)
def test_a_page_is_opened_where_there_is_a_desktop_and_not_in_ci(environment, opens, tmp_path):
    shown, page = tmp_path / "shown", tmp_path / "a page.html"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{shown}.part" && mv "{shown}.part" "{shown}"\n')
    browser.chmod(0o755)
    page.touch()
    ended = _open(page, {**environment, "BROWSER": f"{browser} %s"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    deadline = time.monotonic() + (60 if opens else 2)
    while not shown.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shown.exists() == opens
    if opens:
        assert shown.read_text().strip() == page.resolve().as_uri()


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python"])
def test_a_browser_that_is_missing_fails_nothing(python, tmp_path):
    ended = _open(tmp_path / "page.html", {"DISPLAY": ":7", "BROWSER": "/nowhere/browser"}, python)
    assert ended.returncode == 0


def _open(page, environment, python=sys.executable):
    return subprocess.run(
        ["bash", "scripts/open_page.sh", python, str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    )


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
