"""A folder of banks becomes the streams of two spaces, and what does not fit is refused."""

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError
from unirep_jax.data.banks import write_bank
from unirep_jax.data.catalog import DATA_SETS
from unirep_jax.data.connection import load_connection

DIMS = {"text_1": 6, "image_1": 6, "text_2": 4, "audio_2": 4}
OTHERS = ("image_1", "audio_2")
TRAIN, TEST = 7, 3


def rows_of(name, count):
    rows = np.random.default_rng([count, *name.encode()]).standard_normal((count, DIMS[name]))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def write(folder, name, rows, unit=True):
    folder.mkdir(parents=True, exist_ok=True)
    write_bank(folder / f"{name}.npy", rows, name=name, unit=unit)


@pytest.fixture
def spaces(tmp_path):
    """All four streams in both parts; the others of the training part are aggregated."""
    for name in DIMS:
        scale = np.float16(0.5 if name in OTHERS else 1)
        write(tmp_path / "set" / "train", name, rows_of(name, TRAIN) * scale, unit=scale == 1)
        write(tmp_path / "set" / "test", name, rows_of(name, TEST))
    return tmp_path / "set"


def remove(folder, name):
    for suffix in (".npy", ".json"):
        (folder / f"{name}{suffix}").unlink()


def test_training_rows_come_first_and_every_stream_is_on_disk(spaces):
    data = load_connection(spaces)
    assert data.name == "set" and set(data.modalities) == set(DIMS)
    assert data.train.tolist() == TRAIN * [True] + TEST * [False]
    assert (data.label == -1).all() and data.class_names == ()
    for name, array in data.features.items():
        assert isinstance(array, np.memmap) and array.dtype == np.float16
        scale = np.float16(0.5 if name in OTHERS else 1)
        np.testing.assert_array_equal(array[:TRAIN], rows_of(name, TRAIN) * scale)
        np.testing.assert_array_equal(array[TRAIN:], rows_of(name, TEST))
        assert data.present[name].all()


def test_the_shared_modality_is_absent_where_only_the_true_pairs_are_known(spaces):
    for name in ("text_1", "text_2"):
        remove(spaces / "test", name)
    data = load_connection(spaces)
    for name in DIMS:
        expected = data.train if name.startswith("text") else np.ones(TRAIN + TEST, bool)
        np.testing.assert_array_equal(data.present[name], expected)
    np.testing.assert_array_equal(data.features["audio_2"][TRAIN:], rows_of("audio_2", TEST))
    assert not data.features["text_1"][TRAIN:].any()


def test_labels_and_their_names_are_those_of_the_test_part(spaces):
    np.save(spaces / "test" / "label.npy", np.array([1, 0, 1], np.uint64))
    np.save(spaces / "test" / "class_name.npy", np.array(["dog", "rain"]))
    data = load_connection(spaces)
    assert data.label.tolist() == TRAIN * [-1] + [1, 0, 1]
    assert data.class_names == ("dog", "rain")


def test_a_part_in_another_precision_or_form_is_joined_in_the_wider_one(spaces):
    remove(spaces / "test", "image_1")
    rows = rows_of("image_1", TEST).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.savez(spaces / "test" / "image_1.npz", anything=rows)
    image = load_connection(spaces).features["image_1"]
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[TRAIN:], rows)


def test_configurations_find_it_under_banks():
    assert DATA_SETS["banks"].load is load_connection


WRONG = {
    "no training part": (lambda f: (f / "train").rename(f / "trian"), "train: expected a folder"),
    "no test part": (lambda f: (f / "test").rename(f / "tset"), "test: expected a folder"),
    "three streams": (lambda f: remove(f / "train", "text_2"), "train: expected the banks SHARED"),
    "no stream in the test part": (
        lambda f: [remove(f / "test", name) for name in DIMS],
        "test: expected the banks audio_2",
    ),
    "one shared stream alone": (lambda f: remove(f / "test", "text_1"), "or audio_2 and image_1"),
    "one true side alone": (
        lambda f: [remove(f / "test", name) for name in DIMS if name != "image_1"],
        "alone, found image_1",
    ),
    "a stream of no space": (
        lambda f: write(f / "train", "text", rows_of("text_1", TRAIN)),
        "text.npy: expected one of",
    ),
    "a fifth stream": (
        lambda f: write(f / "train", "depth_1", rows_of("text_1", TRAIN)),
        "found audio_2, depth_1",
    ),
    "one stream twice": (
        lambda f: np.savez(f / "train" / "text_1.npz", rows=rows_of("text_1", TRAIN)),
        "text_1.npz: expected one bank of this name",
    ),
    "a longer stream": (
        lambda f: write(f / "train", "text_2", rows_of("text_2", 8)),
        "train: text_2: expected 7 rows as in audio_2, found 8",
    ),
    "a shorter test stream": (
        lambda f: write(f / "test", "image_1", rows_of("image_1", 2)),
        "image_1: expected 3 rows",
    ),
    "a wider test stream": (
        lambda f: write(f / "test", "audio_2", rows_of("text_1", TEST)),
        "test: audio_2: expected 4 dimensions as in train, found 6",
    ),
    "means where true pairs belong": (
        lambda f: np.save(f / "test" / "image_1.npy", rows_of("image_1", TEST) * np.float16(0.5)),
        "image_1.npy: expected rows of norm 1",
    ),
    "too many labels": (
        lambda f: np.save(f / "test" / "label.npy", np.zeros(4, int)),
        r"label: .*shape \(3\)",
    ),
    "labels of floats": (
        lambda f: np.save(f / "test" / "label.npy", np.zeros(3)),
        "label: expected a integer",
    ),
    "a label beyond the names": (
        lambda f: (
            np.save(f / "test" / "label.npy", np.array([0, 0, 2])),
            np.save(f / "test" / "class_name.npy", np.array(["dog", "rain"])),
        ),
        "label: expected .* found 2 in row 9",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_folder_that_does_not_fit_is_refused_by_name(spaces, case):
    change, pattern = WRONG[case]
    change(spaces)
    with pytest.raises(FeatureFileError, match=pattern):
        load_connection(spaces)


def test_spaces_with_two_modalities_in_common_are_refused(spaces):
    for part, count in (("train", TRAIN), ("test", TEST)):
        remove(spaces / part, "audio_2")
        write(spaces / part, "image_2", rows_of("text_2", count))
    with pytest.raises(FeatureFileError, match="SHARED_1, OTHER_1, SHARED_2, OTHER_2"):
        load_connection(spaces)
