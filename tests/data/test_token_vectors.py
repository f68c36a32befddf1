"""Which vectors of a text are kept."""

import numpy as np
import pytest

from unirep_jax.data.token_vectors import kept_tokens, read_token_list


def test_tokens_outside_the_list_leave_and_those_after_them_move_up(tmp_path):
    vectors = np.arange(12.0).reshape(6, 2)
    (tmp_path / "ids.txt").write_text("7\n9\n\n11\n")
    kept = read_token_list(tmp_path / "ids.txt")
    made = kept_tokens(vectors, [7, 8, 9, 10, 11, 7], kept, count=3)
    np.testing.assert_array_equal(made, vectors[[0, 2, 4]])
    assert made.dtype == np.float32
    np.testing.assert_array_equal(
        kept_tokens(vectors, [8, 8, 8, 8, 8, 9], kept, count=2), [vectors[5], [0, 0]]
    )
    np.testing.assert_array_equal(kept_tokens(vectors, range(6), count=8)[:6], vectors)
    assert kept_tokens(vectors[:0], [], kept).shape == (10, 2)


def test_wrong_lists_and_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="6 vectors of 2 tokens"):
        kept_tokens(np.zeros((6, 2)), [1, 2])
    (tmp_path / "ids.txt").write_text("7\nthe\n")
    with pytest.raises(ValueError, match="'the' is no token id"):
        read_token_list(tmp_path / "ids.txt")
