"""The parts of benchmarks/study_throughput.py; what it measures takes minutes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("tf_agents")

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, no package

import study_throughput


def test_arrangements_are_pairs_of_trials_and_threads():
    assert study_throughput.arrangements("2x1,1x2") == [(2, 1), (1, 2)]
    for text in ("2", "0x1", "2x1,", "ax1"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be PROCESSESxTHREADS"):
            study_throughput.arrangements(text)


def test_the_cpu_time_of_a_process_is_that_of_the_system():
    begun, own = study_throughput.cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < own + 0.2:
        pass
    assert study_throughput.cpu_seconds(os.getpid()) - begun == pytest.approx(0.2, abs=0.05)


def test_rows_count_from_when_all_trials_are_warm_until_one_ends(tmp_path):
    program = (
        "import sys, time\n"
        "with open(sys.argv[1], 'w', buffering=1) as table:\n"
        "    print('step', file=table)\n"
        "    for row in range(int(sys.argv[2])):\n"
        "        time.sleep(0.15)\n"
        "        print(row, file=table)\n"
    )
    tables = [tmp_path / "short", tmp_path / "long"]
    trials = [
        subprocess.Popen([sys.executable, "-S", "-c", program, str(table), number])
        for table, number in zip(tables, ("8", "40"))
    ]
    begun, ended = study_throughput.wait_for_overlap(trials, tables)
    trials[1].kill()
    trials[1].wait()
    assert min(begun.rows) >= study_throughput.COLD_ROWS
    assert begun.rows[0] < ended.rows[0] <= 8 and ended.rows[1] < 40
    assert study_throughput.count_rows(tmp_path / "none") == 0
