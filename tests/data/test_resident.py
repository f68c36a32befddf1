"""Batches drawn on the device: the same examples as streamed ones, and nothing a pool hides."""

import dataclasses

import jax
import numpy as np
import pytest

from unirep_jax.data import batches
from unirep_jax.data.resident import Pool, index_batches, resident_arrays, take, wholes


def drawn(pools, seed=3, start=0, steps=12, fused=1):
    return list(index_batches(pools, seed=seed, start_step=start, num_steps=steps, fused=fused))


@pytest.mark.parametrize("fused", [1, 3])
def test_they_are_the_batches_of_the_stream_over_epochs(paired_features, fused):
    present = {m: p.copy() for m, p in paired_features.present.items()}
    present["sensor"][::3] = False
    data = dataclasses.replace(paired_features, present=present)
    pool = Pool(np.flatnonzero(data.train), 24, data.modalities, labelled=True)
    resident = resident_arrays(data, pool)
    streamed = batches(data, batch_size=24, seed=3, start_step=0, num_steps=12, labels=True)
    columns = np.concatenate(drawn(pool, fused=fused), axis=1).T
    for rows, batch in zip(columns, streamed, strict=True):
        np.testing.assert_array_equal(rows, batch.pop("index"))
        jax.tree.map(np.testing.assert_array_equal, take(resident, rows, pool), batch)


def test_a_stream_started_late_continues_an_unbroken_one():
    pools = {"few": Pool(np.arange(5, 9), 3, ("a",)), "many": Pool(np.arange(20, 60), 8, ("a",))}
    whole, late = drawn(pools, steps=12, fused=2), drawn(pools, start=6, steps=6, fused=2)
    jax.tree.map(np.testing.assert_array_equal, whole[3:], late)


def test_every_pool_keeps_to_its_rows_and_has_an_order_of_its_own():
    first, second = Pool(np.arange(40), 8, ("a",)), Pool(np.arange(100, 140), 8, ("a",))
    indices = drawn({"a": first, "b": second}, steps=5)
    a, b = (np.concatenate([i[name] for i in indices]).ravel() for name in ("a", "b"))
    assert sorted(a) == list(range(40)) and sorted(b) == list(range(100, 140))
    assert not np.array_equal(a, b - 100)
    assert not np.array_equal(a, np.concatenate(drawn(first, seed=4, steps=5)).ravel())


def test_a_pool_smaller_than_its_share_repeats_its_rows_evenly():
    (indices,) = drawn(Pool(np.array([7, 8, 9]), 7, ("a",)), steps=1)
    rows, times = np.unique(indices, return_counts=True)
    assert rows.tolist() == [7, 8, 9] and sorted(times) == [2, 2, 3]


def test_rows_that_belong_together_come_in_one_batch():
    rows = np.random.default_rng(0).permutation(40)
    pool = Pool(rows, 8, ("a",), together=4)
    runs = {tuple(run) for run in rows.reshape(-1, 4)}
    epochs = [drawn(pool, start=start, steps=5) for start in (0, 5)]
    for indices in epochs:
        batches = np.concatenate(indices, axis=1).T
        assert {tuple(run) for run in batches.reshape(-1, 4)} == runs, "every run once an epoch"
    assert not np.array_equal(*(np.concatenate(indices) for indices in epochs))


def test_a_pool_shows_only_its_modalities_and_labels_where_it_says_so(paired_features):
    pool = Pool(np.arange(4), 4, ("camera",))
    resident = resident_arrays(paired_features, {"one": pool})
    batch = take(resident, np.arange(4), pool)
    assert batch.keys() == {"features", "present"} and batch["features"].keys() == {"camera"}
    assert resident["features"].keys() == {"camera"}
    assert "label" in take(resident, np.arange(4), pool._replace(labelled=True))


def test_half_precision_stays_and_absent_rows_are_zero(paired_features):
    camera = paired_features.features["camera"].astype(np.float16)
    camera[2] = np.nan
    there = np.arange(len(camera)) != 2
    data = dataclasses.replace(
        paired_features, features={"camera": camera}, present={"camera": there}
    )
    resident = resident_arrays(data, Pool(np.arange(4), 4, ("camera",)))
    kept = resident["features"]["camera"]
    assert kept.dtype == np.float16 and not kept[2].any() and np.isnan(camera[2]).all()


def test_a_numbered_pool_shows_the_numbers_and_every_pool_can_be_had_whole(paired_features):
    pools = {
        "few": Pool(np.array([7, 2, 5]), 2, ("camera",), numbered=True),
        "many": Pool(np.arange(20), 4, ("caption",), labelled=True),
    }
    resident = resident_arrays(paired_features, pools)
    few, many = (wholes(resident, pools)[name] for name in ("few", "many"))
    batch = few.take(few.rows)
    assert batch["index"].tolist() == [7, 2, 5] and "label" not in batch
    np.testing.assert_array_equal(
        batch["features"]["camera"], paired_features.features["camera"][[7, 2, 5]]
    )
    batch = many.take(many.rows[:4])
    np.testing.assert_array_equal(batch["label"], paired_features.label[:4])
    assert "index" not in batch and batch["features"].keys() == {"caption"}
