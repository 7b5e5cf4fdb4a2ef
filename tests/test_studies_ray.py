"""Studies on a Ray cluster: two nodes on this machine, one of which dies."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("gin")

from processes import wait_until
from ray.cluster_utils import Cluster
from study_trials import start_child
from test_studies import QUICK, run_on, starts

from rldarts_tf.runs.summary import read_summary
from rldarts_tf.studies.engines import RayEngine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEARCHES = dataclasses.replace(QUICK, kind="ablations", search_seeds=(0, 1), search_steps=30)
MEMORY = 80 * 2**20


@pytest.fixture(scope="module")
def cluster():
    """A head with one CPU, whose trials take seconds."""
    folder = Path(__file__).parent
    path = [str(folder.parent), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("STEP_SECONDS", "0.2")
        small = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=small)
        yield cluster
        cluster.shutdown()


def steps_of(root: Path) -> list[int]:
    """The steps that the searches have made."""
    files = [root / f"trials/catch/search/seed-{i}/search/step" for i in (0, 1)]
    return [int(file.read_text()) if file.exists() else 0 for file in files]


def run_on_cluster(cluster, root, stopping=lambda: False):
    engine = RayEngine(cluster.address, 1, start=start_child)
    return run_on(engine, root, SEARCHES, stopping)


def test_a_study_on_a_cluster_stops_with_checkpoints(cluster, tmp_path):
    finished, said = run_on_cluster(cluster, tmp_path, lambda: max(steps_of(tmp_path)) > 2)
    assert not finished and said.count(": stopped") == 2
    (run,) = (tmp_path / "trials").rglob("summary.json")
    assert read_summary(run)["stages"]["search"]["exit_state"] == "interrupted"
    assert 2 < max(steps_of(tmp_path)) < SEARCHES.search_steps


def test_a_node_that_dies_costs_what_its_trial_did_since_the_last_checkpoint(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)

    def kill():
        wait_until(lambda: min(steps_of(tmp_path)) > 2, 300)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    finished, said = run_on_cluster(cluster, tmp_path)
    killer.join()
    assert finished and "failed" not in said
    begun = sorted(starts(tmp_path).values(), key=len)
    assert begun[0] == [0]
    assert len(begun[1]) == 2 and begun[1][0] == 0 and begun[1][1] > 2
