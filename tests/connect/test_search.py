"""The best items of each query, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.connect import search


def sides(rng, queries=7, items=23, dim=5):
    make = lambda n: rng.normal(size=(n, dim)).astype(np.float32)
    return make(queries), make(items)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.sampled_from([2, 5, 64]), st.sampled_from([3, 10, 64]))
def test_it_is_the_sorted_matrix_of_scores(k, query_block, item_block):
    queries, items = sides(np.random.default_rng(0))
    found = search(queries, items, k=k, query_block=query_block, item_block=item_block)
    scores = queries.astype(np.float64) @ items.T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.index, order)
    np.testing.assert_allclose(
        found.score, np.take_along_axis(scores, order, 1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("item_block", [2, 100])
def test_equal_scores_are_in_the_order_of_the_items(item_block):
    items = np.ones((7, 3), np.float32)
    found = search(items[:1], items, k=5, item_block=item_block)
    assert found.index.tolist() == [[0, 1, 2, 3, 4]]


def test_items_in_a_memory_mapped_file_of_half_precision_are_searched(tmp_path):
    queries, items = sides(np.random.default_rng(1))
    np.save(tmp_path / "items.npy", items.astype(np.float16))
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    found = search(queries, mapped, k=3, item_block=8)
    np.testing.assert_array_equal(found.index, search(queries, np.array(mapped), k=3).index)


@pytest.mark.parametrize("k", [0, 24])
def test_more_matches_than_items_or_none_are_refused(k):
    with pytest.raises(ValueError, match=f"k={k} of 23 items"):
        search(*sides(np.random.default_rng(0)), k=k)


def test_sides_of_different_spaces_are_refused():
    with pytest.raises(ValueError, match=r"\(7, 5\).*\(23, 4\)"):
        search(np.zeros((7, 5)), np.zeros((23, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_refused_by_its_number(value):
    """As an item it would be the best match of every query."""
    queries, items = sides(np.random.default_rng(0))
    broken = items.copy()
    broken[17, 1] = value
    with pytest.raises(ValueError, match=r"items\[17\] is not finite"):
        search(queries, broken, item_block=8)
    with pytest.raises(ValueError, match=r"queries\[17\] is not finite"):
        search(broken, items, query_block=4)


def test_masked_rows_are_refused():
    queries, items = sides(np.random.default_rng(0))
    with pytest.raises(ValueError, match="items is a masked array"):
        search(queries, np.ma.masked_array(items))
    with pytest.raises(ValueError, match="queries is a masked array"):
        search(np.ma.masked_array(queries), items)
