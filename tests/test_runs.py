"""Run directory, metrics, logs, summary and progress: what a killed or repeated run finds again."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import pty
import re
import signal
import stat
import sys
import threading
import time

import events
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldarts_tf.errors import RunError
from rldarts_tf.files import TEMPORARY_SUFFIX, write_bytes, write_text
from rldarts_tf.genotype import random_genotype
from rldarts_tf.runs import npz
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.contribution_history import read_contributions
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.metrics import MetricsWriter, read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, StagePaths
from rldarts_tf.runs.search_log import AlphaLog, ContributionLog, GenotypeLog, read_genotypes
from rldarts_tf.runs.summary import print_table, read_summary, versions, write_summary
from rldarts_tf.search_space import MICRO
from rldarts_tf.training.progress import Progress


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert message and "\n" not in message
    return message


@contextlib.contextmanager
def forked(work):
    """Runs `work(ready)` in a child process; yields its id once the child has called `ready()`."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(readable)
            work(lambda: os.write(writable, b"x"))
        finally:
            os._exit(0)
    os.close(writable)
    try:
        assert os.read(readable, 1) == b"x"
        yield child
    finally:
        os.close(readable)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# --- atomic -------------------------------------------------------------------------------------


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_text(path, "α first\n")
    write_text(path, "second\n")
    assert path.read_bytes() == b"second\n"
    assert os.listdir(path.parent) == ["file.txt"]


