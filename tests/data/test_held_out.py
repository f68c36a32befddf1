"""Held-out training examples: who is in them, and who never is."""

import dataclasses

import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.data.held_out import hold_out, redraw_split


def feature_set(count=60, classes=3, people=0):
    label = np.arange(count) % classes
    return FeatureSet.from_arrays(
        "toy",
        {"a": np.arange(count, dtype=np.float32)[:, None], "b": np.ones((count, 2), np.float32)},
        label,
        np.arange(count) < 48,
        group=np.arange(count) % people if people else None,
    )


def test_test_examples_are_never_in_it():
    held = hold_out(feature_set(), 0.25, 0)
    assert len(held.label) == 48
    assert held.features["a"].max() < 48


def test_every_class_gives_its_share():
    held = hold_out(feature_set(), 0.25, 0)
    assert np.bincount(held.label[~held.train]).tolist() == [4, 4, 4]


def test_a_person_is_on_one_side():
    held = hold_out(feature_set(people=8), 0.25, 0)
    test, train = ({*held.group[part]} for part in (~held.train, held.train))
    assert len(test) == 2 and len(train) == 6 and not test & train


def test_captions_of_one_item_are_on_one_side_however_few():
    data = dataclasses.replace(feature_set(people=30), captions="b")  # two rows each
    held = hold_out(data, 0.25, 0)
    assert not {*held.group[~held.train]} & {*held.group[held.train]}
    assert (~held.train).sum() == 12


def test_pairs_of_rows_are_no_people():
    data = feature_set(people=30)  # two rows each
    held = hold_out(data, 0.25, 0)
    assert np.bincount(held.label[~held.train]).tolist() == [4, 4, 4]


def test_the_seed_draws_them():
    draw = lambda seed: hold_out(feature_set(), 0.25, seed).train.tolist()
    assert draw(0) == draw(0) != draw(1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_out_of_bounds_is_refused(share):
    with pytest.raises(ValueError, match=r"data\.held_out=.* is not within"):
        hold_out(feature_set(), share, 0)


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="leaves none to test"):
        hold_out(feature_set(), 0.01, 0)


def test_a_new_split_has_as_many_test_examples_in_whole_groups():
    data = feature_set(people=20)
    drawn = [redraw_split(data, seed).train for seed in range(4)]
    assert len({part.tobytes() for part in drawn}) == 4
    for part in drawn:
        assert all(len(set(part[data.group == g])) == 1 for g in range(20))
        assert 12 <= (~part).sum() <= 14  # 12 before
    np.testing.assert_array_equal(redraw_split(data, 3).train, drawn[3])


def test_one_group_has_no_other_split():
    with pytest.raises(ValueError, match="redraw=True needs several groups"):
        redraw_split(feature_set(people=1), 0)
