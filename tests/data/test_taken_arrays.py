"""What `FeatureSet.from_arrays` takes as an array, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, FeatureSet, gather
from unirep_jax.data.words import split_words

LABEL, TRAIN = np.array([0, 1, 0, 1]), np.array([True, True, False, False])


def made(**changes):
    features = {"a": np.arange(12.0).reshape(4, 3), "b": np.ones((4, 2), np.float32)}
    arguments = {"features": features, "label": LABEL, "train": TRAIN} | changes
    return FeatureSet.from_arrays("x", **arguments)


@pytest.mark.parametrize("make", [jnp.asarray, lambda x: np.asarray(x).tolist(), np.ma.asarray])
def test_arrays_of_jax_and_lists_are_taken(make):
    right = made()
    taken = made(
        features={m: make(x) for m, x in right.features.items()},
        label=make(LABEL),
        train=make(TRAIN),
        present={"a": make(np.array([True, False, True, True]))},
        group=make(np.arange(4)),
    )
    assert all(type(x) is np.ndarray for x in (*taken.features.values(), taken.train))
    np.testing.assert_array_equal(gather(taken, [2, 0])["features"]["a"], [[6, 7, 8], [0, 1, 2]])
    assert not taken.present["a"][1]


MASK = np.ma.masked_array(np.arange(8.0).reshape(4, 2), np.eye(4, 2, dtype=bool))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("features", {"a": MASK, "b": np.ones((4, 2))}),
        ("label", np.ma.masked_array(LABEL, [0, 1, 0, 0])),
        ("train", np.ma.masked_array(TRAIN, [0, 1, 0, 0])),
        ("group", np.ma.masked_array(LABEL, [0, 1, 0, 0])),
        ("present", {"a": np.ma.masked_array(TRAIN, [0, 1, 0, 0])}),
    ],
)
def test_masked_values_are_refused_and_not_uncovered(field, value):
    with pytest.raises(FeatureFileError, match="array without mask, found one with masked values"):
        made(**{field: value})


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(FeatureFileError, match="modality/a: expected an array"):
        made(features={"a": [[1.0], [1.0, 2.0], [1.0], [1.0]], "b": np.ones((4, 2))})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cafe\u0301 au lait", ["café", "au", "lait"]),
        ("हिन्दी मानक", ["हिन्दी", "मानक"]),
        ("\u0130stanbul, I\u0307stanbul", ["i\u0307stanbul", "i\u0307stanbul"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("a \u0301 ❤\ufe0f b_c it’s", ["a", "b", "c", "it’s"]),
    ],
)
def test_marks_belong_to_their_letters_however_they_were_typed(text, words):
    assert split_words(text) == words
