"""Checkpoints: TensorFlow objects and numpy arrays of one moment, without pickle."""

from __future__ import annotations

import gc
import io
import time
import zipfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.paths import StagePaths


@pytest.fixture(autouse=True)
def _no_warnings_of_other_tests():
    """TensorFlow warns when what could not be restored is deleted: not while others read stderr."""
    gc.collect()


class Counter:
    """An object with numpy state."""

    def __init__(self, **arrays):
        self.arrays = arrays
        self.state = ArrayState(lambda: self.arrays, self._set)

    def _set(self, arrays):
        self.arrays = dict(arrays)


def refuse(arrays):
    raise AssertionError("nothing was to be restored")


def assert_same_arrays(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].dtype == np.asarray(array).dtype, name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


# --- arrays ----------------------------------------------------------------------------------

ARRAYS = st.dictionaries(
    st.text("abcdefgh_/", min_size=1, max_size=12).filter(lambda s: "//" not in s),
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=4,
)


@settings(max_examples=50)
@given(arrays=ARRAYS)
def test_arrays_survive_with_names_shapes_dtypes_and_values(arrays):
    restored = {}
    ArrayState(refuse, restored.update).deserialize(ArrayState(lambda: arrays, refuse).serialize())
    assert_same_arrays(restored, arrays)


def test_text_and_numpy_scalars_survive():
    arrays = {"settings": np.array('{"game": "maze"}'), "step": np.int64(2**40)}
    restored = {}
    ArrayState(refuse, restored.update).deserialize(ArrayState(lambda: arrays, refuse).serialize())
    assert str(restored["settings"]) == '{"game": "maze"}'
    assert int(restored["step"]) == 2**40


def test_the_bytes_are_a_plain_npz_archive():
    data = ArrayState(lambda: {"a/b": np.arange(3)}, refuse).serialize()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["a/b.npy"]
        expected = io.BytesIO()
        np.lib.format.write_array(expected, np.arange(3), allow_pickle=False)
        assert archive.read("a/b.npy") == expected.getvalue()


@pytest.mark.parametrize(
    "array", [np.array([{}], object), np.array([(1, None)], [("a", int), ("b", object)])]
)
def test_what_only_pickle_could_store_is_not_written(array):
    with pytest.raises(TypeError, match=r"'returns'.*pickle"):
        ArrayState(lambda: {"returns": array}, refuse).serialize()


