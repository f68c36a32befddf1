"""Arrays come out of pickles as they went in; whatever else a pickle asks for is never done."""

import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unirep_jax.data import FeatureFileError, pickled_array
from unirep_jax.data.pickled_array import read_zipped_array, unpickle_array

VIDEO = np.random.default_rng(0).standard_normal((3, 2, 2, 4))
ARRAYS = {
    "float64": VIDEO,
    "float32 in Fortran order": np.asfortranarray(VIDEO.astype(np.float32)),
    "a view with steps": VIDEO[:, ::2, :, 1::2],
    "big endian": VIDEO.astype(">f4"),
    "integers": np.arange(5, dtype=np.int16),
    "booleans": np.array([[True, False]]),
    "no row": np.zeros((0, 128)),
    "a single number": np.array(2.5),
}


def put(path, content, name="clip.pkl", kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, content)
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_out_as_it_went_in(name, protocol, tmp_path):
    array = ARRAYS[name]
    found = read_zipped_array(put(tmp_path / "a.zip", pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype and not found.flags.writeable


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_the_numpy_before_2_are_read(protocol):
    content = pickle.dumps(VIDEO[:, ::2], protocol)
    assert b"numpy._core.multiarray" in content
    old = content.replace(b"\x16numpy._core", b"\x15numpy.core")  # lengths of protocol 4
    old = old.replace(b"cnumpy._core", b"cnumpy.core")
    old = old[:3] + struct.pack("<Q", len(old) - 11) + old[11:] if protocol == 4 else old
    np.testing.assert_array_equal(unpickle_array(old), VIDEO[:, ::2])


# -- what pickles may not do -----------------------------------------------------------------------


class Call:
    """Is pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def foreign(trace):
    run = Call(os.system, f"touch {trace}")
    return {
        "a shell command": run,
        "a command inside a tuple": (1, (run,)),
        "a command among the objects of an array": np.array([run], object),
        "a command as the shape of an array": Call(np.ndarray, run),
        "eval": Call(eval, f"open({str(trace)!r}, 'w')"),
        "a file": Call(open, str(trace), "w"),
        "another function of NumPy": Call(np.load, str(trace)),
        "an array made by its class": Call(np.ndarray, (1 << 40,)),
        "a list": [VIDEO],
        "a dictionary": {"a": VIDEO},
        "two arrays": (VIDEO, VIDEO),
        "no array": b"text",
        "a number of NumPy": np.float64(3),
        "strings": np.array(["a"]),
        "dates": np.array(["2020-01-01"], "M8[D]"),
        "fields": np.zeros(2, [("a", "f4"), ("b", "O")]),
        "complex numbers": np.ones(2, complex),
        "long doubles": np.ones(2, np.longdouble),
        "a masked array": np.ma.ones(3),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", foreign(None))
def test_anything_but_an_array_of_numbers_is_refused_and_nothing_is_run(name, protocol, tmp_path):
    trace = tmp_path / "trace"
    path = put(tmp_path / "a.zip", pickle.dumps(foreign(trace)[name], protocol))
    with pytest.raises(FeatureFileError, match=r"a\.zip: expected a zip file with one pickled"):
        read_zipped_array(path)
    assert not trace.exists()


def described(shape, dtype="f8", buffer=b"\0" * 8, order="<"):
    """An array of protocol 4, written by hand."""
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()
    number = lambda n: b"J" + struct.pack("<i", n)
    numbers = b"(" + b"".join(map(number, shape)) + b"t"
    kind = text("numpy") + text("dtype") + b"\x93" + text(dtype) + b"\x89\x88\x87R"
    kind += b"(" + number(3) + text(order) + b"NNN" + number(-1) * 2 + number(0) + b"tb"
    data = b"B" + struct.pack("<I", len(buffer)) + buffer
    return (
        b"\x80\x04"
        + text("numpy._core.multiarray")
        + text("_reconstruct")
        + b"\x93"
        + text("numpy")
        + text("ndarray")
        + b"\x93"
        + number(0)
        + b"\x85C\x01b\x87R"
        + b"("
        + number(1)
        + numbers
        + kind
        + b"\x89"
        + data
        + b"tb."
    )


def test_the_array_written_by_hand_is_read():
    np.testing.assert_array_equal(unpickle_array(described((1, 1))), [[0.0]])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (described((1 << 30, 1 << 30)), "needs 9223372036854775808 bytes, found 8"),
        (described((2,)), "needs 16 bytes, found 8"),
        (described((0, 1 << 30, 1 << 30), buffer=b""), "ValueError"),
        (described((-1,)), "not the description"),
        (described((1,) * 9), "not the description"),
        (described((1,), dtype="O8"), "a dtype of numbers was expected"),
        (described((1,), dtype="f8,f8"), "a dtype of numbers was expected"),
        (described((1,), order="!"), "a byte order was expected"),
    ],
)
def test_arrays_that_contradict_themselves_are_refused(content, problem):
    with pytest.raises(pickle.UnpicklingError, match=problem):
        unpickle_array(content)


def test_operations_that_reserve_memory_are_refused_before_any_is_taken():
    """In a process that may take 1 GiB more than it has: each asks for far more."""
    bombs = [
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a bytearray
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",  # bytes
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",  # text
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".",  # a frame
        b"\x80\x04Nr" + struct.pack("<I", 0xFFFFFFFF) + b".",  # a place in the memo
        b"\x80\x04Np4294967295\n.",
        b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b".",  # an integer
    ]
    program = (
        "import pickle, resource, sys\n"
        "from unirep_jax.data.pickled_array import unpickle_array\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        f"for bomb in {bombs!r}:\n"
        "    try:\n"
        "        unpickle_array(bomb)\n"
        "    except pickle.UnpicklingError:\n"
        "        print('refused')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.split() == ["refused"] * len(bombs)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 << 20


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x80\x04" + b"(" * 10**6 + b".", "more than 256 operations"),
        (b"\x80\x04N" + b"\x85" * 10**6 + b".", "more than 256 operations"),
        (b"\x80\x04" + b"]" * 100 + b"a" * 99 + b".", "EMPTY_LIST is no part"),
        (b"\x80\x04N" + b"2" * 50 + b".", "DUP is no part"),
        (b"\x80\x05\x97.", "NEXT_BUFFER is no part"),
        (b"\x80\x05C\x01a\x98.", "READONLY_BUFFER is no part"),
        (b"\x80\x04Pfile\n.", "PERSID is no part"),
        (b"\x80\x04\x82\x01.", "EXT1 is no part"),
        (b"\x80\x04(ios\nsystem\n.", "INST is no part"),
        (pickle.dumps(VIDEO, 4) + b"cos\nsystem\n.", "12 bytes after its end"),
        (b"", "no whole pickle"),
        (b"\x93NUMPY", "STACK_GLOBAL|no whole pickle"),
    ],
)
def test_programs_that_are_no_array_are_not_run(content, problem):
    with pytest.raises(pickle.UnpicklingError, match=problem):
        unpickle_array(content)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickle_cut_anywhere_is_refused(protocol):
    whole = pickle.dumps(VIDEO, protocol)
    for length in range(len(whole)):
        with pytest.raises(pickle.UnpicklingError):
            unpickle_array(whole[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_damaged_byte_gives_an_array_of_numbers_or_an_error(place, value):
    content = bytearray(pickle.dumps(VIDEO[:, ::2], 4))
    content[int(place * len(content))] = value
    try:
        found = unpickle_array(bytes(content))
    except pickle.UnpicklingError:
        return
    assert type(found) is np.ndarray and found.dtype.kind in "biuf"


# -- what zip files may not do ---------------------------------------------------------------------


def refused(path, problem):
    with pytest.raises(FeatureFileError, match=problem) as caught:
        read_zipped_array(path)
    assert str(caught.value).startswith(
        f"{path}: expected a zip file with one pickled array, found"
    )


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled_array, "PICKLE_BYTES", 1 << 20)
    path = put(tmp_path / "a.zip", b"\0" * (1 << 22))
    assert path.stat().st_size < 1 << 14
    refused(path, "a member of 4194304 bytes, more than 1048576")


def test_a_zip_bomb_that_declares_less_than_it_holds_is_refused(tmp_path):
    path = put(tmp_path / "a.zip", b"\0" * (1 << 22))
    content = path.read_bytes().replace(struct.pack("<I", 1 << 22), struct.pack("<I", 64))
    path.write_bytes(content)
    refused(path, "CRC|no whole pickle|Bad")


def test_too_large_a_file_is_refused_unread(tmp_path, monkeypatch):
    path = put(tmp_path / "a.zip", pickle.dumps(VIDEO), kind=zipfile.ZIP_STORED)
    monkeypatch.setattr(pickled_array, "PICKLE_BYTES", path.stat().st_size - 1)
    refused(path, "bytes, more than")


def test_a_directory_of_many_members_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(17):
            archive.writestr(f"{i}.pkl", b"")
    refused(tmp_path / "a.zip", "more than 16 members")


@pytest.mark.parametrize(
    "name", ["../a.pkl", "a/../../b.pkl", "/etc/a.pkl", "..\\a.pkl", "C:a.pkl"]
)
def test_a_member_that_leaves_its_folder_is_refused(name, tmp_path):
    refused(put(tmp_path / "a.zip", pickle.dumps(VIDEO), name), "leaves its folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_one_member_must_be_the_pickle(tmp_path):
    refused(put(tmp_path / "a.zip", pickle.dumps(VIDEO), "a.npy"), "0 members with .pkl")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.pkl", pickle.dumps(VIDEO))
        archive.writestr("b.pkl", pickle.dumps(VIDEO))
    refused(tmp_path / "b.zip", "2 members with .pkl")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("read me.txt", "hello")
        archive.writestr("in/a.pkl", pickle.dumps(VIDEO))
    np.testing.assert_array_equal(read_zipped_array(tmp_path / "b.zip"), VIDEO)


def test_a_zip_file_cut_anywhere_is_refused(tmp_path):
    path = put(tmp_path / "a.zip", pickle.dumps(VIDEO))
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        refused(path, "found")


def test_a_file_that_is_absent_is_named(tmp_path):
    refused(tmp_path / "a.zip", "No such file")