def test_files_get_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_link_keeps_pointing_at_the_replaced_file(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_leftovers(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_text("old")

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(RunError) as error:
        write_text(path, "new")
    assert str(path) in one_line(error) and "No space left" in str(error.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as error:
        write_text(tmp_path / "file" / "below", "")
    assert "below" in one_line(error)


def test_a_killed_writer_leaves_a_complete_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([65 + k]) * (1 << 20) for k in range(4)]

    def write_on(ready):
        write_bytes(path, contents[0])
        ready()
        while True:
            for content in contents:
                write_bytes(path, content)

    for attempt in range(8):
        with forked(write_on) as child:
            time.sleep(0.002 + 0.003 * attempt)
            os.kill(child, signal.SIGKILL)
        assert path.read_bytes() in contents


def test_npz_round_trips_without_pickle(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "names": np.array(["x", "yz"])}
    npz.write_npz(tmp_path / "f.npz", **arrays)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["a", "names"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(archive[name], array)
            assert archive[name].dtype == array.dtype


def test_npz_refuses_what_only_pickle_could_store(tmp_path):
    with pytest.raises(TypeError, match="'bad'"):
        npz.write_npz(tmp_path / "f.npz", bad=np.array([{}]))
    assert not (tmp_path / "f.npz").exists()


# --- directory ----------------------------------------------------------------------------------


def test_only_the_root_and_its_lock_are_created(tmp_path):
    with RunDirectory(tmp_path / "a" / "b") as run:
        stage = run.stage("search")
        paths = {
            run.config_path: "config.gin",
            run.genotype_path: "genotype.json",
            run.summary_path: "summary.json",
            run.cells_dir: "cells",
            stage.path: "search",
            stage.metrics_path: "search/metrics.csv",
            stage.tensorboard_dir: "search/tensorboard",
            stage.checkpoints_dir: "search/checkpoints",
            stage.alphas_path: "search/alphas.npz",
            stage.genotypes_path: "search/genotypes.jsonl",
        }
        for path, expected in paths.items():
            assert path == tmp_path / "a" / "b" / expected
        assert os.listdir(tmp_path / "a" / "b") == [".lock"]


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError) as error:
            RunDirectory(root)
        assert f"root_dir '{root}'" in one_line(error)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("root", ["", "gs://bucket/run", "/proc/no-such-folder"])
def test_a_root_that_cannot_be_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as error:
        RunDirectory(root)
    assert "root_dir" in one_line(error)
    assert os.listdir(tmp_path) == []


def test_a_read_only_root_is_refused(tmp_path, monkeypatch):
    if os.geteuid() == 0:  # permission bits do not bind root
        real_open = os.open

        def read_only(path, flags, *args, **kwargs):
            if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return real_open(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", read_only)
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(RunError) as error:
        RunDirectory(tmp_path)
    tmp_path.chmod(0o700)
    assert f"root_dir '{tmp_path}' is not writable" in one_line(error)


@pytest.mark.parametrize("name", ["", "..", "a/b", "Search", "cells", ".lock"])
def test_a_stage_cannot_leave_the_root(tmp_path, name):
    with RunDirectory(tmp_path) as run, pytest.raises(RunError, match="stage"):
        run.stage(name)


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    def hold(ready):
        run = RunDirectory(tmp_path)
        ready()
        time.sleep(60)
        run.close()

    with forked(hold) as child:
        with pytest.raises(RunError) as error:
            RunDirectory(tmp_path)
        assert f"is in use by process {child}" in one_line(error)
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        RunDirectory(tmp_path).close()


def test_a_worker_that_outlives_a_killed_run_does_not_hold_the_lock(tmp_path):
    worker_id = tmp_path / "worker"
    root = tmp_path / "run"

    def hold(ready):
        run = RunDirectory(root)
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(0)
        worker_id.write_text(str(worker))
        ready()
        time.sleep(60)
        run.close()

    with forked(hold) as child:
        # Give the worker its time to start.
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        try:
            os.kill(int(worker_id.read_text()), 0)
            RunDirectory(root).close()
        finally:
            os.kill(int(worker_id.read_text()), signal.SIGKILL)


def test_one_process_can_reopen_what_it_closed_or_dropped(tmp_path):
    first = RunDirectory(tmp_path)
    with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        RunDirectory(tmp_path)
    first.close()
    first.close()
    second = RunDirectory(tmp_path)
    del second
    RunDirectory(tmp_path).close()


def test_leftovers_of_a_killed_write_are_removed_and_other_files_stay(tmp_path):
    (tmp_path / "search").mkdir()
    leftover = tmp_path / "search" / f".alphas.npz.0{TEMPORARY_SUFFIX}"
    other = tmp_path / "search" / ".hidden"
    for path in (leftover, other):
        path.write_text("")
    RunDirectory(tmp_path).close()
    assert not leftover.exists() and other.exists()


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    leftover = tmp_path / f".file.0{TEMPORARY_SUFFIX}"
    leftover.write_text("")
    with pytest.warns(RuntimeWarning, match="has no locks"), RunDirectory(tmp_path) as run:
        run.bind_config(CONFIG)
    # It may belong to a writer that nothing keeps away.
    assert leftover.exists()


CONFIG = """
import some.module

# Parameters for ppo:
# ==============================================================
ppo.learning_rate = 0.0005
ppo.sizes = \\
    {'a': [1, 2],
     'b': 'text # not a comment'}
eval/ppo.network = @Network()
LIMIT = 25
"""

SAME_CONFIGS = {
    "identical": CONFIG,
    "other number format": CONFIG.replace("0.0005", "5e-4"),
    "comments and blank lines": CONFIG.replace("LIMIT", "\n\n# more\nLIMIT"),
    "line breaks": CONFIG.replace("\\\n    {", "{").replace(",\n     ", ", "),
    "order of keys": CONFIG.replace("'a': [1, 2],", "").replace(
        "comment'}", "comment', 'a': [1,2]}"
    ),
    "newer and off": CONFIG + "ppo.schedule = None",
    "a newer switch that is off": CONFIG + "ppo.schedule = False",
    "a macro for what it stands for": CONFIG.replace("0.0005", "%RATE") + "RATE = 5e-4\n",
    "a macro of a macro, inside a value": CONFIG.replace("[1, 2]", "[%ONE, 2]")
    + "ONE = %FIRST\nFIRST/macro.value = 1\n",
    "other imports": CONFIG.replace("some.module", "another.module"),
    "order of settings": "LIMIT = 25\n" + CONFIG.replace("LIMIT = 25", ""),
}

OTHER_CONFIGS = {
    "value": (CONFIG.replace("0.0005", "0.001"), "ppo.learning_rate: 0.0005 -> 0.001"),
    "type": (CONFIG.replace("LIMIT = 25", "LIMIT = 25.0"), "LIMIT: 25 -> 25.0"),
    "inside a value": (
        CONFIG.replace("[1, 2]", "[1, 3]"),
        "ppo.sizes: {'a': [1, 2], 'b': 'text # not a comment'} -> {'a': [1, 3], ",
    ),
    "a macro that is used": (
        CONFIG.replace("0.0005", "%RATE") + "RATE = 1e-4\n",
        "ppo.learning_rate: 0.0005 -> 0.0001",
    ),
    "gone": (CONFIG.replace("LIMIT = 25", ""), "LIMIT: 25 -> (not set)"),
    "new": (CONFIG + "ppo.epochs = 3", "ppo.epochs: (not set) -> 3"),
    "reference": (CONFIG.replace("@Network()", "@Net()"), "eval/ppo.network: @Network() -> @Net()"),
    "scope": (CONFIG.replace("eval/", ""), "eval/ppo.network: @Network() -> (not set)"),
    "the first of two": (
        CONFIG.replace("LIMIT = 25", "LIMIT = 1").replace("0.0005", "1.0"),
        "ppo.learning_rate: 0.0005 -> 1.0",
    ),
}


@pytest.mark.parametrize("case", SAME_CONFIGS)
def test_a_run_continues_with_equal_settings(tmp_path, case):
    with RunDirectory(tmp_path) as run:
        run.bind_config(CONFIG)
    with RunDirectory(tmp_path) as run:
        run.bind_config(SAME_CONFIGS[case])
    assert (tmp_path / "config.gin").read_text() == CONFIG


@pytest.mark.parametrize("case", OTHER_CONFIGS)
def test_a_run_does_not_continue_with_other_settings(tmp_path, case):
    text, expected = OTHER_CONFIGS[case]
    with RunDirectory(tmp_path) as run:
        run.bind_config(CONFIG)
        with pytest.raises(RunError) as error:
            run.bind_config(text)
    assert expected in one_line(error)
    assert (tmp_path / "config.gin").read_text() == CONFIG
    assert sorted(os.listdir(tmp_path)) == [".lock", "config.gin"]


def config_of_stages(steps: int = 100, depth: int = 8, seed: int = 0) -> str:
    return "".join(
        f"{stage}/TrainingSettings.num_env_steps = {steps}\n"
        f"{stage}/TrainingSettings.seed = {seed}\n"
        f"{stage}/EncoderSettings.depths = [{depth}]\n"
        for stage in TRAINED_STAGES
    )


@pytest.fixture
def begun(tmp_path):
    """A run whose search has begun, with a checkpoint at step 60, and no other stage."""
    with RunDirectory(tmp_path) as run:
        run.bind_config(config_of_stages())
        run.stage("search").checkpoints_dir.mkdir(parents=True)
        (run.stage("search").checkpoints_dir / "ckpt-60.index").touch()
        yield run


def test_a_run_may_become_longer_and_says_from_which_step_on(begun):
    begun.bind_config(config_of_stages(steps=300))
    assert begun.config_path.read_text() == config_of_stages(steps=300)
    changes = [json.loads(line) for line in begun.changes_path.read_text().splitlines()]
    assert changes == [
        {
            "setting": f"{stage}/TrainingSettings.num_env_steps",
            "old": "100",
            "new": "300",
            "from_step": 60 if stage == "search" else 0,
        }
        for stage in TRAINED_STAGES
    ]
    begun.bind_config(config_of_stages(steps=300))
    assert len(begun.changes_path.read_text().splitlines()) == 3, "the same again is no change"
    with pytest.raises(RunError, match=r"search/.*num_env_steps: 300 -> 200"):
        begun.bind_config(config_of_stages(steps=300).replace("300", "200", 1))


def test_settings_of_a_stage_that_has_not_begun_may_change(begun):
    text = config_of_stages().replace(
        "evaluate/EncoderSettings.depths = [8]", "evaluate/EncoderSettings.depths = [9]"
    )
    begun.bind_config(text)
    assert begun.config_path.read_text() == text


def test_what_nobody_asked_for_may_be_asked_for_in_a_stage_that_has_not_begun(begun):
    optional = {
        "search/DistillationSettings.actor_weight": ("0.0", "1.0"),
        "evaluate/DistillationSettings.actor_weight": ("1.0", "1.0"),
        "evaluate/TeacherSettings.run": ("'teacher'", "'teacher'"),
    }
    kept, changed = (
        config_of_stages() + "".join(f"{name} = {values[k]}\n" for name, values in optional.items())
        for k in (0, 1)
    )
    defaults = {"DistillationSettings.actor_weight": "0.0", "TeacherSettings.run": "None"}
    with pytest.raises(RunError, match=r"search/DistillationSettings.actor_weight: \(not set\)"):
        begun.bind_config(changed, defaults)
    begun.bind_config(kept, defaults)
    assert begun.config_path.read_text() == kept
    # And back: the default is what it was without.
    begun.bind_config(config_of_stages(), defaults)


def test_a_refused_setting_has_the_name_that_the_user_gave(begun):
    with pytest.raises(RunError, match=r"settings: TrainingSettings\.seed: 0 -> 5"):
        begun.bind_config(config_of_stages(seed=5))
    of_search = config_of_stages().replace(
        "search/TrainingSettings.seed = 0", "search/TrainingSettings.seed = 5"
    )
    with pytest.raises(RunError, match=r"settings: search/TrainingSettings\.seed: 0 -> 5"):
        begun.bind_config(of_search)
    assert not begun.changes_path.exists()


def test_a_long_value_is_shown_around_its_difference(tmp_path):
    with RunDirectory(tmp_path) as run:
        run.bind_config(f"f.x = {list(range(200))}")
        with pytest.raises(RunError) as error:
            run.bind_config(f"f.x = {[*range(150), -1, *range(151, 200)]}")
    assert re.search(r"149, 150, 151.* -> .*149, -1, 151", one_line(error))
    assert len(str(error.value)) < 400


def test_what_is_not_gin_is_refused_on_either_side(tmp_path):
    with RunDirectory(tmp_path) as run:
        for text in ("f.x = ", "f.x = [1,", "f x", "f.x = 'unclosed", "{"):
            with pytest.raises(RunError) as error:
                run.bind_config(text)
            assert "the configuration is not a gin configuration" in one_line(error)
            assert not run.config_path.exists()
        run.config_path.write_text("f.x = = 1")
        with pytest.raises(RunError) as error:
            run.bind_config(CONFIG)
        assert str(run.config_path) in one_line(error)


# --- metrics ------------------------------------------------------------------------------------


def test_metrics_read_back_exactly(tmp_path):
    stage = StagePaths(tmp_path / "search")
    clock = FakeClock()
    with MetricsWriter(stage, ["loss", "episodes"], clock=clock) as writer:
        clock.now += 1.5
        writer.write(64, {"loss": 0.1 + 0.2, "episodes": 3})
        clock.now += 1
        writer.write(128, {"loss": math.nan, "episodes": np.float32(0.1)})
        writer.write(128, {"loss": -math.inf})
        writer.write(192, {"episodes": None})
    assert stage.metrics_path.read_text().split("\n")[:3] == [
        "step,wall_time,loss,episodes",
        "64,1.500,0.30000000000000004,3",
        "128,2.500,,0.10000000149011612",
    ]
    read = read_metrics(stage.metrics_path)
    assert list(read) == ["step", "wall_time", "loss", "episodes"]
    assert read["step"].dtype == np.int64
    np.testing.assert_array_equal(read["step"], [64, 128, 128, 192])
    np.testing.assert_array_equal(read["loss"], [0.1 + 0.2, np.nan, -np.inf, np.nan])
    np.testing.assert_array_equal(read["episodes"], [3, np.float32(0.1), np.nan, np.nan])


def test_an_empty_table_has_its_columns(tmp_path):
    stage = StagePaths(tmp_path)
    MetricsWriter(stage, ["a"]).close()
    read = read_metrics(stage.metrics_path)
    assert {name: len(column) for name, column in read.items()} == {
        "step": 0,
        "wall_time": 0,
        "a": 0,
    }


@given(
    values=st.lists(
        st.lists(st.none() | st.floats(allow_nan=False), min_size=2, max_size=2), max_size=5
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_numbers_survive_the_table(tmp_path, values):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ["x", "y, z"]) as writer:
        for step, (x, y) in enumerate(values):
            writer.write(step, {"x": x, "y, z": y})
    read = read_metrics(stage.metrics_path)
    expected = np.array(
        [[np.nan if v is None else v for v in row] for row in values], dtype=np.float64
    ).reshape(-1, 2)
    np.testing.assert_array_equal(np.stack([read["x"], read["y, z"]], axis=1), expected)


def test_a_row_is_on_disk_when_write_returns(tmp_path):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ["loss"]) as writer:
        for step in range(3):
            writer.write(step, {"loss": step})
            np.testing.assert_array_equal(read_metrics(stage.metrics_path)["loss"], range(step + 1))


def test_continuing_drops_what_came_after_the_checkpoint_and_a_torn_line(tmp_path):
    stage = StagePaths(tmp_path)
    clock = FakeClock(0.0)
    with MetricsWriter(stage, ["loss"], clock=clock) as writer:
        for step in (10, 20, 30, 40):
            clock.now += 2
            writer.write(step, {"loss": step / 10})
    with stage.metrics_path.open("a") as stream:
        stream.write("50,10.0")
    np.testing.assert_array_equal(read_metrics(stage.metrics_path)["step"], [10, 20, 30, 40])

    clock.now = 500.0
    with MetricsWriter(stage, ["loss"], resume_step=30, clock=clock) as writer:
        clock.now += 1
        writer.write(35, {"loss": -1})
    read = read_metrics(stage.metrics_path)
    np.testing.assert_array_equal(read["step"], [10, 20, 30, 35])
    np.testing.assert_array_equal(read["wall_time"], [2, 4, 6, 7])
    np.testing.assert_array_equal(read["loss"], [1, 2, 3, -1])


def test_without_a_checkpoint_the_table_begins_anew(tmp_path):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ["loss"]) as writer:
        writer.write(10, {"loss": 1})
    with MetricsWriter(stage, ["loss"]) as writer:
        writer.write(5, {"loss": 2})
    np.testing.assert_array_equal(read_metrics(stage.metrics_path)["step"], [5])


@pytest.mark.parametrize("tail", ["30,3.0,1", "30,3.0,1,2\n", "\0\0\0\n", "x", "30,3.0,a\n"])
def test_garbage_in_the_last_line_is_left_out(tmp_path, tail):
    path = tmp_path / "metrics.csv"
    path.write_text("step,wall_time,loss\n10,1.0,0.5\n20,2.0,\n" + tail)
    np.testing.assert_array_equal(read_metrics(path)["loss"], [0.5, np.nan])


def test_damage_elsewhere_is_named_by_line_and_changes_nothing(tmp_path):
    stage = StagePaths(tmp_path)
    text = "step,wall_time,loss\n10,1.0,0.5\n20,oops,1\n30,3.0,1\n"
    stage.metrics_path.write_text(text)
    with pytest.raises(RunError) as error:
        MetricsWriter(stage, ["loss"], resume_step=100)
    assert "line 3" in one_line(error) and str(stage.metrics_path) in str(error.value)
    assert stage.metrics_path.read_text() == text


def test_continuing_with_other_columns_is_refused(tmp_path):
    stage = StagePaths(tmp_path)
    MetricsWriter(stage, ["a", "b"]).close()
    with pytest.raises(RunError, match=r"step,wall_time,a,b.*step,wall_time,b,a"):
        MetricsWriter(stage, ["b", "a"], resume_step=0)


def test_columns_that_an_earlier_version_had_not_are_filled_in(tmp_path):
    stage = StagePaths(tmp_path)
    stage.metrics_path.write_text("step,wall_time,loss\n10,1.5,0.5\n20,2.5,\n30,3.5,2\n")
    with MetricsWriter(stage, ["seconds", "loss", "entropy"], resume_step=20) as writer:
        writer.write(30, {"loss": 1, "seconds": 4})
    rows = stage.metrics_path.read_text().splitlines()
    assert rows[:3] == ["step,wall_time,seconds,loss,entropy", "10,1.5,,0.5,", "20,2.5,,,"]
    assert rows[3].startswith("30,") and rows[3].endswith(",4,1,")
    with pytest.raises(RunError, match=r"step,wall_time,seconds,loss,entropy, this run writes"):
        MetricsWriter(stage, ["loss", "entropy"], resume_step=20)


def test_missing_and_foreign_tables_are_refused(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_metrics(tmp_path / "no.csv")
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="not a table of metrics"):
        read_metrics(tmp_path / "foreign.csv")


def test_wrong_use_of_the_writer_is_an_error(tmp_path):
    for columns in (["a", "a"], ["step"], ["wall_time"]):
        with pytest.raises(ValueError, match="columns"):
            MetricsWriter(StagePaths(tmp_path), columns)
    with MetricsWriter(StagePaths(tmp_path), ["a"]) as writer:
        with pytest.raises(ValueError, match=r"unknown metrics.*'b'"):
            writer.write(1, {"b": 1})
        writer.write(2, {})
        with pytest.raises(ValueError, match="step 1 comes after step 2"):
            writer.write(1, {})
    assert len(read_metrics(tmp_path / "metrics.csv")["step"]) == 1


def test_tensorboard_gets_the_same_numbers(tmp_path):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ["loss", "return/mean"]) as writer:
        writer.write(1, {"loss": 0.5, "return/mean": math.nan})
        # Before the writer is closed: a killed process must leave its curves.
        assert events.scalars(stage.tensorboard_dir) == [("loss", 1, 0.5)]
        writer.write(2, {"loss": 0.25, "return/mean": 4})
    with MetricsWriter(stage, ["loss", "return/mean"], resume_step=1) as writer:
        writer.write(2, {"loss": 0.125})
    assert events.scalars(stage.tensorboard_dir) == [
        ("loss", 1, 0.5),
        ("loss", 2, 0.25),
        ("return/mean", 2, 4.0),
        ("loss", 2, 0.125),
    ]


def test_tensorboard_shows_columns_in_groups(tmp_path):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ["loss", "entropy"], groups={"loss": "learning"}) as writer:
        writer.write(1, {"loss": 0.5, "entropy": 1})
    assert events.scalars(stage.tensorboard_dir) == [("learning/loss", 1, 0.5), ("entropy", 1, 1.0)]
    assert set(read_metrics(stage.metrics_path)) == {"step", "wall_time", "loss", "entropy"}