def test_a_pickle_in_the_bytes_is_not_loaded():
    buffer = io.BytesIO()
    np.savez(buffer, returns=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        ArrayState(refuse, refuse).deserialize(buffer.getvalue())


# --- checkpoints -----------------------------------------------------------------------------


def objects(value, **arrays):
    counter = Counter(**arrays)
    variable = tf.Variable([value, value])
    return {"variable": variable, "counter": counter.state}, counter


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    contents = {"variable": tf.Variable([1.0, 2.0]), "counter": ArrayState(dict, refuse)}
    assert Checkpoints(StagePaths(tmp_path), contents).restore() is False
    np.testing.assert_array_equal(contents["variable"], [1.0, 2.0])


def test_variables_and_arrays_of_the_newest_checkpoint_are_restored_together(tmp_path):
    contents, counter = objects(1.0, step=np.int64(1))
    saved = Checkpoints(StagePaths(tmp_path), contents)
    for step in (10, 20, 100):  # 100 is newer than 20, though not as text
        contents["variable"].assign([step, -step])
        counter.arrays = {"step": np.int64(step), "returns": np.arange(step)}
        saved.save(step)
    contents["variable"].assign([0.0, 0.0])
    counter.arrays = {}
    others, other = objects(5.0)
    assert Checkpoints(StagePaths(tmp_path), others).restore() is True
    np.testing.assert_array_equal(others["variable"], [100.0, -100.0])
    assert_same_arrays(other.arrays, {"step": np.int64(100), "returns": np.arange(100)})


@pytest.mark.parametrize("max_to_keep", [1, 2, 3])
def test_only_the_newest_are_kept(tmp_path, max_to_keep):
    stage_dir = StagePaths(tmp_path / "search")
    contents, _ = objects(1.0, step=np.int64(1))
    checkpoints = Checkpoints(stage_dir, contents, max_to_keep=max_to_keep)
    for step in (1, 2, 3, 4):
        checkpoints.save(step)
    kept = sorted(path.name for path in stage_dir.checkpoints_dir.glob("*.index"))
    assert kept == [f"ckpt-{step}.index" for step in range(5 - max_to_keep, 5)]


def test_the_older_ones_of_an_earlier_process_are_deleted_too(tmp_path):
    stage_dir = StagePaths(tmp_path)
    for steps in ((1, 2), (3, 4)):
        contents, _ = objects(1.0, step=np.int64(1))
        checkpoints = Checkpoints(stage_dir, contents)
        checkpoints.restore()
        for step in steps:
            checkpoints.save(step)
    kept = sorted(path.name for path in stage_dir.checkpoints_dir.glob("*.index"))
    assert kept == ["ckpt-3.index", "ckpt-4.index"]


def test_a_clock_that_is_set_back_changes_nothing(tmp_path, monkeypatch):
    stage_dir = StagePaths(tmp_path)
    now = time.time()
    for step in (1, 2, 3, 4):
        monkeypatch.setattr(time, "time", lambda hours=step: now - 3600 * hours)
        contents, _ = objects(1.0, step=np.int64(1))
        checkpoints = Checkpoints(stage_dir, contents)
        assert checkpoints.restore() is (step > 1)
        checkpoints.save(step)
    monkeypatch.undo()
    kept = sorted(path.name for path in stage_dir.checkpoints_dir.glob("*.index"))
    assert kept == ["ckpt-3.index", "ckpt-4.index"]
    assert Checkpoints(stage_dir, objects(1.0)[0]).restore()


MISFITS = {
    "another shape": lambda: {"variable": tf.Variable([1.0, 2.0, 3.0])},
    "another dtype": lambda: {"variable": tf.Variable([1, 2])},
    "a variable more": lambda: {"variable": tf.Variable([1.0, 2.0]), "more": tf.Variable(0.0)},
    "other names": lambda: {"weights": tf.Variable([1.0, 2.0])},
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_checkpoint_of_other_variables_is_one_line_of_error(tmp_path, case):
    contents, _ = objects(1.0, step=np.int64(1))
    Checkpoints(StagePaths(tmp_path), contents).save(7)
    with pytest.raises(RunError, match=r"ckpt-7' cannot be restored: ") as caught:
        Checkpoints(StagePaths(tmp_path), MISFITS[case]()).restore()
    assert "\n" not in str(caught.value)


# --- damage ----------------------------------------------------------------------------------


def saved_at(tmp_path, *steps, files=lambda step: ()):
    """A stage directory with checkpoints, in which the variable is (step, -step)."""
    stage_dir = StagePaths(tmp_path / "search")
    contents, counter = objects(1.0)
    checkpoints = Checkpoints(stage_dir, contents)
    for step in steps:
        contents["variable"].assign([step, -step])
        counter.arrays = {"step": np.int64(step)}
        checkpoints.save(step, files(step))
    return stage_dir


def restored(stage_dir):
    """The step of the checkpoint that is restored, None if there is none; both objects agree."""
    contents, counter = objects(0.0)
    if not Checkpoints(stage_dir, contents).restore():
        return None
    step = int(counter.arrays["step"])
    np.testing.assert_array_equal(contents["variable"], [step, -step])
    return step


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {"cut off": cut_off, "empty": empty, "a bit": flip_a_bit, "gone": Path.unlink}


def files_of(stage_dir):
    return {
        str(path.relative_to(stage_dir.checkpoints_dir)): path.read_bytes()
        for path in stage_dir.checkpoints_dir.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["ckpt-20.index", "ckpt-20.data-00000-of-00001"])
def test_one_that_is_damaged_is_quarantined_and_the_one_before_it_is_used(
    tmp_path, capfd, name, damage
):
    stage_dir = saved_at(tmp_path, 10, 20)
    DAMAGES[damage](stage_dir.checkpoints_dir / name)
    before = files_of(stage_dir)
    assert restored(stage_dir) == 10
    (line,) = capfd.readouterr().err.splitlines()
    assert "checkpoint of step 20 is quarantined" in line and "damaged-20" in line
    assert name in line and "resuming from step 10" in line
    after = files_of(stage_dir)
    # Moved as they were, and not found again.
    for old, content in before.items():
        if old != "checkpoint":
            assert after[old.replace("ckpt-20", "damaged-20/ckpt-20")] == content
    assert restored(stage_dir) == 10
    assert capfd.readouterr().err == ""


def test_a_run_that_went_on_from_the_older_one_makes_the_newer_anew(tmp_path, capfd):
    stage_dir = saved_at(tmp_path, 10, 20)
    for number in (1, 2):
        flip_a_bit(stage_dir.checkpoints_dir / "ckpt-20.index")
        contents, counter = objects(0.0)
        checkpoints = Checkpoints(stage_dir, contents)
        assert checkpoints.restore()
        contents["variable"].assign([20.0, -20.0])
        counter.arrays = {"step": np.int64(20)}
        checkpoints.save(20)
        assert restored(stage_dir) == 20
        quarantined = {path.name for path in stage_dir.checkpoints_dir.glob("damaged-*")}
        assert len(quarantined) == number
    capfd.readouterr()


def test_what_was_being_written_when_the_process_died_is_not_used(tmp_path, capfd):
    stage_dir = saved_at(tmp_path, 10, 20)
    (stage_dir.checkpoints_dir / "ckpt-20.json").unlink()
    (stage_dir.checkpoints_dir / "ckpt-30_temp").mkdir()
    (stage_dir.checkpoints_dir / "ckpt-30_temp" / "part").write_bytes(b"half")
    assert restored(stage_dir) == 10
    assert "step 20 is quarantined" in capfd.readouterr().err
    assert not (stage_dir.checkpoints_dir / "ckpt-30_temp").exists()


def test_where_only_the_first_was_being_written_the_stage_begins_anew(tmp_path, capfd):
    stage_dir = saved_at(tmp_path, 10)
    (stage_dir.checkpoints_dir / "ckpt-10.json").unlink()
    assert restored(stage_dir) is None
    assert "it was not completed; beginning anew" in capfd.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_tensorflows_list_of_checkpoints_is_not_needed(tmp_path, damage):
    stage_dir = saved_at(tmp_path, 10, 20)
    DAMAGES[damage](stage_dir.checkpoints_dir / "checkpoint")
    assert restored(stage_dir) == 20
    assert tf.train.latest_checkpoint(str(stage_dir.checkpoints_dir)).endswith("ckpt-20")


def test_where_all_are_damaged_nothing_is_begun_anew_and_nothing_moved(tmp_path):
    stage_dir = saved_at(tmp_path, 10, 20)
    flip_a_bit(stage_dir.checkpoints_dir / "ckpt-10.index")
    cut_off(stage_dir.checkpoints_dir / "ckpt-20.data-00000-of-00001")
    before = files_of(stage_dir)
    with pytest.raises(RunError, match=r"no checkpoint in .* can be used: step 20: .*; step 10: "):
        restored(stage_dir)
    assert files_of(stage_dir) == before


def test_checkpoints_whose_files_are_gone_are_an_error_not_a_new_beginning(tmp_path):
    stage_dir = saved_at(tmp_path, 10)
    for path in stage_dir.checkpoints_dir.glob("ckpt-10*"):
        path.unlink()
    with pytest.raises(RunError, match=r"can be used: step 10: ckpt-10.json cannot be read: "):
        restored(stage_dir)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"sha256": {"../x": [1, "a"]}}', '{"sha256": {"/x": [1, "a"]}}',
     '{"sha256": {"x": 1}}', '{"sha256": {"x": [1e999, "a"]}}', "[" * 10**5],
)  # fmt: skip
def test_a_damaged_manifest_is_a_damaged_checkpoint(tmp_path, capfd, text):
    stage_dir = saved_at(tmp_path, 10, 20)
    (stage_dir.checkpoints_dir / "ckpt-20.json").write_text(text)
    assert restored(stage_dir) == 10
    assert "ckpt-20.json is damaged" in capfd.readouterr().err


