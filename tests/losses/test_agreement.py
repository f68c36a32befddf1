"""Agreement of heads against plain loops, ties, one head; the surest examples under a mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.losses import agreement, most_confident


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_heads_agree_where_all_name_one_class(rng, heads):
    logits = rng.normal(size=(heads, 40, 3))
    found = agreement(jnp.asarray(logits, jnp.float32))
    for i in range(40):
        named = [int(np.argmax(logits[k, i])) for k in range(heads)]
        assert bool(found.agree[i]) == (len({*named}) == 1)
        assert int(found.label[i]) == named[0]
        exp = np.exp(logits[:, i])
        expected = np.mean(exp.max(1) / exp.sum(1))
        np.testing.assert_allclose(found.confidence[i], expected, rtol=1e-5)
    assert found.agree.all() == (heads == 1)


def test_equal_logits_name_the_lowest_class():
    found = agreement(jnp.array([[[1.0, 1.0, 0.0]], [[2.0, 0.0, 2.0]]]))
    assert bool(found.agree[0]) and int(found.label[0]) == 0


def test_half_precision_is_read_and_confidence_is_float32(rng):
    logits = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.bfloat16)
    found = agreement(logits)
    assert found.confidence.dtype == jnp.float32
    np.testing.assert_array_equal(found.confidence, agreement(logits.astype(jnp.float32))[2])


def test_the_highest_scores_that_count_come_first(rng):
    score, where = rng.normal(size=30).astype(np.float32), rng.random(30) < 0.5
    chosen = most_confident(jnp.asarray(score), count=6, where=jnp.asarray(where))
    expected = sorted(np.flatnonzero(where), key=lambda i: -score[i])[:6]
    assert chosen.index.tolist() == expected and chosen.where.all()
    assert most_confident(jnp.asarray(score), count=30).where.all()


def test_where_too_few_count_the_rest_is_masked():
    where = jnp.array([False, True, False, True])
    chosen = most_confident(jnp.array([9.0, 1.0, 8.0, 2.0]), count=3, where=where)
    assert chosen.index[:2].tolist() == [3, 1]
    assert chosen.where.tolist() == [True, True, False]
    assert not most_confident(jnp.zeros(4), count=2, where=jnp.zeros(4, bool)).where.any()


def test_equal_scores_keep_their_order():
    assert most_confident(jnp.zeros(5), count=3).index.tolist() == [0, 1, 2]


def test_other_scores_reuse_the_compiled_program(rng):
    most_confident(jnp.asarray(rng.normal(size=17), jnp.float32), count=2)
    before = most_confident._cache_size()
    most_confident(jnp.asarray(rng.normal(size=17), jnp.float32), count=2)
    assert most_confident._cache_size() == before
    assert jax.eval_shape(lambda s: most_confident(s, count=2), jnp.zeros(17)).index.shape == (2,)
