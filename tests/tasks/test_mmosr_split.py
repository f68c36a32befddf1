"""Known and unknown classes: what is kept, what is renumbered, what is drawn, what is held out."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.data import FeatureSet, load_features, save_features
from unirep_jax.data.mapped import scratch_array, take_rows
from unirep_jax.tasks.mmosr.split import draw_classes, hold_out, osr_split

NAMES = ("ant", "bee", "cow", "dog", "eel")
LABEL = np.array([0, 1, 2, 3, 4, -1, 4, 3, 2, 1, 0, -1, 2, 2])
TRAIN = np.isin(np.arange(14), [0, 1, 2, 3, 4, 5, 8])


def animals(label=LABEL, train=TRAIN, group=None, names=NAMES) -> FeatureSet:
    """Features that hold their own row number, the second modality absent in every third row."""
    rows = np.arange(len(label), dtype=np.float32)
    return FeatureSet.from_arrays(
        "animals",
        {"image": rows[:, None] + np.zeros(3, np.float32), "sound": rows[:, None, None]},
        label,
        train,
        present={"sound": rows % 3 > 0},
        group=group,
        class_names=names,
    )


# -- the split -------------------------------------------------------------------------------------


def test_training_keeps_known_classes_and_the_test_everything_labelled():
    split = osr_split(animals(), known=(3, 0))
    part = split.feature_set
    keep = [
        r
        for r in range(14)
        if (TRAIN[r] and LABEL[r] in (0, 3)) or (not TRAIN[r] and LABEL[r] >= 0)
    ]
    np.testing.assert_array_equal(split.rows, keep)
    expected = [{3: 0, 0: 1}.get(int(LABEL[r]), -1) for r in keep]
    np.testing.assert_array_equal(part.label, expected)
    np.testing.assert_array_equal(part.train, TRAIN[keep])
    assert (part.label[part.train] >= 0).all() and (part.label[~part.train] == -1).any()
    for array in part.features.values():
        np.testing.assert_array_equal(array.reshape(len(keep), -1)[:, 0], keep)
    np.testing.assert_array_equal(part.present["sound"], np.array(keep) % 3 > 0)
    np.testing.assert_array_equal(part.group, keep)
    assert part.class_names == ("dog", "ant") and part.num_classes == 2


def test_a_split_says_which_classes_it_took():
    split = osr_split(animals(), known=[3, 0])
    assert split.known == (3, 0) and split.unknown == (1, 2, 4)
    assert split.known_names == ("dog", "ant") and split.unknown_names == ("bee", "cow", "eel")
    assert split.seed is None
    record = json.loads(json.dumps(split.record()))
    assert record == {
        "dataset": "animals",
        "seed": None,
        "known": [3, 0],
        "unknown": [1, 2, 4],
        "known_names": ["dog", "ant"],
        "unknown_names": ["bee", "cow", "eel"],
    }
    drawn = osr_split(animals(), known=3, seed=4)
    assert drawn.seed == 4 and json.dumps(drawn.record())
    again = osr_split(animals(), known=drawn.known)
    np.testing.assert_array_equal(again.rows, drawn.rows)
    np.testing.assert_array_equal(again.feature_set.label, drawn.feature_set.label)


def test_the_source_stays_as_it_was():
    source = animals()
    part = osr_split(source, known=(0, 1)).feature_set
    part.label[:], part.features["image"][:] = 0, 7
    np.testing.assert_array_equal(source.label, LABEL)
    assert source.features["image"][5, 0] == 5 and source.class_names == NAMES


def test_a_split_is_a_right_feature_set(tmp_path):
    part = osr_split(animals(), known=2, seed=1).feature_set
    save_features(tmp_path / "part.npz", part)
    loaded = load_features(tmp_path / "part.npz")
    np.testing.assert_array_equal(loaded.label, part.label)
    np.testing.assert_array_equal(loaded.train, part.train)


@pytest.mark.parametrize(
    ("change", "known", "message"),
    [
        ({}, 1, "1 known classes of 5"),
        ({}, 5, "5 known classes of 5"),
        ({}, 6, "known=6: cannot draw that many of 5"),
        ({}, (0, 1, 0), "class 0 is given twice"),
        ({}, (0, 5), "class 5 is not within 0 … 4"),
        ({}, (0, -1), "class -1 is not within 0 … 4"),
        ({"train": TRAIN & (LABEL != 2)}, (0, 2), r"known class 2 \(cow\) has no training"),
        ({"train": TRAIN | (LABEL == 4)}, (0, 4), r"known class 4 \(eel\) has no test"),
        ({"train": TRAIN | (LABEL > 1)}, (0, 1), "no test example is of an unknown class"),
    ],
)
def test_an_impossible_split_is_refused_with_the_class(change, known, message):
    with pytest.raises(ValueError, match=message):
        osr_split(animals(**change), known=known)
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        osr_split(animals(), known=2, seed=-1)


# -- drawing classes -------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "count"), [(5, 2), (6, 3), (7, 6), (4, 4), (3, 0), (10, 5)])
def test_the_first_seeds_give_every_choice_once(classes, count):
    choices = math.comb(classes, count)
    drawn = [draw_classes(classes, count, seed) for seed in range(choices)]
    assert sorted(drawn) == sorted(itertools.combinations(range(classes), count))
    assert draw_classes(classes, count, choices) == drawn[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 400), st.data(), st.integers(0, 2**40))
def test_any_draw_is_ascending_and_of_the_right_size(classes, data, seed):
    count = data.draw(st.integers(0, classes))
    drawn = draw_classes(classes, count, seed)
    assert len(drawn) == count and list(drawn) == sorted(set(drawn))
    assert all(0 <= c < classes for c in drawn)


def test_a_draw_is_the_same_on_every_machine():
    assert [draw_classes(27, 3, seed) for seed in range(3)] == [
        (6, 9, 22),
        (14, 18, 23),
        (8, 9, 22),
    ]


def test_consecutive_seeds_share_no_more_classes_than_chance():
    draws = np.zeros((600, 101))
    for seed, row in enumerate(draws):
        row[list(draw_classes(101, 10, seed))] = 1
    expected, deviation = 600 * 10 / 101, math.sqrt(600 * 0.099 * 0.901)
    assert np.abs(draws.sum(0) - expected).max() < 4 * deviation  # every class as often
    shared = (draws[:-1] * draws[1:]).sum(1)
    assert abs(shared.mean() - 100 / 101) < 0.15


# -- held-out known examples -----------------------------------------------------------------------


def crowd(seed=0, count=400, groups=None) -> FeatureSet:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, count)
    label[:12] = np.arange(12) % 3
    train = np.arange(count) < count * 3 // 4
    group = None if groups is None else rng.integers(0, groups, count)
    return animals(label, train, group, NAMES[:3])


@pytest.mark.parametrize("share", [0.1, 0.21, 0.6])
def test_single_examples_are_held_out_in_each_class_s_share(share):
    source = crowd()
    held = hold_out(source, share=share, seed=3)
    assert len(held.label) == source.train.sum()  # no test example
    kept = held.features["image"][:, 0].astype(int)
    np.testing.assert_array_equal(kept, np.flatnonzero(source.train))
    np.testing.assert_array_equal(held.label, source.label[kept])
    for c in range(3):
        of_class = held.label == c
        expected = share * of_class.sum()
        assert abs((~held.train & of_class).sum() - expected) <= 0.5


def test_another_seed_holds_out_other_examples():
    source = crowd()
    first, same, other = (hold_out(source, share=0.3, seed=s).train for s in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert 0.2 < np.mean(first != other) < 0.6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(4, 60), st.floats(0.05, 0.9))
def test_groups_stay_whole_and_every_class_keeps_something_to_fit(seed, groups, share):
    held = hold_out(crowd(seed, 120, groups), share=share, seed=seed)
    assert not set(held.group[held.train]) & set(held.group[~held.train])
    assert set(held.label[held.train]) == {0, 1, 2}
    assert (~held.train).any()
    # Not further from the aim than holding out nothing, but for the one group that there must be.
    total = np.bincount(held.label, minlength=3)
    out = np.bincount(held.label[~held.train], minlength=3)
    assert (
        np.sum((out - share * total) ** 2) <= np.sum((share * total) ** 2) + 1e-9
        or len(set(held.group[~held.train])) == 1
    )


def test_many_groups_come_near_the_share():
    held = hold_out(crowd(2, 2000, 100), share=0.2, seed=0)
    for c in range(3):
        of_class = held.label == c
        assert abs((~held.train & of_class).mean() / of_class.mean() - 0.2) < 0.05


def test_a_group_too_large_for_the_share_is_held_out_all_the_same():
    label, group = np.array([0, 1, 2] * 4), np.repeat([7, 8, 9], [3, 6, 3])
    train = np.arange(12) < 9  # group 7 holds one of each class, group 8 two
    held = hold_out(animals(label, train, group, NAMES[:3]), share=0.1, seed=0)
    assert set(held.group[~held.train]) == {7}


def test_what_cannot_be_held_out_is_refused():
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            hold_out(crowd(), share=share, seed=0)
    with pytest.raises(ValueError, match="training example 5 is unlabelled"):
        hold_out(animals(), share=0.5, seed=0)
    alone = animals(np.array([0, 1, 0, 1]), np.array([True, True, False, False]))
    with pytest.raises(ValueError, match="none of the 2 groups"):
        hold_out(alone, share=0.5, seed=0)


# -- rows of arrays on disk ------------------------------------------------------------------------


def on_disk(tmp_path, array) -> np.ndarray:
    np.save(tmp_path / "array.npy", array)
    return np.load(tmp_path / "array.npy", mmap_mode="r")


@pytest.mark.parametrize("rows", [[0], [2, 3, 4], [0, 2, 5], list(range(6)), [5]])
def test_rows_stay_where_their_array_is(rows, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("unirep_jax.data.mapped._CHUNK_BYTES", 100)  # two rows a piece
    array = rng.normal(size=(6, 2, 3)).astype(np.float32)
    mapped = on_disk(tmp_path, array)
    rows = np.array(rows)
    for source in (array, mapped):
        taken = take_rows(source, rows)
        np.testing.assert_array_equal(taken, array[rows])
        assert isinstance(taken, np.memmap) == (source is mapped)


def test_consecutive_rows_are_a_view_and_others_a_copy(rng):
    array = rng.normal(size=(6, 2))
    assert np.shares_memory(take_rows(array, np.array([1, 2])), array)
    assert not np.shares_memory(take_rows(array, np.array([1, 3])), array)


def test_a_split_of_mapped_features_is_mapped(tmp_path):
    source = animals()
    mapped = on_disk(tmp_path, source.features["image"])
    source = dataclasses.replace(source, features=source.features | {"image": mapped})
    split = osr_split(source, known=(0, 1))
    assert isinstance(split.feature_set.features["image"], np.memmap)
    np.testing.assert_array_equal(split.feature_set.features["image"][:, 1], split.rows)


def test_scratch_arrays_leave_no_file_and_refuse_a_full_disk(tmp_path):
    array = scratch_array((3, 2), np.float16, tmp_path)
    assert not array.any() and array.shape == (3, 2) and array.dtype == np.float16
    array[1] = 5
    assert array.sum() == 10 and not list(tmp_path.iterdir())
    with pytest.raises(OSError):
        scratch_array((1 << 28, 1 << 28), np.float64, tmp_path)
    assert not list(tmp_path.iterdir())
