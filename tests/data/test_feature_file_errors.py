"""Every way in which a feature file can be wrong is named, and none gets through."""

import pickle
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unirep_jax.data import (
    FeatureFileError,
    FeatureSet,
    load_features,
    save_features,
)

WRONG = {
    "a missing label": ({"label": None}, "label", "expected this key, found only .*split"),
    "a missing split": ({"split": None}, "split", "expected this key, found only .*label"),
    "both split and train": ({"train": np.ones(6, bool)}, "train", "either split or train"),
    "a misspelt key": ({"lable": np.zeros(6, int)}, "lable", "modality/NAME.*label, split"),
    "presence of no modality": ({"present/smell": np.ones(6, bool)}, "present/smell", "modality/"),
    "labels of floats": ({"label": np.zeros(6)}, "label", "integer.*float64"),
    "labels as a column": ({"label": np.zeros((6, 1), int)}, "label", r"\(any\).*\(6, 1\)"),
    "a label beyond the names": ({"label": np.array([0, 1, 3, 0, 0, 0])}, "label", "3 in row 2"),
    "a label below -1": ({"label": np.array([0, -2, 0, 0, 0, 0])}, "label", "-2 in row 1"),
    "a label beyond int32": ({"label": np.full(6, 2**40)}, "label", str(2**40)),
    "a label that is no class number": (
        {"label": np.full(6, 2**30), "class_name": None},
        "label",
        str(2**30),
    ),
    "splits of bool": ({"split": np.ones(6, bool)}, "split", "string.*bool"),
    "train of integers": ({"split": None, "train": np.ones(6, int)}, "train", "boolean.*int64"),
    "a third split": ({"split": np.array(3 * ["train", "val"])}, "split", "'val' in row 1"),
    "no training example": ({"split": np.array(["test"] * 6)}, "split", "one train example"),
    "no test example": ({"split": np.array(["train"] * 6)}, "split", "one test example"),
    "too short a split": ({"split": np.array(["train", "test"])}, "split", r"\(6\).*\(2,\)"),
    "too long a modality": ({"modality/text": np.ones((7, 2))}, "modality/text", "6 examples.*7"),
    "too short a presence": ({"present/audio": np.ones(5, bool)}, "present/audio", r"\(5,\)"),
    "presence of integers": ({"present/audio": np.ones(6, int)}, "present/audio", "boolean"),
    "groups of floats": ({"group": np.ones(6)}, "group", "integer"),
    "class names of numbers": ({"class_name": np.arange(3)}, "class_name", "string"),
    "integer sequences": (
        {"modality/text": np.ones((6, 2, 2), int)},
        "modality/text",
        r"words, integers \[example, length\], found int64 \(6, 2, 2\)",
    ),
    "negative word ids": (
        {"modality/text": np.full((6, 2), -1)},
        "modality/text",
        "word ids of 0 .* -1 in row 0",
    ),
    "features of bool": ({"modality/text": np.ones((6, 2), bool)}, "modality/text", "number.*bool"),
    "an unknown kind": ({"kind/text": np.array("smell")}, "kind/text", "spectrogram.*'smell'"),
    "a kind that does not fit": (
        {"kind/text": np.array("spectrogram")},
        "kind/text",
        r"\[example, time, frequency\], found float64 \(6, 7\)",
    ),
    "a kind of no modality": ({"kind/smell": np.array("words")}, "kind/smell", "kind/NAME"),
    "long double features": (
        {"modality/text": np.ones((6, 2), np.longdouble)},
        "modality/text",
        "float16, float32 or float64",
    ),
    "features of rank 1": ({"modality/text": np.ones(6)}, "modality/text", r"dim.*\(6,\)"),
    "features of rank 6": ({"modality/text": np.ones((6, 2, 2, 2, 2, 2))}, "modality/text", "time"),
    "features without channels": ({"modality/text": np.ones((6, 0))}, "modality/text", r"\(6, 0\)"),
    "one modality": (
        {"modality/text": None, "modality/audio": None, "present/audio": None},
        "modality",
        "two modalities.*video",
    ),
    "a modality with a dash": ({"modality/a-b": np.ones((6, 2))}, "modality/a-b", "letters"),
    "a modality in a folder": ({"modality/a/b": np.ones((6, 2))}, "modality/a/b", "letters"),
    "an object array": ({"modality/text": np.array([[None]] * 6)}, "modality/text", "[Oo]bject"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_file_and_key(write, case, arrays):
    change, key, pattern = WRONG[case]
    content = {k: a for k, a in (arrays | change).items() if a is not None}
    path = write(content)
    with pytest.raises(FeatureFileError, match=pattern) as caught:
        load_features(path)
    assert str(caught.value).startswith(f"{path}: {key}: expected ")
    assert ", found " in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_the_first_present_row_that_is_not_finite_is_named(write, modality, value, arrays):
    content = arrays
    content[f"modality/{modality}"][5].flat[-1] = value
    content[f"modality/{modality}"][1].flat[1] = value  # row 1 of audio is absent
    content["present/audio"][5] = True
    row = 5 if modality == "audio" else 1
    with pytest.raises(FeatureFileError, match=f"modality/{modality}: .* {value} in row {row}$"):
        load_features(write(content))


def test_a_float64_value_beyond_float32_is_not_finite(write, arrays):
    content = arrays
    content["modality/text"][2, 2] = 1e39
    with pytest.raises(FeatureFileError, match=r"finite float32 .* inf in row 2"):
        load_features(write(content))


def test_an_example_with_no_modality_present_is_named(write, arrays):
    content = arrays
    content["present/video"] = content["present/text"] = np.arange(6) != 1
    with pytest.raises(
        FeatureFileError, match="present modality in every example, found none in row 1"
    ):
        load_features(write(content))


def test_a_set_without_examples_is_refused(write, arrays):
    empty = {key: array if key == "class_name" else array[:0] for key, array in arrays.items()}
    with pytest.raises(FeatureFileError):  # a folder cannot even be mapped
        load_features(write(empty))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FeatureFileError, match=r"absent\.npz: expected an \.npz file or a folder"):
        load_features(tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"video,audio\n1,2\n", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_npz_is_named(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"set\.npz: expected an \.npz file"):
        load_features(tmp_path / "set.npz")


def test_a_single_npy_array_is_no_feature_file(tmp_path):
    np.save(tmp_path / "video.npy", np.ones((3, 2)))
    with pytest.raises(FeatureFileError, match=r"video\.npy: .* a single array"):
        load_features(tmp_path / "video.npy")


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("where", ["file", "member of a file", "member of a folder"])
def test_nothing_is_ever_unpickled(tmp_path, where, arrays, write_folder):
    trace = tmp_path / "trace"
    path = tmp_path / "set.npz"
    if where == "file":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    elif where == "member of a file":
        np.savez(path, **arrays | {"modality/text": np.array([[Bomb(trace)]] * 6)})
    else:
        path = tmp_path / "set"
        write_folder(path, arrays | {"modality/text": np.array([[Bomb(trace)]] * 6)})
    with pytest.raises(FeatureFileError, match=r"allow_pickle|pickled|Python objects"):
        load_features(path)
    assert not trace.exists()


def test_a_member_that_is_no_array_is_named(tmp_path, arrays):
    np.savez(tmp_path / "set.npz", **{k: a for k, a in arrays.items() if k != "label"})
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("label.npy", "0 1 2")
    with pytest.raises(FeatureFileError, match=r"label: expected .*array"):
        load_features(tmp_path / "set.npz")


@pytest.mark.parametrize("name", ["../outside", "..", "/etc/x", "a.b", "1st", "", "é"])
def test_a_modality_that_is_no_plain_name_never_reaches_the_disk(tmp_path, name, right):
    made = {name: np.ones((2, 3)), "video": np.ones((2, 3))}
    with pytest.raises(FeatureFileError, match="letters, digits"):
        FeatureSet.from_arrays("x", made, np.zeros(2, int), np.array([True, False]))
    untrusted = FeatureSet(**vars(right) | {"features": made | right.features})
    folder = tmp_path / "new" / "set"
    folder.parent.mkdir()
    with pytest.raises(FeatureFileError, match="letters, digits"):
        save_features(folder, untrusted)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_a_file_cut_anywhere_is_refused(tmp_path, compress, arrays):
    compress(tmp_path / "set.npz", **arrays)
    whole = (tmp_path / "set.npz").read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        (tmp_path / "set.npz").write_bytes(whole[:length])
        with pytest.raises(FeatureFileError):
            load_features(tmp_path / "set.npz")


def test_a_folder_with_a_file_cut_short_is_refused(tmp_path, arrays, write_folder):
    for key in arrays:
        write_folder(tmp_path / "set", arrays)
        file = tmp_path / "set" / f"{key}.npy"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(FeatureFileError, match=re.escape(f"set: {key}: expected a plain")):
            load_features(tmp_path / "set")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_damaged_byte_is_refused_or_harmless_and_never_another_error(
    tmp_path_factory, place, value, arrays
):
    path = tmp_path_factory.mktemp("damaged") / "set.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        loaded = load_features(path)
    except FeatureFileError:
        return
    for key, array in arrays.items():
        if key.startswith("modality/"):
            np.testing.assert_array_equal(loaded.features[key.removeprefix("modality/")], array)


def test_the_error_survives_pickling_between_processes():
    error = FeatureFileError("a.npz", "label", "this", "that")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError)
    assert str(again) == str(error) == "a.npz: label: expected this, found that"
