"""Common set-up of all tests: quiet logs, one hypothesis profile, a fixed seed for TensorFlow."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Several processes run at once, with networks so small that threads would only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Tests of resumed runs compare to the last bit, and oneDNN's kernels do not give the same one each
# time: on a busy machine one training in nine differed in it from the first of its process.
# Whatever the environment says, for `setdefault` once left it to an `export` of the Makefile.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

# XLA's programs are so small here that optimizing them takes longer than running them.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"

import hypothesis
import pytest
from processes import Server

# Examples build networks, whose time says nothing; a shared machine must not fail a test.
hypothesis.settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("default"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


# The files that take longest, from over a minute down. A file's tests stay together, so one of
# these at the end would keep one process busy while the others have nothing left.
LONG_FILES = (
    "test_benchmarks.py",
    "test_examples.py",
    "test_launcher.py",
    "test_rainbow_launcher.py",
    "test_sac_launcher.py",
    "test_torso.py",
    "test_serialization.py",
    "test_loss_scale.py",
    "test_devices.py",
    "test_export.py",
    "test_sac_training.py",
    "test_dm_control.py",
    "test_gpu_check.py",
    "test_docs_extending.py",
    "test_readme_acme.py",
    "test_rainbow_training.py",
    "test_ppo_training.py",
    "test_encoding_network.py",
    "test_rainbow.py",
    "test_demo.py",
    "test_installed.py",
    "test_shapes.py",
    "test_faults.py",
    "test_sac.py",
    "test_gymnasium_launcher.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    rank = {name: i for i, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """Modules are no garbage, and graphs are many objects: collecting less often is 5 % faster."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Starts Python programs without the time that the import of TensorFlow and agents takes."""
    modules = {
        "rldarts_tf.launch": "gin",
        "rldarts_tf.agents.ppo.program": "tf_agents",
        "rldarts_tf.agents.rainbow.program": "acme",
        "rldarts_tf.agents.sac.program": "acme",
        "matplotlib.backends.backend_agg": "matplotlib",
        "matplotlib.backends.backend_svg": "matplotlib",
        "procgen_pictures": "procgen",
    }
    there = [name for name, needed in modules.items() if importlib.util.find_spec(needed)]
    with Server(there, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def _fixed_tensorflow_seed() -> None:
    """Initial weights are the same in every run of a test, alone or among others."""
    # Tests of the simulator and of files need no TensorFlow: it takes seconds to import.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.keras.utils.set_random_seed(0)


@pytest.fixture
def float64():
    """Layers made in the test compute in float64, so that only real differences are seen."""
    import tensorflow as tf

    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)
