"""Checkpoints: TensorFlow objects and numpy arrays of one moment, without pickle."""

from __future__ import annotations

import io
import zipfile

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from rldarts_tf.errors import RunError
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.directory import StageDirectory


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
    assert Checkpoints(StageDirectory(tmp_path), contents).restore() is False
    np.testing.assert_array_equal(contents["variable"], [1.0, 2.0])


def test_variables_and_arrays_of_the_newest_checkpoint_are_restored_together(tmp_path):
    contents, counter = objects(1.0, step=np.int64(1))
    saved = Checkpoints(StageDirectory(tmp_path), contents)
    for step in (10, 20, 100):  # 100 is newer than 20, though not as text
        contents["variable"].assign([step, -step])
        counter.arrays = {"step": np.int64(step), "returns": np.arange(step)}
        saved.save(step)
    contents["variable"].assign([0.0, 0.0])
    counter.arrays = {}
    others, other = objects(5.0)
    assert Checkpoints(StageDirectory(tmp_path), others).restore() is True
    np.testing.assert_array_equal(others["variable"], [100.0, -100.0])
    assert_same_arrays(other.arrays, {"step": np.int64(100), "returns": np.arange(100)})


@pytest.mark.parametrize("max_to_keep", [1, 2, 3])
def test_only_the_newest_are_kept(tmp_path, max_to_keep):
    stage_dir = StageDirectory(tmp_path / "search")
    contents, _ = objects(1.0, step=np.int64(1))
    checkpoints = Checkpoints(stage_dir, contents, max_to_keep=max_to_keep)
    for step in (1, 2, 3, 4):
        checkpoints.save(step)
    kept = sorted(path.name for path in stage_dir.checkpoints_dir.glob("*.index"))
    assert kept == [f"ckpt-{step}.index" for step in range(5 - max_to_keep, 5)]


def test_the_older_ones_of_an_earlier_process_are_deleted_too(tmp_path):
    stage_dir = StageDirectory(tmp_path)
    for steps in ((1, 2), (3, 4)):
        contents, _ = objects(1.0, step=np.int64(1))
        checkpoints = Checkpoints(stage_dir, contents)
        checkpoints.restore()
        for step in steps:
            checkpoints.save(step)
    kept = sorted(path.name for path in stage_dir.checkpoints_dir.glob("*.index"))
    assert kept == ["ckpt-3.index", "ckpt-4.index"]


MISFITS = {
    "another shape": lambda: {"variable": tf.Variable([1.0, 2.0, 3.0])},
    "another dtype": lambda: {"variable": tf.Variable([1, 2])},
    "a variable more": lambda: {"variable": tf.Variable([1.0, 2.0]), "more": tf.Variable(0.0)},
    "other names": lambda: {"weights": tf.Variable([1.0, 2.0])},
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_checkpoint_of_other_variables_is_one_line_of_error(tmp_path, case):
    contents, _ = objects(1.0, step=np.int64(1))
    Checkpoints(StageDirectory(tmp_path), contents).save(7)
    with pytest.raises(RunError, match=r"ckpt-7' cannot be restored: ") as caught:
        Checkpoints(StageDirectory(tmp_path), MISFITS[case]()).restore()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_whose_data_are_gone_is_one_line_of_error(tmp_path):
    stage_dir = StageDirectory(tmp_path)
    contents, _ = objects(1.0, step=np.int64(1))
    Checkpoints(stage_dir, contents).save(7)
    for path in stage_dir.checkpoints_dir.glob("ckpt-7*"):
        path.unlink()
    with pytest.raises(RunError, match=r"ckpt-7' cannot be restored: ") as caught:
        Checkpoints(stage_dir, objects(1.0)[0]).restore()
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file/search' cannot be written: ") as caught:
        Checkpoints(StageDirectory(tmp_path / "file" / "search"), objects(1.0)[0])
    assert "\n" not in str(caught.value)


def test_a_directory_that_has_gone_is_an_error_when_saving(tmp_path):
    stage_dir = StageDirectory(tmp_path / "search")
    checkpoints = Checkpoints(stage_dir, objects(1.0, step=np.int64(1))[0])
    stage_dir.checkpoints_dir.rmdir()
    stage_dir.checkpoints_dir.write_text("in the way")
    with pytest.raises(RunError, match="checkpoint of step 3 cannot be written: ") as caught:
        checkpoints.save(3)
    assert "\n" not in str(caught.value)