MANY_ROWS = """
import os, sys
from pathlib import Path
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.metrics import MetricsWriter

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

columns = [f"c{i}" for i in range(50)]
with MetricsWriter(StagePaths(Path(sys.argv[1])), columns) as writer:
    for step in range(500):
        if step == 100:
            before = resident_bytes()
        writer.write(step, {name: step + i / 64 for i, name in enumerate(columns)})
print(resident_bytes() - before)
"""


def test_many_rows_take_no_memory(tmp_path, server):
    # In a process of its own: in that of the tests much else comes and goes.
    ended = server.run(["-c", MANY_ROWS, str(tmp_path)])
    # TensorFlow keeps about 0.8 kB for each number that it is given as Python's: 16 MB.
    assert ended.code == 0 and int(ended.out) < 8e6, ended.err


# --- progress -----------------------------------------------------------------------------------


def test_plain_lines_come_seldom_and_the_last_state_always():
    stream, clock = io.StringIO(), FakeClock()
    with Progress(1_000_000, "search", 100_000, stream, 10.0, clock) as progress:
        for _ in range(25):
            clock.now += 1
            step = 100_000 + int(clock.now - 1000) * 2000
            progress.update(step, return_mean=math.nan if step < 120_000 else 3.25)
    # 2,000 steps per second, whatever had been done before; 898,000 / 2,000 = 449 s.
    expected = [
        ("102,000", "10.2", "-", "7 min 29 s"),
        ("122,000", "12.2", "3.25", "7 min 19 s"),
        ("142,000", "14.2", "3.25", "7 min 09 s"),
        ("150,000", "15.0", "3.25", "7 min 05 s"),
    ]
    assert stream.getvalue().splitlines() == [
        f"search: {steps}/1,000,000 steps ({percent} %), 2,000 steps/s, "
        f"return_mean {shown}, {left} left"
        for steps, percent, shown, left in expected
    ]


