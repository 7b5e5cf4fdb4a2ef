"""Files that somebody damaged or forged: one line of error, bounded memory, nothing executed."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hostile import GENOTYPE, PIECES, READERS, ExecutedError, nothing_executed, npz, read
from hypothesis import given, settings

from rldarts_tf.errors import GenotypeError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.configs import canonical_settings
from rldarts_tf.runs.npz import parse_npz, read_npz
from rldarts_tf.search_space import CLASSIC


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.mark.parametrize(
    "act",
    [
        lambda: eval("1"),
        lambda: pickle.loads(pickle.dumps(Bomb)),
        lambda: __import__("subprocess").run("true"),
    ],
    ids=["eval", "pickle", "subprocess"],
)
def test_what_is_executed_is_noticed(act):
    with pytest.raises(ExecutedError), nothing_executed():
        act()


@pytest.mark.parametrize("name", READERS)
def test_a_sound_file_is_read(name, folder):
    assert not isinstance(read(name, folder, READERS[name][1](folder)), Exception)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_with_one_line(name, folder, data):
    content = bytearray(READERS[name][1](folder))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, min(len(content), begin + 40)))
        piece = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)))
        content[begin:end] = piece
    read(name, folder, bytes(content))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50)
@given(content=st.one_of(st.binary(max_size=300), st.sampled_from(PIECES)))
def test_any_other_content_is_read_or_refused_with_one_line(name, folder, content):
    read(name, folder, content)


FIELDS = [*GENOTYPE.to_dict(), *CLASSIC.to_config(), "x"]


@settings(max_examples=100)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*GENOTYPE.to_dict(), *CLASSIC.to_config(), "x"]), inner, max_size=8
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_genotype_or_a_genotype_error(data):
    try:
        assert Genotype.from_dict(data) == Genotype.from_dict(json.loads(json.dumps(data)))
    except GenotypeError as error:
        assert "\n" not in str(error)


# --- memory ------------------------------------------------------------------------------------


def npy(header, body=b""):
    """An .npy file with a header of one's own."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def header(descr="'<f4'", shape="(3,)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


FORGED = {
    "more than there is": archive({"step.npy": npy(header(shape="(10**11,)"))}),
    "a number of elements that overflows": archive(
        {"step.npy": npy(header(shape=f"({2**62}, {2**62})"))}
    ),
    "a billion of nothing": archive({"step.npy": npy(header(shape="(1000000000, 0)"))}),
    "a negative size": archive({"step.npy": npy(header(shape="(-1,)"))}),
    "no size": archive({"step.npy": npy(header(shape="(None,)"))}),
    "a large element": archive({"step.npy": npy(header(descr="'|V2000000000'", shape="(1,)"))}),
    "a compressed bomb": archive(
        {"step.npy": npy(header(shape="(250000000,)"), bytes(10**9))}, zipfile.ZIP_DEFLATED
    ),
    "an entry twice": npz(step=np.arange(3))[:-22] and archive({"step.npy": b"", "step": b""}),
    "no array": archive({"step.npy": b"nothing"}),
    "code": archive({"step.npy": npy("__import__('os').system('true')")}),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_arrays_are_refused_in_little_memory(case, folder):
    (folder / "forged.npz").write_bytes(FORGED[case])
    tracemalloc.start()
    try:
        with pytest.raises(RunError):
            read_alphas(folder / "forged.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20 + 3 * len(FORGED[case])


def test_entries_that_overlap_are_refused():
    content = archive({f"a{i}.npy": npy(header(), bytes(12)) for i in range(9)})
    # The central directory: every entry is the first one, and as large as the whole.
    begin = content.index(b"PK\x01\x02")
    directory = bytearray(content[begin:])
    at = 0
    while (at := directory.find(b"PK\x01\x02", at)) >= 0:
        directory[at + 20 : at + 28] = 2 * (10**6).to_bytes(4, "little")
        at += 4
    with pytest.raises(ValueError, match="larger than itself"):
        parse_npz(content[:begin] + directory)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_pickles_are_never_loaded(folder):
    for content in (
        npz(step=np.array([Bomb()], object)),
        pickle.dumps(Bomb()),
        archive({"step.npy": pickle.dumps(Bomb())}),
    ):
        (folder / "pickle.npz").write_bytes(content)
        with pytest.raises(RunError):
            read_npz(folder / "pickle.npz")
    assert not Bomb.exploded


@settings(max_examples=50)
@given(
    array=st.one_of(
        hnp.integer_dtypes(),
        hnp.floating_dtypes(),
        hnp.boolean_dtypes(),
        hnp.unicode_string_dtypes(),
    ).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))),
    fortran=st.booleans(),
)
def test_what_numpy_saves_is_what_is_read(array, fortran):
    array = np.asfortranarray(array) if fortran else array
    (read_array,) = parse_npz(npz(a=array)).values()
    assert read_array.dtype == array.dtype and read_array.flags.writeable
    np.testing.assert_array_equal(read_array, array)


# --- gin ---------------------------------------------------------------------------------------


def test_reading_a_configuration_imports_and_includes_nothing(folder):
    marker = folder / "included.gin"
    marker.write_text("import antigravity\nX.y = 1\n")
    text = f"import antigravity\ninclude '{marker}'\nX.z = @os.system('x')\n"
    import sys

    with pytest.raises(RunError, match="not a gin configuration"):
        canonical_settings(text, "it")
    text = f"import antigravity\ninclude '{marker}'\nX.z = @f()\n"
    assert canonical_settings(text, "it")["X.z"] == "@f()"
    assert "X.y" not in canonical_settings(text, "it")
    assert "antigravity" not in sys.modules
