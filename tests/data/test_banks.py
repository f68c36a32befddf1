"""Embedding banks: what is kept, that it stays on disk, and that nothing wrong gets through."""

import io
import json
import pickle
import re
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.data import FeatureFileError, mapped
from unirep_jax.data.banks import open_bank, write_bank


def unit_rows(count=5, dim=8, dtype=np.float32, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def safetensors(entries, data=b"", length=None):
    """A file of this header, right or wrong."""
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(first, rows, name="F32"):
    return {"dtype": name, "shape": list(rows.shape), "data_offsets": [first, first + rows.nbytes]}


def put(path, rows, key="rows"):
    """Writes rows in the form that the suffix says, without side file."""
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".npz":
        np.savez(path, **{key: rows})
    else:
        name = {"float16": "F16", "float32": "F32"}[str(rows.dtype)]
        content = {"__metadata__": {"a": "b"}, key: tensor(0, rows, name)}
        path.write_bytes(safetensors(content, rows.tobytes()))
    return path


SUFFIXES = (".npy", ".npz", ".safetensors")


# -- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_every_form_gives_its_rows_without_copying_them(tmp_path, suffix, dtype):
    rows = unit_rows(dtype=dtype)
    bank = open_bank(put(tmp_path / f"clip.v1{suffix}", rows))
    assert isinstance(bank.embeddings, np.memmap) and bank.embeddings.dtype == dtype
    np.testing.assert_array_equal(bank.embeddings, rows)
    assert (bank.name, bank.unit, bank.about, bank.sha256) == ("clip.v1", True, "", None)
    with pytest.raises(ValueError, match="read-only"):
        bank.embeddings[0] = 0


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    dim=st.integers(1, 40),
    dtype=st.sampled_from([np.float16, np.float32]),
    unit=st.booleans(),
    name=st.text(max_size=8).filter(str.isprintable),
    whole=st.booleans(),
)
def test_any_bank_survives_the_round_trip(tmp_path_factory, blocks, dim, dtype, unit, name, whole):
    path = tmp_path_factory.mktemp("bank") / "rows.npy"
    rows = unit_rows(sum(blocks), dim, dtype) * dtype(1 if unit else 0.5)
    parts = np.split(rows, np.cumsum(blocks)[:-1])
    write_bank(path, rows if whole else iter(parts), name=name, about="γ", unit=unit)
    bank = open_bank(path, verify=True)
    assert (bank.name, bank.about, bank.unit) == (name, "γ", unit)
    assert bank.embeddings.dtype == dtype
    np.testing.assert_array_equal(bank.embeddings, rows)
    np.testing.assert_array_equal(np.load(path), rows)  # an ordinary file


