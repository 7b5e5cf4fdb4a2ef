"""Runs the examples, small, as their users do."""

from __future__ import annotations

import re

import pytest
from processes import ROOT, Server
from tiny import COMMON, PPO, SMALL_SPACE

from rldarts_tf.runs.paths import RunPaths
from rldarts_tf.runs.summary import read_summary

EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(server: Server, *arguments: str) -> str:
    """Runs Python in the folder of the examples; returns its standard output."""
    ended = server.run(arguments, cwd=EXAMPLES)
    assert ended.code == 0, ended.err
    return ended.out


def test_ppo_of_tf_agents_trains_a_supernet_on_a_gymnasium_game(server):
    pytest.importorskip("tf_agents")
    pytest.importorskip("minatar")
    small = ("--updates=2", "--num_envs=4", "--steps=8")
    out = run(server, "swap_encoder_tf_agents.py", *small)
    assert "\n1: return " in out and "normal cell (micro)\n  node 1 = " in out


def test_dqn_of_acme_trains_a_supernet(server):
    pytest.importorskip("acme")
    out = run(server, "torso_acme_dqn.py", "--episodes=20", "--batch_size=4")
    assert "20: mean return of 20 episodes " in out and "normal cell (micro)\n  node 1 = " in out


def test_an_environment_of_ones_own_goes_through_the_launcher(tmp_path, server):
    pytest.importorskip("tf_agents")
    pytest.importorskip("gymnasium")
    run(
        server,
        *("-m", "rldarts_tf", "train", "ppo_gymnasium", "--env_module=own_environment"),
        *("--env_name=Own/Errands-v0", "--num_env_steps=64", f"--root_dir={tmp_path / 'errands'}"),
        *(f"--gin_bindings={binding}" for binding in (*COMMON, *PPO.settings, *SMALL_SPACE)),
    )
    stages = read_summary(RunPaths(tmp_path / "errands").summary_path)["stages"]
    assert {entry["exit_state"] for entry in stages.values()} == {"finished"}
    assert stages["evaluate"]["game"] == "Own/Errands-v0"


def test_the_notebook_trains_discretizes_and_draws():
    pytest.importorskip("tf_agents")
    pytest.importorskip("ipykernel")
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    notebook = nbformat.read(EXAMPLES / "search.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3").execute()
    outputs = [output for cell in code for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    before, after = map(float, re.search(r"return (\S+) -> (\S+)", text).groups())
    assert before < 0 < after
    assert "normal cell (micro)\n  node 1 = " in text
    pictures = [kind for output in outputs for kind in output.get("data", {})]
    assert {"image/png", "image/svg+xml"} <= set(pictures)
