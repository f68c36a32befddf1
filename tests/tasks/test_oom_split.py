"""The split is balanced and disjoint, and what training gets has no trace of the pairing."""

import dataclasses

import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.tasks.oom.split import out_of_modal_split, unpaired


def uneven(rng, counts=(30, 20, 9, 3), test=5):
    """A set whose features are the number of the example, so that a pair can be recognised."""
    label = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    label = np.concatenate([rng.permutation(label), np.zeros(test, np.int32)])
    number = np.arange(len(label), dtype=np.float32)[:, None] + 1
    train = np.arange(len(label)) < len(label) - test
    features = {m: number.copy() for m in ("touch", "image", "text")}
    return FeatureSet.from_arrays("uneven", features, label, train)


def test_labelled_examples_are_as_many_of_each_class_as_of_any_other(paired_features):
    split = out_of_modal_split(paired_features, modality="sensor", labelled=0.25)
    assert len(split.labelled) == 16
    np.testing.assert_array_equal(np.bincount(paired_features.label[split.labelled]), 4)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (4 / 62, [1, 1, 1, 1]),
        (6 / 62, {1, 2}),
        (18 / 62, [5, 5, 5, 3]),
        (1.0, [30, 20, 9, 3]),
    ],
)
def test_a_class_that_runs_out_gives_what_it_has(rng, share, expected):
    data = uneven(rng)
    split = out_of_modal_split(data, modality="touch", labelled=share)
    counts = np.bincount(data.label[split.labelled], minlength=4).tolist()
    assert counts == expected if isinstance(expected, list) else {*counts} == expected
    assert sum(counts) == round(share * 62)


def test_parts_are_disjoint_in_training_and_together_all_of_it(rng):
    data = uneven(rng)
    split = out_of_modal_split(data, modality="touch", labelled=0.3, seed=4)
    assert not {*split.labelled} & {*split.unlabelled}
    np.testing.assert_array_equal(split.unlabelled, split.in_modal)
    both = np.sort(np.concatenate([split.labelled, split.unlabelled]))
    np.testing.assert_array_equal(both, np.flatnonzero(data.train))
    assert all(
        not np.array_equal(split.labelled, other.labelled)
        for other in (
            out_of_modal_split(data, modality="touch", labelled=0.3, seed=s) for s in range(3)
        )
    )


def test_pairs_held_out_are_of_every_class_and_in_no_other_part(rng):
    data = uneven(rng, counts=(30, 20, 12, 12))
    whole = out_of_modal_split(data, modality="touch", labelled=40 / 74, seed=2)
    part = out_of_modal_split(data, modality="touch", labelled=40 / 74, seed=2, validation=0.2)
    assert sorted([*part.labelled, *part.validation]) == [*whole.labelled]
    assert np.bincount(data.label[part.validation]).tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(part.unlabelled, whole.unlabelled)
    np.testing.assert_array_equal(part.in_modal, whole.in_modal)
    with pytest.raises(ValueError, match=r"validation=0\.001 of 40 pairs leaves none on one side"):
        out_of_modal_split(data, modality="touch", labelled=40 / 74, validation=0.001)


def test_without_labels_both_sides_are_the_whole_training_part(rng):
    split = out_of_modal_split(uneven(rng), modality="touch", labelled=0)
    assert len(split.labelled) == 0
    assert len(split.unlabelled) == len(split.in_modal) == 62


def test_a_share_of_the_in_modal_data_is_kept_and_nothing_else_changes(rng):
    data = uneven(rng)
    whole = out_of_modal_split(data, modality="touch", labelled=0.2)
    part = out_of_modal_split(data, modality="touch", labelled=0.2, in_modal=0.4)
    np.testing.assert_array_equal(part.labelled, whole.labelled)
    np.testing.assert_array_equal(part.unlabelled, whole.unlabelled)
    assert len(part.in_modal) == round(0.4 * len(whole.in_modal))
    assert {*part.in_modal} < {*whole.in_modal}


def test_what_an_example_lacks_it_does_not_give(rng):
    data = uneven(rng)
    present = {m: np.ones(67, bool) for m in data.modalities}
    present["touch"][:10] = False
    present["image"][8:20] = present["text"][8:20] = False
    label = np.where(np.arange(67) == 30, -1, data.label)
    data = dataclasses.replace(data, present=present, label=label)
    split = out_of_modal_split(data, modality="touch", labelled=1.0)
    assert {*split.labelled} == {*range(20, 62)} - {30}
    assert {*split.unlabelled} == {*range(10, 20), 30}
    assert {*split.in_modal} == {*range(8)}


def test_after_the_exchange_no_unlabelled_example_stands_with_its_own(rng):
    data = uneven(rng)
    split = out_of_modal_split(data, modality="touch", labelled=0.2, seed=1)
    shuffled = unpaired(data, "touch", split.unlabelled, seed=1)
    touch = shuffled.features["touch"]
    np.testing.assert_array_equal(touch[split.labelled], data.features["touch"][split.labelled])
    np.testing.assert_array_equal(touch[~data.train], data.features["touch"][~data.train])
    moved = touch[split.unlabelled, 0] - 1
    assert (moved == split.unlabelled).mean() < 0.1
    np.testing.assert_array_equal(np.sort(moved), split.unlabelled)
    np.testing.assert_array_equal(shuffled.features["image"], data.features["image"])
    kept = np.mean(data.label[moved.astype(int)] == data.label[split.unlabelled])
    assert kept < 0.6, "labels of what stands there do not tell the class"
    assert not np.shares_memory(touch, data.features["touch"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"modality": "smell"}, "modality 'smell' is none of touch, image, text"),
        ({"labelled": 1.5}, "labelled=1.5"),
        ({"in_modal": 0}, "in_modal=0"),
        ({"labelled": 0.03}, r"labelled=0.03: 2 of 62 examples for 4 classes"),
    ],
)
def test_impossible_settings_are_refused_by_name(rng, setting, message):
    with pytest.raises(ValueError, match=message):
        out_of_modal_split(uneven(rng), **{"modality": "touch", "labelled": 0.5} | setting)


def test_a_modality_that_nobody_has_is_refused(rng):
    data = uneven(rng)
    present = data.present | {"touch": ~data.train}
    with pytest.raises(ValueError, match="no training example has the modality 'touch'"):
        out_of_modal_split(
            dataclasses.replace(data, present=present), modality="touch", labelled=0.5
        )