def other_file(stage_dir):
    def files(step):
        path = stage_dir.checkpoints_dir / "replay" / str(step) / "table"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"transitions of step {step}")
        return [path]

    return files


def test_files_that_belong_to_a_checkpoint_are_checked_and_quarantined_with_it(tmp_path, capfd):
    stage_dir = StagePaths(tmp_path / "search")
    saved_at(tmp_path, 10, 20, files=other_file(stage_dir))
    flip_a_bit(stage_dir.checkpoints_dir / "replay" / "20" / "table")
    assert restored(stage_dir) == 10
    assert "replay/20/table has changed since it was written" in capfd.readouterr().err
    left = {name for name in files_of(stage_dir) if "table" in name}
    assert left == {"replay/10/table", "damaged-20/replay/20/table"}


def test_save_tells_which_files_the_checkpoints_need_that_are_kept(tmp_path):
    stage_dir = StagePaths(tmp_path / "search")
    checkpoints = Checkpoints(stage_dir, objects(1.0, step=np.int64(1))[0])
    files = other_file(stage_dir)
    kept = [checkpoints.save(step, files(step)) for step in (1, 2, 3)]
    folder = stage_dir.checkpoints_dir / "replay"
    assert kept == [{folder / str(step) / "table" for step in steps}
                    for steps in ((1,), (1, 2), (2, 3))]  # fmt: skip
    assert {path.name for path in stage_dir.checkpoints_dir.glob("*.json")} == {
        "ckpt-2.json", "ckpt-3.json"
    }  # fmt: skip


# --- directories -----------------------------------------------------------------------------


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file/search' cannot be written: ") as caught:
        Checkpoints(StagePaths(tmp_path / "file" / "search"), objects(1.0)[0])
    assert "\n" not in str(caught.value)


def test_a_directory_that_has_gone_is_an_error_when_saving(tmp_path):
    stage_dir = StagePaths(tmp_path / "search")
    checkpoints = Checkpoints(stage_dir, objects(1.0, step=np.int64(1))[0])
    stage_dir.checkpoints_dir.rmdir()
    stage_dir.checkpoints_dir.write_text("in the way")
    with pytest.raises(RunError, match="checkpoint of step 3 cannot be written: ") as caught:
        checkpoints.save(3)
    assert "\n" not in str(caught.value)
