"""What a modality is made of, and that word ids stay integers from the file to the batch."""

import dataclasses

import numpy as np
import pytest

from unirep_jax.data import (
    FeatureFileError,
    FeatureSet,
    Kind,
    batches,
    gather,
    load_features,
    save_features,
    standardization,
)
from unirep_jax.data.kinds import kind_of
from unirep_jax.data.modalities import choose_modalities
from unirep_jax.data.resident import Pool, resident_arrays

SHAPES = {
    Kind.VECTOR: (3,),
    Kind.SEQUENCE: (4, 3),
    Kind.IMAGE: (5, 5, 3),
    Kind.VIDEO: (2, 5, 5, 3),
}


@pytest.fixture
def captioned(rng) -> FeatureSet:
    """Pictures, sound as a spectrogram, and captions as word ids; two captions are absent."""
    ids = np.array([[4, 2, 0], [3, 0, 0], [9, 9, 9], [5, 1, 2], [-7, 0, 0], [2, 2, 0]], np.int64)
    return FeatureSet.from_arrays(
        "captioned",
        {
            "image": rng.standard_normal((6, 4, 4, 3)).astype(np.float32),
            "sound": rng.standard_normal((6, 5, 7)).astype(np.float16),
            "caption": ids,
        },
        np.array([0, 1, 0, 1, 0, 1]),
        np.array([True, True, True, True, False, False]),
        present={"caption": np.array([True, True, True, True, False, True])},
        kinds={"sound": Kind.SPECTROGRAM},
    )


@pytest.mark.parametrize("kind", SHAPES)
def test_type_and_shape_tell_the_kind(kind):
    for dtype in (np.float16, np.float32, np.float64):
        array = np.zeros((6, *SHAPES[kind]), dtype)
        assert kind_of(array) is kind and len(kind.axes) == array.ndim - 1
    assert kind_of(np.zeros((6, *SHAPES[kind]), np.uint16)) is (
        Kind.WORDS if kind is Kind.VECTOR else None
    )


def test_a_spectrogram_is_one_only_if_somebody_says_so(captioned):
    array = captioned.features["sound"]
    assert kind_of(array) is Kind.SEQUENCE and Kind.SPECTROGRAM.fits(array)
    assert captioned.kinds["sound"] is Kind.SPECTROGRAM
    undeclared = dataclasses.replace(captioned, declared={})
    assert undeclared.kinds["sound"] is Kind.SEQUENCE


def test_a_declared_kind_ends_where_embeddings_replace_the_features(tmp_path, captioned):
    vectors = captioned.features | {"sound": np.zeros((6, 8), np.float32)}
    replaced = dataclasses.replace(captioned, features=vectors)
    assert replaced.kinds["sound"] is Kind.VECTOR
    save_features(tmp_path / "set.npz", replaced)
    assert load_features(tmp_path / "set.npz").kinds["sound"] is Kind.VECTOR


def test_a_choice_of_modalities_keeps_their_kinds(tmp_path, captioned):
    for chosen in (("image", "sound"), ("image", "caption")):
        kept = choose_modalities(captioned, chosen)
        save_features(tmp_path / f"{chosen[1]}.npz", kept)
        loaded = load_features(tmp_path / f"{chosen[1]}.npz")
        assert loaded.kinds == kept.kinds == {m: captioned.kinds[m] for m in chosen}


def test_a_declared_kind_must_fit(captioned):
    for modality, kind, found in (
        ("sound", Kind.WORDS, r"words, integers \[example, length\], found float16 \(6, 5, 7\)"),
        ("smell", Kind.VECTOR, "a modality of the set, found 'smell'"),
    ):
        with pytest.raises(FeatureFileError, match=rf"kind/{modality}: expected {found}"):
            FeatureSet.from_arrays(
                "x",
                captioned.features,
                captioned.label,
                captioned.train,
                present=captioned.present,
                kinds={modality: kind},
            )


@pytest.mark.parametrize("name", ["set.npz", "set"])
def test_kinds_and_word_ids_survive_a_file(tmp_path, captioned, name):
    save_features(tmp_path / name, captioned)
    loaded = load_features(tmp_path / name)
    assert {m: loaded.kinds[m] for m in loaded.modalities} == captioned.kinds
    caption = loaded.features["caption"]
    assert caption.dtype == np.int64
    np.testing.assert_array_equal(caption, captioned.features["caption"])


def test_word_ids_have_no_mean_and_are_not_standardised(captioned):
    assert standardization(captioned).keys() == {"image", "sound"}


def test_batches_show_word_ids_as_int32_and_zero_where_absent(captioned):
    batch = gather(captioned, [4, 0])["features"]
    assert {m: x.dtype.name for m, x in batch.items()} == {
        "image": "float32",
        "sound": "float32",
        "caption": "int32",
    }
    np.testing.assert_array_equal(batch["caption"], [[0, 0, 0], [4, 2, 0]])
    streamed = next(batches(captioned, batch_size=4, seed=0, start_step=0, num_steps=1))
    rows = captioned.features["caption"][streamed["index"]]
    assert streamed["features"]["caption"].dtype == np.int32
    np.testing.assert_array_equal(streamed["features"]["caption"], rows)


def test_the_device_holds_word_ids_as_int32(captioned):
    pool = Pool(np.arange(6), 2, ("sound", "caption"))
    kept = resident_arrays(captioned, pool)["features"]
    assert kept["caption"].dtype == np.int32 and kept["sound"].dtype == np.float16
    np.testing.assert_array_equal(kept["caption"][[0, 4]], [[4, 2, 0], [0, 0, 0]])


@pytest.mark.parametrize("value", [-1, 2**31, 10_000_000])
def test_what_is_no_word_id_is_named(captioned, value):
    ids = captioned.features["caption"].copy()
    ids[2, 1] = value
    with pytest.raises(FeatureFileError, match=rf"caption: expected word ids .* {value} in row 2"):
        FeatureSet.from_arrays(
            "x",
            captioned.features | {"caption": ids},
            captioned.label,
            captioned.train,
            present=captioned.present,
        )
