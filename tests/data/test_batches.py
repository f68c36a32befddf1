"""The training stream: what a batch holds, in which order, and that it can be resumed anywhere."""

import functools
import gc
import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.data import FeatureSet, batches, gather, prefetch_to_device
from unirep_jax.data.pipeline import epoch_order


def made(count: int, test: int = 3) -> FeatureSet:
    """`count` training examples scattered among `test` others; features tell the row."""
    row = np.arange(count + test)
    train = np.random.default_rng(0).permutation(count + test) < count
    present = {"video": row % 3 != 0}
    features = {
        "video": np.where(present["video"], row, np.nan)[:, None, None] * np.ones((1, 2, 3)),
        "audio": row[:, None].astype(np.float32) + np.array([[0, 0.5]], np.float32),
        "text": row[:, None].astype(np.float16),
    }
    return FeatureSet.from_arrays("made", features, row % 5, train, present=present)


def indices(feature_set, **changed) -> list[np.ndarray]:
    options = {"batch_size": 4, "seed": 0, "start_step": 0, "num_steps": 6} | changed
    return [batch["index"] for batch in batches(feature_set, **options)]


def assert_batches_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def captioned(train=(3, 1, 5, 2, 4), test=2) -> FeatureSet:
    """Items with so many captions each, rows in no order; two more items for the test."""
    item = np.repeat(np.arange(len(train) + test), [*train, *[2] * test])
    item = np.random.default_rng(1).permutation(item)
    features = {"video": item[:, None] * np.ones((1, 2)), "text": np.arange(len(item))[:, None] / 9}
    return FeatureSet.from_arrays(
        "captioned",
        features,
        np.full(len(item), -1),
        item < len(train),
        group=item,
        captions="text",
    )


def test_captions_of_one_item_are_never_in_one_batch_and_every_caption_has_its_turn():
    data = captioned()
    found = np.array(indices(data, batch_size=5, num_steps=60))
    assert (np.sort(data.group[found], axis=1) == np.arange(5)).all()
    assert {*found.ravel()} == {*np.flatnonzero(data.train)}
    shares = np.bincount(found.ravel())[(data.group == 0) & data.train] / 60
    assert (shares > 0.1).all() and shares.sum() == 1, (
        "three captions of item 0, each about a third"
    )
    assert len({tuple(data.group[row]) for row in found}) > 30, "another order in every epoch"


def test_a_stream_of_captions_continues_where_it_was_left():
    whole = indices(captioned(), batch_size=2, num_steps=9)
    later = indices(captioned(), batch_size=2, start_step=4, num_steps=5)
    np.testing.assert_array_equal(whole[4:], later)


def test_a_batch_is_refused_that_needs_two_captions_of_an_item():
    with pytest.raises(ValueError, match="batch_size 6 is not within 1 … 5 items with captions"):
        indices(captioned(), batch_size=6)


def test_a_batch_holds_features_presence_and_index_and_no_label():
    feature_set = made(9)
    (batch,) = batches(feature_set, batch_size=5, seed=0, start_step=0, num_steps=1)
    assert batch.keys() == {"features", "present", "index"}
    assert tuple(batch["features"]) == tuple(batch["present"]) == ("video", "audio", "text")
    index, present = batch["index"], batch["index"] % 3 != 0
    assert index.dtype == np.int32
    assert feature_set.train[index].all()
    for modality, shape in (("video", (5, 2, 3)), ("audio", (5, 2)), ("text", (5, 1))):
        stored = np.float16 if modality == "text" else np.float32  # widened on the device
        assert batch["features"][modality].dtype == stored
        assert batch["features"][modality].shape == shape
        assert batch["present"][modality].dtype == bool
    np.testing.assert_array_equal(batch["present"]["video"], present)
    assert batch["present"]["audio"].all() and batch["present"]["text"].all()
    np.testing.assert_array_equal(
        batch["features"]["video"], np.where(present, index, 0)[:, None, None] * np.ones((1, 2, 3))
    )
    np.testing.assert_array_equal(batch["features"]["audio"][:, 1], index + 0.5)
    np.testing.assert_array_equal(batch["features"]["text"][:, 0], index)


def test_labels_are_those_of_the_indices_and_change_nothing_else():
    made_set = made(9)
    label = np.array([7, -1, 3, 0, 5, 2, -1, 9, 4, 1, 8, 6], np.int32)
    names = tuple("abcdefghij")
    feature_set = FeatureSet(**vars(made_set) | {"label": label, "class_names": names})
    options = {"batch_size": 4, "seed": 2, "start_step": 1, "num_steps": 3}
    labelled = list(batches(feature_set, labels=True, **options))
    for batch, plain in zip(labelled, batches(feature_set, **options), strict=True):
        found = batch.pop("label")
        assert found.dtype == np.int32 and found.shape == (4,)
        np.testing.assert_array_equal(found, label[batch["index"]])
        assert batch.keys() == plain.keys()
        assert_batches_equal(batch, plain)