def test_the_speed_is_that_of_the_recent_past():
    clock = FakeClock()
    progress = Progress(10_000, "x", 0, io.StringIO(), clock=clock)
    assert progress.steps_per_second == 0 and progress.seconds_left == math.inf
    step = 0
    for speed, seconds in ((10, 100), (50, 60)):
        for _ in range(seconds):
            clock.now += 1
            step += speed
            progress.update(step)
    assert progress.steps_per_second == pytest.approx(50)
    assert progress.seconds_left == pytest.approx((10_000 - step) / 50)
    # Updates farther apart than the window still have a speed.
    clock.now += 100
    progress.update(step + 700)
    assert progress.steps_per_second == pytest.approx(7)
    progress.update(10_001)
    assert progress.seconds_left == 0


def test_an_unused_or_repeated_state_prints_nothing_more():
    stream = io.StringIO()
    with Progress(10, "x", stream=stream):
        pass
    assert stream.getvalue() == ""
    clock = FakeClock()
    progress = Progress(10, "x", stream=stream, clock=clock)
    clock.now += 5
    progress.update(10)
    progress.close()
    progress.close()
    assert stream.getvalue() == "x: 10/10 steps (100.0 %), 2 steps/s, 0 s left\n"


def test_a_closed_stream_does_not_stop_a_training():
    stream = io.StringIO()
    with Progress(10, "x", stream=stream, min_interval_s=0) as progress:
        progress.update(1)
        stream.close()
        progress.update(2)
        progress.update(3)


