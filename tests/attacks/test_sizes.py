"""A file of a few bytes that says it has thousands of millions of something costs nothing."""

import contextlib
import os
import resource
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import untrusted
from PIL import Image
from scipy.io import savemat

from unirep_jax.data import FeatureFileError, load_features
from unirep_jax.data.banks import open_bank
from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.builders._h5 import H5Row, h5_array
from unirep_jax.data.builders._manual import image_bytes
from unirep_jax.data.builders._mat import mat_variable
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.data.builders.sun_rgbd_scenes import _depth_png
from unirep_jax.data.limits import MAX_CLASSES, MAX_MEMBERS, MAX_NAME, memory
from unirep_jax.data.npy_header import read_npy_header

SECONDS, BYTES = 5, 300 << 20  # the readers before took all of both


@contextlib.contextmanager
def cheap():
    """Little time, and no memory to speak of: more than the process has and 300 MiB is an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    start = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.monotonic() - start < SECONDS


def header(shape, dtype):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def with_array(tmp_path, form, key, content):
    """A right feature set but for the bytes of one array."""
    if form == "folder":
        folder = untrusted.feature_folder(tmp_path / "set")
        (folder / f"{key}.npy").parent.mkdir(exist_ok=True)
        (folder / f"{key}.npy").write_bytes(content)
        return folder
    arrays = {k: x for k, x in untrusted.feature_arrays().items() if k != key}
    np.savez(tmp_path / "set.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "set.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{key}.npy", content)
    return tmp_path / "set.npz"


@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize(
    ("key", "shape", "dtype"),
    [
        ("class_name", (10**9,), "<U0"),
        ("class_name", (10**12,), "<U0"),
        ("class_name", (MAX_CLASSES,), "<U0"),
        ("class_name", (10**9,), "<U3"),
        ("class_name", (2,), f"<U{10**9}"),
        ("class_name", (2,), f"<U{MAX_NAME + 1}"),
        ("split", (4,), "<U0"),
        ("split", (4,), f"<U{MAX_NAME + 1}"),
        ("label", (10**9,), "|i1"),
        ("label", (10**12,), "<i8"),
        ("label", (4,), "|V0"),
        ("group", (10**12,), "<i8"),
        ("present/sight", (10**12,), "|b1"),
        ("modality/sight", (4, 10**12), "<f4"),
        ("kind/sight", (10**12,), "<U0"),
        ("kind/sight", (), f"<U{10**9}"),
    ],
)
def test_an_array_that_claims_too_much_is_refused_unread(tmp_path, form, key, shape, dtype):
    path = with_array(tmp_path, form, key, header(shape, dtype))
    with cheap(), pytest.raises(FeatureFileError, match=rf"set.*: {key}: expected "):
        load_features(path)


@pytest.mark.parametrize("key", ["label", "present/sight", "group"])
def test_deflated_zeros_are_refused_before_they_are_zeros_again(tmp_path, key):
    count = 2 * 10**8
    dtype = "|b1" if key.startswith("present") else "|i1"
    content = header((count,), dtype)
    with (
        zipfile.ZipFile(tmp_path / "zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{key}.npy", "w") as stream,
    ):
        stream.write(content)
        for _ in range(count >> 22):
            stream.write(bytes(1 << 22))
        stream.write(bytes(count - (count >> 22 << 22)))
    with zipfile.ZipFile(tmp_path / "zeros.npz", "a") as archive:
        np.savez(tmp_path / "rest.npz", **untrusted.feature_arrays())
        with zipfile.ZipFile(tmp_path / "rest.npz") as rest:
            for name in rest.namelist():
                if name != f"{key}.npy":
                    archive.writestr(name, rest.read(name))
    assert (tmp_path / "zeros.npz").stat().st_size < 1 << 20
    with cheap(), pytest.raises(FeatureFileError, match=rf"zeros\.npz: {key}: expected "):
        load_features(tmp_path / "zeros.npz")


@pytest.mark.parametrize("form", ["file", "folder"])
def test_more_classes_than_the_cap_are_refused(tmp_path, form):
    names = np.arange(MAX_CLASSES + 1).astype("<U6")
    make = untrusted.feature_file if form == "file" else untrusted.feature_folder
    path = make(tmp_path / ("set.npz" if form == "file" else "set"), class_name=names)
    expected = rf"class_name: expected {MAX_CLASSES} rows or fewer, found {MAX_CLASSES + 1}"
    with cheap(), pytest.raises(FeatureFileError, match=expected):
        load_features(path)


def test_an_archive_of_more_arrays_than_the_cap_is_refused(tmp_path):
    path = untrusted.feature_file(tmp_path / "set.npz")
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(MAX_MEMBERS):
            archive.writestr(f"{number}.npy", b"")
    for read in (load_features, open_bank):
        with cheap(), pytest.raises(FeatureFileError, match=rf"more than {MAX_MEMBERS}"):
            read(path)


@pytest.mark.parametrize("shape", [(10**9, 0), (0, 10**18), (10**12, 4), (1, 10**12)])
def test_a_bank_that_claims_too_much_is_refused_unread(tmp_path, shape):
    (tmp_path / "bank.npy").write_bytes(header(shape, "<f4"))
    with zipfile.ZipFile(tmp_path / "bank.npz", "w") as archive:
        archive.writestr("rows.npy", header(shape, "<f4"))
    for name in ("bank.npy", "bank.npz"):
        with cheap(), pytest.raises(FeatureFileError, match=r"bank\.np.: .*expected"):
            open_bank(tmp_path / name)


def test_text_vectors_that_claim_too_much_are_refused_unread(tmp_path):
    (tmp_path / "text_vectors").mkdir()
    (tmp_path / "text_vectors/text.npy").write_bytes(header((10**12,), "<U0"))
    np.save(tmp_path / "text_vectors/vector.npy", np.ones((2, 3, 4), np.float32))
    with cheap(), pytest.raises(FeatureFileError, match=r"text_vectors: text: expected"):
        TextVectors(tmp_path, (3, 4))


def test_a_row_or_chunk_of_h5_that_claims_too_much_is_refused_unread(tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("row", (2, 1 << 40), "f4", chunks=(1, 1 << 16))
        file.create_dataset("chunk", (1 << 20, 1 << 10), "f4", chunks=(1 << 19, 1 << 10))
    with cheap(), pytest.raises(FeatureFileError, match=r"a row of .* bytes, more than"):
        H5Row(path, "row", 0).read()
    with cheap(), pytest.raises(FeatureFileError, match=r"a chunk of .* bytes, more than"):
        H5Row(path, "chunk", 0).read()
    with cheap(), pytest.raises(FeatureFileError, match="bytes, more than"):
        h5_array(path, "row", (None, None))


def test_a_picture_of_too_many_pixels_is_refused_undecoded(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (10_000, 8_000)).save(path)
    assert path.stat().st_size < 1 << 20
    with cheap(), pytest.raises(DataFolderError, match=r"10000 x 8000 pixels, more than"):
        image_bytes(path)
    Image.new("I;16", (10_000, 8_000)).save(path)
    with cheap(), pytest.raises(DataFolderError, match=r"10000 x 8000 pixels, more than"):
        _depth_png(path)


def test_a_variable_of_matlab_that_becomes_too_large_is_refused(tmp_path):
    path = tmp_path / "setid.mat"
    savemat(path, {"trnid": np.zeros(1 << 25, np.int8)}, do_compression=True)
    assert path.stat().st_size < 1 << 16
    with cheap(), pytest.raises(DataFolderError, match=r"setid\.mat: .*once it is unpacked"):
        mat_variable(path, "trnid")
    savemat(path, {"trnid": np.arange(9), "other": np.ones(3)}, do_compression=True)
    np.testing.assert_array_equal(mat_variable(path, "trnid"), [np.arange(9)])
    with pytest.raises(DataFolderError, match=r"setid\.mat: expected the variable 'valid'"):
        mat_variable(path, "valid")


def test_bytes_that_are_no_truth_values_or_no_text_are_refused(tmp_path):
    spoiled = {
        "present/sight": (header((4,), "|b1") + b"\1\1\2\1", "neither in row 2"),
        "class_name": (header((2,), "<U1") + b"\0\0\x11\0a\0\0\0", "code 0x110000"),
        "split": (header((4,), "<U1") + b"\0\xd8\0\0" * 4, "code 0xd800"),
    }
    for key, (content, found) in spoiled.items():
        path = with_array(tmp_path, "file", key, content)
        with pytest.raises(FeatureFileError, match=rf"{key}: expected .*{found}"):
            load_features(path)


@pytest.mark.parametrize("path", ["/", "/proc", "/dev", "/etc", "/dev/zero"])
def test_a_folder_of_the_system_is_no_feature_set(path):
    with cheap(), pytest.raises(FeatureFileError, match=r"npy"):
        load_features(path)


def test_a_folder_of_folders_without_end_is_no_feature_set(tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    with cheap(), pytest.raises(FeatureFileError, match="one without any array"):
        load_features(tmp_path)


@pytest.mark.parametrize("text", ["max", "1000000", ""])
def test_the_memory_is_that_of_the_container(tmp_path, monkeypatch, text):
    (tmp_path / "memory.max").write_text(text + "\n")
    places = (tmp_path / "memory.max", tmp_path / "absent")
    monkeypatch.setattr("unirep_jax.data.limits._CGROUP_LIMITS", places)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory() == (1_000_000 if text.isdecimal() else physical)


def test_a_header_of_many_axes_or_of_python_code_is_none(tmp_path):
    for content in (
        header((1,) * 9, "<f4"),
        header("(__import__('os').getpid(),)", "<f4"),
        header("(" * 2000 + ")" * 2000, "<f4"),
    ):
        (tmp_path / "a.npy").write_bytes(content)
        with (tmp_path / "a.npy").open("rb") as stream, pytest.raises(Exception):  # noqa: B017
            read_npy_header(stream)
        path = with_array(tmp_path, "file", "label", content)
        with pytest.raises(FeatureFileError, match="label: expected"):
            load_features(path)