def test_processes_share_labels_as_they_share_examples():
    feature_set = made(12)
    options = {"batch_size": 6, "seed": 0, "start_step": 0, "num_steps": 1, "labels": True}
    (whole,) = batches(feature_set, **options)
    parts = [
        next(batches(feature_set, **options, process_index=i, process_count=2)) for i in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate([p["label"] for p in parts]), whole["label"])


def test_labels_do_not_influence_the_stream():
    feature_set = made(9)
    other = FeatureSet(**vars(feature_set) | {"label": feature_set.label[::-1].copy()})
    options = {"batch_size": 4, "seed": 0, "start_step": 0, "num_steps": 4}
    pairs = zip(batches(feature_set, **options), batches(other, **options), strict=True)
    for left, right in pairs:
        assert_batches_equal(left, right)


def test_a_resumed_stream_equals_the_unbroken_one_at_every_step():
    feature_set = made(11)
    unbroken = list(batches(feature_set, batch_size=3, seed=5, start_step=0, num_steps=9))
    assert len(unbroken) == 9
    for start in range(10):
        stream = batches(feature_set, batch_size=3, seed=5, start_step=start, num_steps=9 - start)
        resumed = list(stream)
        assert len(resumed) == 9 - start
        for left, right in zip(resumed, unbroken[start:], strict=True):
            assert_batches_equal(left, right)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_batch_is_the_slice_of_its_epoch_order(data):
    count = data.draw(st.integers(1, 40))
    batch_size = data.draw(st.integers(1, count))
    step = data.draw(st.one_of(st.integers(0, 200), st.integers(0, 2**40)))
    seed = data.draw(st.integers(0, 2**64 - 1))
    feature_set = made(count)
    (index,) = indices(feature_set, batch_size=batch_size, seed=seed, start_step=step, num_steps=1)
    steps = count // batch_size
    order = epoch_order(count, seed, step // steps)
    place = step % steps * batch_size
    expected = np.flatnonzero(feature_set.train)[order[place : place + batch_size]]
    np.testing.assert_array_equal(index, expected)


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (14, 4), (7, 7), (5, 1)])
def test_an_epoch_holds_every_example_once_up_to_the_dropped_tail(count, batch_size):
    feature_set = made(count)
    steps = count // batch_size
    stream = indices(feature_set, batch_size=batch_size, num_steps=3 * steps)
    epochs = [np.concatenate(stream[i * steps : (i + 1) * steps]) for i in range(3)]
    train = set(np.flatnonzero(feature_set.train))
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == steps * batch_size
        assert set(epoch) <= train
        if count % batch_size == 0:
            assert set(epoch) == train
    assert not all((epoch == epochs[0]).all() for epoch in epochs)


def test_the_dropped_tail_differs_from_epoch_to_epoch():
    feature_set = made(7)
    train = set(np.flatnonzero(feature_set.train))
    dropped = [train - set(indices(feature_set, start_step=s, num_steps=1)[0]) for s in range(40)]
    assert set().union(*dropped) == train


def test_different_seeds_give_different_orders_and_the_same_seed_the_same():
    feature_set = made(60)
    orders = {
        np.concatenate(indices(feature_set, batch_size=20, seed=seed, num_steps=3)).tobytes()
        for seed in (0, 1, 2, 256, 65536, 2**32, 2**63)
    }
    assert len(orders) == 7
    again = np.concatenate(indices(feature_set, batch_size=20, seed=2**32, num_steps=3)).tobytes()
    assert again in orders


def test_epoch_orders_are_uniform_and_do_not_repeat():
    orders = np.array([epoch_order(30, 7, epoch) for epoch in range(3000)])
    assert len({order.tobytes() for order in orders}) == 3000
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(30), (3000, 1)))
    for place in (0, 1, 13, 29):
        assert scipy.stats.chisquare(np.bincount(orders[:, place], minlength=30)).pvalue > 1e-4
    apart = (orders[:, 1] - orders[:, 0]) % 30  # neighbours of one epoch
    assert scipy.stats.chisquare(np.bincount(apart, minlength=30)[1:]).pvalue > 1e-4
    apart = (orders[1:, 0] - orders[:-1, 0]) % 30  # the same place of two epochs
    assert scipy.stats.chisquare(np.bincount(apart, minlength=30)).pvalue > 1e-4


def test_the_order_is_fixed_for_all_time():
    """A checkpoint resumed under another NumPy or on another machine must see the same order."""
    np.testing.assert_array_equal(epoch_order(10, 0, 0), [0, 2, 9, 1, 8, 5, 4, 3, 6, 7])
    np.testing.assert_array_equal(epoch_order(10, 2**40 + 3, 17), [0, 3, 9, 2, 1, 5, 7, 6, 4, 8])


def test_processes_share_every_batch_without_overlap():
    feature_set = made(26)
    whole = indices(feature_set, batch_size=12)
    parts = [
        indices(feature_set, batch_size=12, process_index=i, process_count=3) for i in range(3)
    ]
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[step] for part in parts]), batch)