class Terminal:
    """A pseudo terminal that collects what is written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 140, 0, 0))
        self.stream = os.fdopen(slave, "w")
        self._bytes = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._bytes += os.read(self._master, 4096)

    def finish(self) -> str:
        self.stream.close()
        self._thread.join(10)
        os.close(self._master)
        return self._bytes.decode()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    return Terminal()


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_shows_a_live_line_and_gets_its_cursor_back_after_an_error(terminal):
    pytest.importorskip("rich")
    clock = FakeClock()
    progress = Progress(2000, "search[1]", 500, terminal.stream, clock=clock)
    with pytest.raises(KeyboardInterrupt), progress:
        clock.now += 10
        progress.update(1000, return_mean=3.25)
        raise KeyboardInterrupt
    shown = terminal.finish()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert shown.count(hide) == shown.count(show) == 1 and shown.index(hide) < shown.index(show)
    *_, bar, numbers = re.findall(r"[^\r\n]+", without_escapes(shown))
    assert re.fullmatch(r"search\[1\] +\S+ +1,000/2,000 +20 s left", bar.strip())
    assert numbers.strip() == "50 steps/s  return_mean 3.25"


def test_a_terminal_without_rich_gets_plain_lines(terminal, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with Progress(20, "x", stream=terminal.stream) as progress:
        progress.update(20)
    shown = terminal.finish()
    assert "\x1b" not in shown and shown.startswith("x: 20/20 steps (100.0 %)")


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress(20, "x", stream=terminal.stream) as progress:
        progress.update(20)
    assert "\x1b" not in terminal.finish()


# --- search log ---------------------------------------------------------------------------------

OPS = {"normal": ("conv_3x3", "skip_connect", "none"), "reduction": ("pool", "none")}


def random_logits(rng, num_nodes=3):
    return {
        cell: 5 * rng.normal(size=(num_nodes * (num_nodes + 1) // 2, len(ops)))
        for cell, ops in OPS.items()
    }


def test_alpha_reads_back_as_recorded(tmp_path):
    rng = np.random.default_rng(0)
    records = [random_logits(rng) for _ in range(5)]
    log = AlphaLog(tmp_path / "alphas.npz", OPS, 6)
    for step, logits in enumerate(records):
        log.record(10 * step, logits)
    log.flush()
    history = read_alphas(tmp_path / "alphas.npz")
    assert history.steps.dtype == np.int64 and history.steps.tolist() == [0, 10, 20, 30, 40]
    assert (history.ops, history.num_edges, len(history)) == (OPS, 6, 5)
    for cell, ops in OPS.items():
        z, p = history.logits[cell], history.op_weights()[cell]
        assert z.dtype == np.float64 and z.shape == p.shape == (5, 6, len(ops))
        np.testing.assert_array_equal(z, [record[cell] for record in records])
        powers = np.exp(z)
        np.testing.assert_allclose(p, powers / powers.sum(-1, keepdims=True), rtol=1e-12)
    for asked, found in ((None, 40), (40, 40), (39, 30), (0, 0), (10**9, 40)):
        step, logits = history.at(asked)
        assert step == found
        for cell, recorded in records[found // 10].items():
            np.testing.assert_array_equal(logits[cell], recorded)
    with pytest.raises(RunError, match=r"begins at step 0.*-1"):
        history.at(-1)


def test_a_recorded_array_may_be_reused(tmp_path):
    log = AlphaLog(tmp_path / "a.npz", {"normal": ("x", "none")}, 1)
    array = np.array([[0.25, 0.75]])
    log.record(0, {"normal": array})
    array[:] = 0
    log.flush()
    np.testing.assert_array_equal(
        read_alphas(tmp_path / "a.npz").logits["normal"], [[[0.25, 0.75]]]
    )


def test_a_continued_alpha_log_keeps_what_the_checkpoint_knew(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "alphas.npz"
    records = {step: random_logits(rng) for step in (0, 10, 20, 30)}
    log = AlphaLog(path, OPS, 6)
    for step, logits in records.items():
        log.record(step, logits)
    log.flush()
    log.record(40, random_logits(rng))  # never flushed: lost with the process

    again = AlphaLog(path, OPS, 6, resume_step=20)
    assert len(again) == 3
    assert read_alphas(path).steps.tolist() == [0, 10, 20]
    records[25] = random_logits(rng)
    again.record(25, records[25])
    again.flush()
    history = read_alphas(path)
    assert history.steps.tolist() == [0, 10, 20, 25]
    np.testing.assert_array_equal(
        history.logits["normal"], [records[s]["normal"] for s in (0, 10, 20, 25)]
    )
    assert len(AlphaLog(path, OPS, 6)) == 0
    empty = read_alphas(path)
    assert empty.logits["reduction"].shape == (0, 6, 2) and not empty
    with pytest.raises(RunError, match="is empty"):
        empty.at()


def test_a_log_of_contributions_is_cut_at_the_checkpoint_and_may_begin_late(tmp_path):
    path = tmp_path / "contributions.npz"
    # An earlier part of the run recorded none.
    log = ContributionLog(path, {"normal": ("x", "none")}, 1, resume_step=5)
    values = {10: [[0.25, 0]], 20: [[np.inf, 0]], 30: [[0.75, 0]]}
    for step, of_edges in values.items():
        log.record(step, {"normal": np.array(of_edges, np.float32)})
    log.flush()
    ContributionLog(path, {"normal": ("x", "none")}, 1, resume_step=29)
    history = read_contributions(path)
    assert history.steps.tolist() == [10, 20]
    # What overflowed is told as it was.
    np.testing.assert_array_equal(history.values["normal"], [values[10], values[20]])
    alphas = AlphaLog(tmp_path / "alphas.npz", OPS, 6)
    alphas.record(0, random_logits(np.random.default_rng(0)))
    alphas.flush()
    for name in ("alphas.npz", "missing.npz"):
        with pytest.raises(RunError, match=name):
            read_contributions(tmp_path / name)


def test_wrong_logits_are_refused_and_change_nothing(tmp_path):
    rng = np.random.default_rng(2)
    log = AlphaLog(tmp_path / "alphas.npz", OPS, 6)
    good = random_logits(rng)
    log.record(5, good)
    cases = {
        "cells": {"normal": good["normal"]},
        r"'normal'\]: shape \(3, 3\), not \(6, 3\)": {**good, "normal": good["normal"][:3]},
        r"'reduction'\]: shape \(6, 1\)": {**good, "reduction": good["reduction"][:, :1]},
    }
    for message, weights in cases.items():
        with pytest.raises(ValueError, match=message):
            log.record(6, weights)
    with pytest.raises(ValueError, match="step 5"):
        log.record(5, good)
    assert len(log) == 1


def test_an_alpha_log_of_another_space_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "alphas.npz"
    log = AlphaLog(path, OPS, 6)
    log.record(0, random_logits(np.random.default_rng(0)))
    log.flush()
    for ops, num_edges in (({**OPS, "normal": ("a", "b", "none")}, 6), (OPS, 3), (OPS, 10)):
        with pytest.raises(RunError, match="another search space"):
            AlphaLog(path, ops, num_edges, resume_step=0)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(RunError) as error:
            AlphaLog(path, OPS, 6, resume_step=0)
        assert str(path) in one_line(error)
        assert path.read_bytes() == damaged


def test_ten_thousand_records_stay_cheap(tmp_path):
    rng = np.random.default_rng(0)
    weights = random_logits(rng)
    log = AlphaLog(tmp_path / "alphas.npz", OPS, 6)
    start = time.process_time()
    for step in range(10_000):
        log.record(step, weights)
    log.flush()
    again = AlphaLog(tmp_path / "alphas.npz", OPS, 6, resume_step=10_000)
    assert len(again) == 10_000
    # About 0.5 s; quadratic work would take minutes.
    assert time.process_time() - start < 10
    assert (tmp_path / "alphas.npz").stat().st_size < 10_000 * (30 * 8 + 8) + 10_000


def genotype(name):
    return {"search_space": "classic", "cells": {"normal": [[[0, name]]]}}


def test_genotypes_are_logged_once_in_order_of_appearance(tmp_path):
    path = tmp_path / "search" / "genotypes.jsonl"
    log = GenotypeLog(path)
    added = [log.record(k, genotype(name)) for k, name in enumerate("aabacb")]
    assert added == [True, False, True, False, True, False]
    assert not log.record(9, {"cells": {"normal": (((0, "a"),),)}, "search_space": "classic"})
    assert read_genotypes(path) == [(0, genotype("a")), (2, genotype("b")), (4, genotype("c"))]
    lines = path.read_text().splitlines()
    assert json.loads(lines[1]) == {"step": 2, "genotype": genotype("b")}


def test_a_continued_genotype_log_forgets_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "genotypes.jsonl"
    log = GenotypeLog(path)
    for step, name in enumerate("abc"):
        log.record(step, genotype(name))
    with path.open("a") as stream:
        stream.write('{"step": 3, "geno')
    assert [step for step, _ in read_genotypes(path)] == [0, 1, 2]
    log = GenotypeLog(path, resume_step=1)
    assert [log.record(5, genotype(name)) for name in "abcd"] == [False, False, True, True]
    assert read_genotypes(path) == [
        (0, genotype("a")),
        (1, genotype("b")),
        (5, genotype("c")),
        (5, genotype("d")),
    ]
    GenotypeLog(path)
    assert read_genotypes(path) == []


def test_a_log_of_genotypes_of_an_older_format_is_continued_without_repeating_them(tmp_path):
    path = tmp_path / "genotypes.jsonl"
    cell = random_genotype(MICRO, 0).to_dict()
    other = random_genotype(MICRO, 1).to_dict()
    GenotypeLog(path).record(0, {**cell, "format_version": 1, "search_space": "micro"})
    log = GenotypeLog(path, resume_step=0)
    assert [log.record(1, cell), log.record(2, other)] == [False, True]


def test_a_torn_line_does_not_swallow_the_next_record(tmp_path):
    path = tmp_path / "genotypes.jsonl"
    GenotypeLog(path).record(0, genotype("a"))
    with path.open("a") as stream:
        stream.write('{"step"')
    GenotypeLog(path, resume_step=0).record(1, genotype("b"))
    assert [step for step, _ in read_genotypes(path)] == [0, 1]


def test_damage_inside_a_genotype_log_is_named_by_line(tmp_path):
    path = tmp_path / "genotypes.jsonl"
    path.write_text('{"step": 0, "genotype": {}}\nnot json\n{"step": 1, "genotype": {}}\n')
    with pytest.raises(RunError) as error:
        read_genotypes(path)
    assert "line 2" in one_line(error)


# --- summary ------------------------------------------------------------------------------------


def test_stages_are_merged_and_each_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, "search", {"steps": np.int64(5), "return": np.float32(0.5)})
    write_summary(path, "evaluate", {"return": math.nan, "curve": np.array([1.0, math.inf])})
    write_summary(path, "search", {"steps": 6, "path": path, "per_game": {"coinrun": (1, None)}})
    content = read_summary(path)
    assert content == json.loads(path.read_text())
    assert content["stages"] == {
        "search": {"steps": 6, "path": str(path), "per_game": {"coinrun": [1, None]}},
        "evaluate": {"return": None, "curve": [1.0, None]},
    }
    assert content["versions"] == versions()


def test_the_versions_are_those_of_the_imported_packages():
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    import tensorflow as tf

    assert found["tensorflow"] == tf.__version__
    assert all(isinstance(value, str) and value for value in found.values())


def test_a_damaged_summary_is_renamed_and_the_result_is_kept(tmp_path):
    path = tmp_path / "summary.json"
    for text in ("{", "[]", '{"stages": 3}'):
        path.write_text(text)
        with pytest.raises(RunError) as error:
            read_summary(path)
        assert str(path) in one_line(error)
        with pytest.warns(RuntimeWarning, match="was not a summary"):
            write_summary(path, "search", {"steps": 1})
        assert (tmp_path / "summary.json.damaged").read_text() == text
        assert read_summary(path)["stages"] == {"search": {"steps": 1}}


def test_what_has_no_json_form_is_an_error_and_changes_nothing(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, "search", {"steps": 1})
    with pytest.raises(TypeError, match="set"):
        write_summary(path, "search", {"steps": {1}})
    assert read_summary(path)["stages"] == {"search": {"steps": 1}}


def test_a_table_off_a_terminal_is_plain_text():
    stream = io.StringIO()
    print_table("Search done", [("steps", "25,000"), ("return [mean]", "3.2")], stream)
    assert stream.getvalue() == ("Search done\n  steps          25,000\n  return [mean]  3.2\n")


def test_a_table_on_a_terminal_shows_every_text_whole(terminal):
    path = "/somewhere/" + "long/" * 10 + "end"
    print_table("Search [bold]", [("steps", "[red]5"), ("cells", path)], terminal.stream)
    shown = without_escapes(terminal.finish())
    for text in ("Search [bold]", "steps", "[red]5", "cells", path):
        assert text in shown


def test_csv_readers_understand_the_table(tmp_path):
    stage = StagePaths(tmp_path)
    with MetricsWriter(stage, ['odd, "name"']) as writer:
        writer.write(1, {'odd, "name"': 2})
    with stage.metrics_path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["step"], row['odd, "name"']) for row in rows] == [("1", "2")]


def test_progress_ends_at_100_percent_though_the_last_update_goes_beyond():
    stream = io.StringIO()
    with Progress(100, "x", stream=stream) as progress:
        progress.update(128)
    assert "x: 128/100 steps (100.0 %)" in stream.getvalue()
