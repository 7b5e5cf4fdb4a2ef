"""Studies on a Ray cluster: two nodes on this machine, one of which dies."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("gin")

from ray.cluster_utils import Cluster
from study_trials import start_child
from test_studies import QUICK, run_on, starts, wait_for

from rldarts_tf.studies.engines import RayEngine
from rldarts_tf.studies.trials import StudyPaths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEARCHES = dataclasses.replace(QUICK, kind="ablations", search_seeds=(0, 1), search_steps=30)


@pytest.fixture
def cluster(monkeypatch):
    """A head and a node, each with one CPU."""
    folder = Path(__file__).parent
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join(
            [str(folder.parent), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    )
    monkeypatch.setenv("STEP_SECONDS", "0.2")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    yield cluster
    cluster.shutdown()


def test_a_node_that_dies_costs_what_its_trial_did_since_the_last_checkpoint(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    steps = [
        StudyPaths(tmp_path).root / f"trials/catch/search/seed-{i}/search/step" for i in (0, 1)
    ]

    def kill():
        wait_for(lambda: all(step.exists() and int(step.read_text()) > 2 for step in steps), 300)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    finished, said = run_on(RayEngine(cluster.address, 1, start=start_child), tmp_path, SEARCHES)
    killer.join()
    assert finished and "failed" not in said
    begun = sorted(starts(tmp_path).values(), key=len)
    assert begun[0] == [0]
    assert len(begun[1]) == 2 and begun[1][0] == 0 and begun[1][1] > 2
