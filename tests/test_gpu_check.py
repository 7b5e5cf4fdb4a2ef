"""scripts/gpu_check.sh where there is no GPU: what it refuses, compares and prints."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("procgen")
pytest.importorskip("acme")

sys.path.append(str(Path(__file__).parents[1] / "scripts"))  # scripts, no package

import gpu_check
from gpu_check import CASES, MODES, ROOT, Trained, problems


def run(*arguments, python=sys.executable, **kwargs):
    environment = {**os.environ, "PYTHON": str(python), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "gpu_check.sh"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        **kwargs,
    )


def trained(code=0, **columns):
    return Trained(columns, code, "error: it burns", None, None)


def test_without_a_gpu_it_says_so_in_one_line(server):
    ended = run(python=server.python)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and "sees no GPU" in ended.stderr


def test_an_unknown_launcher_is_named(server):
    ended = run("--launchers=ppo,dqn", python=server.python)
    assert ended.returncode == 2 and "'dqn' is none of ppo, rainbow, sac" in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_on_the_cpu_a_run_is_compared_and_shown_in_a_table(tmp_path):
    folder = tmp_path / "runs"
    ended = run(
        "--cpu", "--launchers=rainbow", "--modes=float32,jit_compile", "--seconds=0",
        f"--output={folder}",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    header, row = ended.stdout.splitlines()
    assert header.split()[:4] == ["launcher", "mode", "on", "steps/s"]
    # Rainbow has no jit_compile.
    name, mode, device, rate, host, gpu, losses = row.split(maxsplit=6)
    assert (name, mode, device, gpu, losses) == ("rainbow", "float32", "CPU", "-", "as on the CPU")
    assert float(rate.replace(",", "")) > 0 and float(host.replace(",", "")) > 100
    assert {path.name for path in (folder / "rainbow").iterdir()} == {"cpu", "float32"}


COLUMNS = {"step": [10, 20], "wall_time": [1.0, 6.0], "steps_per_second": [9.0, 2.0]}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_compared_where_the_cpu_has_its_first(name):
    case = CASES[name]
    reference = trained(**{metric: [math.nan, 2.0] for metric in case.tolerances})
    for metric, (relative, absolute) in case.tolerances.items():
        most = 2.0 * relative + absolute
        for offset, found in ((0.99 * most, 0), (-0.99 * most, 0), (1.01 * most, 1)):
            columns = {**reference.metrics, metric: [0.0, 2.0 + offset]}
            line = problems(case, reference, trained(**columns))
            assert len(line) == found and all(metric in part for part in line)
        for column in ([2.0], [2.0, math.nan]):
            assert (
                len(problems(case, reference, trained(**{**reference.metrics, metric: column})))
                == 1
            )
    assert problems(case, reference, trained(1)) == ["exit code 1: error: it burns"]
    (line,) = problems(case, trained(2), reference)
    assert "CPU's run has no losses (exit code 2: error: it burns)" in line
    assert set(case.modes) <= set(MODES)


def test_the_rate_is_without_the_first_row_if_there_are_others():
    assert trained(**COLUMNS).steps_per_second == 2.0
    assert trained(**{k: v[:1] for k, v in COLUMNS.items()}).steps_per_second == 9.0
    assert math.isnan(trained().steps_per_second)


def test_a_table_has_a_column_for_each_entry():
    table = gpu_check.formatted([("a", "long name"), ("wide", "b")])
    assert table.splitlines() == ["a     long name", "wide  b"]
    assert (gpu_check.number(None), gpu_check.number(math.nan)) == ("-", "-")
    assert gpu_check.number(1234.56) == "1,234.6"