def test_the_side_file_says_what_the_bank_is(tmp_path):
    write_bank(tmp_path / "clip.npy", unit_rows(dtype=np.float16), name="CLIP", about="texts")
    known = json.loads((tmp_path / "clip.json").read_text())
    digest = known.pop("sha256")
    assert len(digest) == 64 and digest == open_bank(tmp_path / "clip.npy").sha256
    assert known == {
        "format": "unirep_jax bank 1",
        "name": "CLIP",
        "dim": 8,
        "count": 5,
        "dtype": "float16",
        "unit": True,
        "about": "texts",
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_side_file_speaks_for_every_form(tmp_path, suffix):
    write_bank(tmp_path / "means.npy", unit_rows() * 0.5, name="Means", unit=False)
    put(tmp_path / f"means{suffix}", unit_rows() * 0.5)
    bank = open_bank(tmp_path / f"means{suffix}", verify=True)
    assert bank.name == "Means" and not bank.unit


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bank_is_never_read_whole(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(mapped, "_CHUNK_BYTES", 1 << 18)
    rows = unit_rows(65536, 64, np.float16)  # 8 MiB
    put(tmp_path / f"large{suffix}", rows)
    write_bank(tmp_path / "large.npy", rows, name="large")
    put(tmp_path / f"large{suffix}", rows)
    tracemalloc.start()
    bank = open_bank(tmp_path / f"large{suffix}", verify=True)
    write_bank(tmp_path / "copy.npy", bank.embeddings, name="copy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows.nbytes / 4


def test_the_matrix_among_several_arrays_is_chosen_by_key_or_because_it_is_the_only_one(tmp_path):
    first, second = unit_rows(seed=1), unit_rows(3, seed=2)
    np.savez(tmp_path / "one.npz", rows=first, label=np.arange(5))
    np.testing.assert_array_equal(open_bank(tmp_path / "one.npz").embeddings, first)
    np.savez(tmp_path / "two.npz", first=first, second=second)
    data = first.tobytes() + second.tobytes()
    content = {"first": tensor(0, first), "second": tensor(first.nbytes, second)}
    (tmp_path / "two.safetensors").write_bytes(safetensors(content, data))
    for path in (tmp_path / "two.npz", tmp_path / "two.safetensors"):
        np.testing.assert_array_equal(open_bank(path, key="second").embeddings, second)
        with pytest.raises(FeatureFileError, match="the key of one, found first, second"):
            open_bank(path)
        with pytest.raises(FeatureFileError, match="third: expected this key, found only first"):
            open_bank(path, key="third")


def test_what_the_safetensors_library_writes_is_read(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    rows = unit_rows(dtype=np.float16)
    other = {"scale": np.ones(3, np.int8), "rows": rows, "empty": np.ones((0,), np.float32)}
    library.save_file(other, tmp_path / "rows.safetensors", {"made": "by hand"})
    np.testing.assert_array_equal(open_bank(tmp_path / "rows.safetensors").embeddings, rows)


# -- rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_first_row_that_is_not_finite_is_named(tmp_path, monkeypatch, dtype, unit, value):
    monkeypatch.setattr(mapped, "_CHUNK_BYTES", 256)  # two rows a piece
    rows = unit_rows(9, dtype=dtype)
    rows[6, 3] = rows[7, 0] = value
    with pytest.raises(FeatureFileError, match=f"finite values, found {value} in row 6$"):
        write_bank(tmp_path / "new.npy", rows, name="x", unit=unit)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FeatureFileError, match=f"finite values, found {value} in row 6$"):
        open_bank(put(tmp_path / "rows.npy", rows))


@pytest.mark.parametrize(
    "dtype, right, wrong, shown",
    [(np.float16, 1.008, 1.012, r"1\.01"), (np.float32, 0.9992, 0.9988, r"0\.9988")],
)
def test_the_first_row_that_is_no_unit_vector_is_named(tmp_path, dtype, right, wrong, shown):
    rows = unit_rows().astype(np.float64)
    rows[1] *= right
    np.testing.assert_array_equal(
        open_bank(put(tmp_path / "right.npy", rows.astype(dtype))).embeddings, rows.astype(dtype)
    )
    rows[2] *= wrong
    rows[3] *= 5
    pattern = rf"rows\.npy: expected rows of norm 1 within 0\.0.*, found norm {shown}\d* in row 2$"
    with pytest.raises(FeatureFileError, match=pattern):
        open_bank(put(tmp_path / "rows.npy", rows.astype(dtype)))


def test_a_large_finite_value_is_a_wrong_norm_and_not_infinity(tmp_path):
    rows = unit_rows()
    rows[4, 0] = 1e30
    with pytest.raises(FeatureFileError, match="norm inf in row 4"):
        open_bank(put(tmp_path / "rows.npy", rows))
    write_bank(tmp_path / "free.npy", rows, name="x", unit=False)
    assert open_bank(tmp_path / "free.npy").embeddings[4, 0] == np.float32(1e30)


# -- arrays that are no banks --------------------------------------------------------------------

WRONG = {
    "a vector": (np.ones(4, np.float32), r"matrix \[count, dim\], found shape \(4,\)"),
    "a cube": (np.ones((2, 2, 2), np.float32), r"found shape \(2, 2, 2\)"),
    "double precision": (np.eye(3), "float16 or float32, found float64"),
    "integers": (np.eye(3, dtype=np.int32), "found int32"),
    "the other byte order": (np.eye(3, dtype=">f4"), "found >f4"),
    "no row": (np.ones((0, 3), np.float32), r"at least one row.*\(0, 3\)"),
    "no column": (np.ones((3, 0), np.float32), r"at least one row.*\(3, 0\)"),
    "columns first": (np.asfortranarray(unit_rows(2, 3)), "Fortran"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("case", WRONG)
def test_an_array_that_is_no_bank_is_refused(tmp_path, case, suffix):
    array, pattern = WRONG[case]
    path = put(tmp_path / f"rows{suffix}", array)
    key = None if suffix == ".npy" else "rows"
    with pytest.raises(FeatureFileError, match=pattern) as caught:
        open_bank(path, key=key)
    assert str(caught.value).startswith(f"{path}: " + (f"{key}: " if key else ""))


@pytest.mark.parametrize("case", [case for case in WRONG if case != "columns first"])
def test_an_array_that_is_no_bank_is_not_written(tmp_path, case):
    with pytest.raises(FeatureFileError):
        write_bank(tmp_path / "rows.npy", WRONG[case][0], name="x")
    assert list(tmp_path.iterdir()) == []


def test_blocks_that_do_not_fit_together_are_refused(tmp_path):
    for second in (unit_rows(2, 7), unit_rows(2, 8, np.float16), np.ones(8, np.float32)):
        with pytest.raises(FeatureFileError, match=r"rows\.npy: expected"):
            write_bank(tmp_path / "rows.npy", iter([unit_rows(), second]), name="x")
    for nothing in ([], [unit_rows()[:0]]):
        with pytest.raises(FeatureFileError, match="at least one row"):
            write_bank(tmp_path / "rows.npy", iter(nothing), name="x")
    with pytest.raises(FeatureFileError, match=r"ends in \.npy"):
        write_bank(tmp_path / "rows.npz", unit_rows(), name="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    path = put(tmp_path / f"rows{suffix}", unit_rows())
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 30).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(FeatureFileError, match=rf"rows\{suffix}: "):
            open_bank(path)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SUFFIXES), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3)
)
def test_damaged_bytes_are_refused_or_harmless_and_never_another_error(
    tmp_path_factory, suffix, place, damage
):
    path = put(tmp_path_factory.mktemp("damaged") / f"rows{suffix}", unit_rows())
    content = bytearray(path.read_bytes())
    first = int(place * min(len(content), 400))
    content[first : first + len(damage)] = damage
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a header that is no Python any more
        try:
            bank = open_bank(path)
        except FeatureFileError:
            return
    assert 1 <= bank.embeddings.nbytes <= len(content)


@pytest.mark.parametrize("path", ["absent.npy", "absent.npz", "absent.safetensors", "absent.txt"])
def test_a_missing_file_is_named(tmp_path, path):
    with pytest.raises(FeatureFileError, match=path.replace(".", r"\.")):
        open_bank(tmp_path / path)


def test_a_npy_file_has_no_keys(tmp_path):
    with pytest.raises(FeatureFileError, match="x: expected no key"):
        open_bank(put(tmp_path / "rows.npy", unit_rows()), key="x")


# -- untrusted files -----------------------------------------------------------------------------


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_ever_unpickled(tmp_path, suffix):
    trace = tmp_path / "trace"
    bomb = np.array([[Bomb(trace)] * 2] * 2)
    path = tmp_path / f"rows{suffix}"
    if suffix == ".safetensors":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        put(path, bomb)
    with pytest.raises(FeatureFileError):
        open_bank(path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(FeatureFileError):
        open_bank(path)
    assert not trace.exists()


ROWS = unit_rows(2, 3)  # 24 bytes
DATA = ROWS.tobytes()
ENTRY = tensor(0, ROWS)
HEADERS = {
    "a header beyond the file": (safetensors({"a": ENTRY}, DATA, 1 << 40), "a header of"),
    "a header that is no JSON": (safetensors(b"{'a': 1}", DATA), "JSONDecodeError"),
    "a header that is a list": (safetensors(b"[1, 2]"), "safetensors file"),
    "a deep header": (safetensors(b"[" * 100_000), "RecursionError|JSONDecodeError"),
    "a name twice": (safetensors(b'{"a": 1, "a": 2}'), "comes twice"),
    "an unknown dtype": (safetensors({"a": ENTRY | {"dtype": "F7"}}, DATA), "a: .*F7"),
    "an entry without shape": (safetensors({"a": {"dtype": "F32"}}), "a: .*shape"),
    "a negative length": (safetensors({"a": ENTRY | {"shape": [-2, -3]}}, DATA), "length"),
    "a boolean length": (safetensors({"a": ENTRY | {"shape": [True, 6]}}, DATA), "length"),
    "a huge shape": (safetensors({"a": ENTRY | {"shape": [2**62, 3]}}, DATA), "in 24 byt"),
    "many axes": (safetensors({"a": ENTRY | {"shape": [1] * 99}}, DATA), "99 axes"),
    "offsets beyond the file": (safetensors({"a": ENTRY}, DATA[:-1]), "23 bytes of data"),
    "offsets before the data": (
        safetensors({"a": ENTRY | {"data_offsets": [-8, 16]}}, DATA),
        "no length",
    ),
    "tensors that overlap": (
        safetensors({"a": ENTRY, "b": tensor(12, ROWS)}, DATA + bytes(12)),
        "b: .*byte 24",
    ),
    "a gap between tensors": (safetensors({"a": tensor(4, ROWS)}, bytes(28)), "a: .* from byte 0"),
    "bytes of no tensor": (safetensors({"a": ENTRY}, bytes(25)), "25 bytes"),
    "a half float of another kind": (
        safetensors({"a": tensor(0, ROWS.astype(np.float16), "BF16")}, bytes(12)),
        "found BF16",
    ),
    "nothing": (safetensors({}), "one matrix"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_malformed_safetensors_header_is_refused(tmp_path, case):
    content, pattern = HEADERS[case]
    (tmp_path / "rows.safetensors").write_bytes(content)
    with pytest.raises(FeatureFileError, match=pattern):
        open_bank(tmp_path / "rows.safetensors")


def npy(shape, version=b"\x01\x00", length=None):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY"
        + version
        + struct.pack("<H" if version == b"\x01\x00" else "<I", size)
        + header
    )


@pytest.mark.parametrize(
    "content",
    [
        npy("(99999999999999999999, 99999999999999999999)"),
        npy("(-2, -2)") + bytes(16),
        npy("(2, 2)", b"\x02\x00", 0xFFFFFFF0),
        npy("(2, 2)", b"\x09\x00"),
        npy("__import__('os').getcwd()"),
        npy("(" * 5000),
    ],
)
def test_an_untrusted_npy_header_costs_nothing(tmp_path, content):
    path = tmp_path / "rows.npy"
    with path.open("wb") as stream:
        stream.write(content)
        stream.truncate(1 << 26)  # what a header may claim to be
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FeatureFileError, match=r"rows\.npy: expected"):
            open_bank(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_compressed_member_is_refused_and_not_unpacked(tmp_path):
    zeros = np.zeros((1 << 16, 256), np.float32)  # 64 MiB in 64 KiB
    np.savez_compressed(tmp_path / "rows.npz", rows=zeros)
    tracemalloc.start()
    with pytest.raises(FeatureFileError, match=r"rows: .*compressed array; np\.savez"):
        open_bank(tmp_path / "rows.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


def test_a_member_whose_length_lies_is_refused(tmp_path):
    path = put(tmp_path / "rows.npz", unit_rows())
    content = path.read_bytes()
    directory = content.rindex(b"PK\x01\x02")
    for field in (20, 24):  # compressed and plain length
        damaged = bytearray(content)
        for place in (20, 24) if field == 20 else (24,):
            damaged[directory + place : directory + place + 4] = struct.pack("<I", 1 << 30)
        path.write_bytes(damaged)
        with pytest.raises(FeatureFileError, match=r"rows"):
            open_bank(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, unit_rows())
    with (
        zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        for _ in range(2):
            archive.writestr("rows.npy", buffer.getvalue())
    with pytest.raises(FeatureFileError, match="rows: expected one array of this name, found two"):
        open_bank(tmp_path / "rows.npz")


# -- side files ----------------------------------------------------------------------------------

SIDES = {
    "another count": ({"count": 6}, "rows.npy: count: expected 6 as in rows.json, found 5"),
    "another dim": ({"dim": 9}, "rows.npy: dim: expected 9"),
    "another dtype": ({"dtype": "float16"}, "rows.npy: dtype: expected float16"),
    "a count of text": ({"count": "5"}, "rows.json: count: expected a value of type int"),
    "a count that is a truth": ({"count": True}, "rows.json: count: .* int, found True"),
    "unit of 1": ({"unit": 1}, "rows.json: unit: .* bool, found 1"),
    "another format": ({"format": "mine"}, "rows.json: format: expected 'unirep_jax bank 1'"),
    "no format": ({"format": None}, "rows.json: format"),
}


@pytest.mark.parametrize("case", SIDES)
def test_a_side_file_that_does_not_fit_is_refused(tmp_path, case):
    change, pattern = SIDES[case]
    write_bank(tmp_path / "rows.npy", unit_rows(), name="x")
    known = json.loads((tmp_path / "rows.json").read_text())
    (tmp_path / "rows.json").write_text(json.dumps(known | change))
    with pytest.raises(FeatureFileError, match=pattern):
        open_bank(tmp_path / "rows.npy")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000, " " * (2 << 20)])
def test_a_side_file_that_is_no_side_file_is_refused(tmp_path, text):
    put(tmp_path / "rows.npy", unit_rows())
    (tmp_path / "rows.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FeatureFileError, match=r"rows\.json"):
        open_bank(tmp_path / "rows.npy")


def test_other_bytes_than_were_written_are_found_when_asked(tmp_path):
    write_bank(tmp_path / "rows.npy", unit_rows(seed=1), name="x")
    open_bank(tmp_path / "rows.npy", verify=True)
    put(tmp_path / "rows.npy", unit_rows(seed=2))
    open_bank(tmp_path / "rows.npy")
    with pytest.raises(FeatureFileError, match=r"rows\.npy: expected bytes of sha256"):
        open_bank(tmp_path / "rows.npy", verify=True)
    (tmp_path / "rows.json").unlink()
    with pytest.raises(FeatureFileError, match="sha256: expected a hash to verify"):
        open_bank(tmp_path / "rows.npy", verify=True)


def test_a_write_that_fails_leaves_the_old_bank_whole(tmp_path, monkeypatch):
    write_bank(tmp_path / "rows.npy", unit_rows(), name="x")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def break_off(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(mapped.os, "fsync", break_off)
    with pytest.raises(OSError, match="disk full"):
        write_bank(tmp_path / "rows.npy", unit_rows(3), name="y")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_new_matrix_never_stands_beside_the_old_side_file(tmp_path, monkeypatch):
    write_bank(tmp_path / "rows.npy", unit_rows(), name="x")
    synced = []

    def second_fails(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError("power cut")

    monkeypatch.setattr(mapped.os, "fsync", second_fails)
    with pytest.raises(OSError, match="power cut"):
        write_bank(tmp_path / "rows.npy", unit_rows(3), name="y")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.npy"]
    assert open_bank(tmp_path / "rows.npy").embeddings.shape == (3, 8)


def test_the_documented_examples_run(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "banks.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ours, alone = re.findall(r"```python(?: numpy)?\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(ours, names)
    assert names["bank"].embeddings.shape == (1000, 64) and names["bank"].about == "made up"
    exec(alone, {})
    np.testing.assert_array_equal(open_bank("mine.npy").embeddings, names["bank"].embeddings[:100])