@pytest.mark.parametrize(
    ("changed", "pattern"),
    [
        ({"batch_size": 10}, "batch_size 10 .* 9 training examples"),
        ({"batch_size": 0}, "batch_size 0 .* 9 training examples"),
        ({"process_count": 3}, "batch_size 4 .* of 3"),
        ({"process_index": 2, "process_count": 2}, "process 2 of 2"),
        ({"start_step": -1}, "start_step=-1"),
        ({"num_steps": -1}, "num_steps=-1"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
    ],
)
def test_numbers_that_do_not_fit_raise_at_the_call(changed, pattern):
    options = {"batch_size": 4, "seed": 0, "start_step": 0, "num_steps": 1} | changed
    with pytest.raises(ValueError, match=pattern):
        batches(made(9), **options)


def test_no_steps_give_no_batch():
    assert indices(made(9), num_steps=0) == []


def test_a_stream_may_be_left_unfinished():
    for _ in range(3):
        stream = batches(made(9), batch_size=4, seed=0, start_step=0, num_steps=10**9)
        assert next(stream)["index"].shape == (4,)
        del stream
        gc.collect()


def test_importing_the_data_layer_imports_neither_tensorflow_nor_scikit_learn():
    code = (
        "import sys, unirep_jax.data, unirep_jax.data.digits_avt, unirep_jax.data.utd_mhad\n"
        "assert not {'tensorflow', 'sklearn', 'scipy', 'flax'} & sys.modules.keys(), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_gather_reads_any_storage_as_float32(dtype, layout, rng):
    stored = np.array(rng.standard_normal((8, 3, 5)), dtype, order=layout)
    both = {"video": stored, "audio": np.ones((8, 1))}
    train = np.arange(8) < 4
    present = {"video": np.arange(8) != 2}
    feature_set = FeatureSet.from_arrays("x", both, np.zeros(8, int), train, present=present)
    rows = np.array([7, 2, 2, 0, 7])
    before = stored.copy()
    batch = gather(feature_set, rows)
    expected = stored[rows].astype(np.float32)
    expected[1:3] = 0
    np.testing.assert_array_equal(batch["features"]["video"], expected)
    np.testing.assert_array_equal(batch["index"], rows)
    np.testing.assert_array_equal(batch["present"]["video"], rows != 2)
    np.testing.assert_array_equal(stored, before)  # zeroing absent rows must not reach the source
    assert batch["features"]["video"].dtype == np.float32
    assert batch["features"]["video"].dtype.isnative
    assert batch["features"]["video"].ctypes.data % 64 == 0


def test_gather_of_no_example_keeps_the_shapes():
    batch = gather(made(9), [])
    assert batch["features"]["video"].shape == (0, 2, 3)
    assert batch["present"]["text"].shape == batch["index"].shape == (0,)


def test_gather_refuses_masks_and_rows_outside():
    feature_set = made(9)
    with pytest.raises(TypeError, match="vector of integers, not bool"):
        gather(feature_set, feature_set.train)
    with pytest.raises(TypeError, match="vector of integers, not float64"):
        gather(feature_set, np.array([0.0]))
    with pytest.raises(TypeError, match=r"not int64 \(1, 1\)"):
        gather(feature_set, np.array([[0]]))
    for wrong in (-1, 12):
        with pytest.raises(IndexError, match=f"index {wrong} is outside the 12 examples"):
            gather(feature_set, np.array([0, wrong]))


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_prefetching_keeps_order_and_places_size_batches_ahead(size, count):
    placed = []

    def place(batch):
        placed.append(batch)
        return -batch

    stream = prefetch_to_device(iter(range(count)), place, size)
    assert placed == []  # nothing happens before the first batch is asked for
    for number, batch in enumerate(stream):
        assert batch == -number
        assert len(placed) == min(number + size, count)
    assert placed == list(range(count))


def test_prefetching_does_not_run_ahead_of_an_endless_stream():
    drawn = []
    endless = (drawn.append(i) or i for i in itertools.count())
    stream = prefetch_to_device(endless, lambda batch: batch)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    assert drawn == [0, 1, 2, 3]


def test_prefetching_places_real_batches_on_a_device():
    place = functools.partial(jax.device_put, device=jax.devices()[3])
    stream = batches(made(9), batch_size=4, seed=0, start_step=0, num_steps=3)
    on_device = list(prefetch_to_device(stream, place))
    on_host = list(batches(made(9), batch_size=4, seed=0, start_step=0, num_steps=3))
    for left, right in zip(on_device, on_host, strict=True):
        assert left["features"]["video"].devices() == {jax.devices()[3]}
        assert_batches_equal(left, right)


def test_prefetching_less_than_one_batch_is_refused():
    with pytest.raises(ValueError, match="1 or more, not 0"):
        next(prefetch_to_device(iter([1]), lambda batch: batch, 0))
