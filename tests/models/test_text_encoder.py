"""The bidirectional LSTM against Flax's, word attention against loops, padding against absence."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.models.text import BiLSTM, TextEncoder, WordAttention

SMALL = {"vocabulary": 9, "hidden": 4, "embedding": 5}
IDS = np.array([[3, 1, 4, 1, 5], [2, 7, 0, 0, 0], [0, 0, 0, 0, 0], [8, 6, 2, 8, 0]], np.int32)
ALL = jnp.ones(len(IDS), bool)


def over_batch(model, **options):
    """Of every example, [batch, ...] each."""
    return jax.jit(jax.vmap(partial(model.apply, **options), (None, 0, 0)))


@pytest.fixture(scope="module")
def encoder():
    model = TextEncoder(**SMALL)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), IDS[0], ALL[0])
    return variables, over_batch(model, train=False)


def flax_weights(params, direction):
    """One direction's weights in the layout of `flax.linen.OptimizedLSTMCell`."""
    cell = {}
    parts = [np.split(params[k][direction], 4, -1) for k in ("kernel", "recurrent", "bias")]
    for gate, kernel, recurrent, bias in zip("ifgo", *parts, strict=True):
        cell[f"i{gate}"] = {"kernel": kernel}
        cell[f"h{gate}"] = {"kernel": recurrent, "bias": bias}
    return {"params": {"cell": cell}}


def test_it_is_the_lstm_of_flax_run_in_both_directions(rng):
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    lengths = jnp.array([6, 3, 1, 5])
    where = jnp.arange(6)[None] < lengths[:, None]
    model = BiLSTM(4)
    params = jax.eval_shape(model.init, jax.random.key(0), x[0], where[0])["params"]
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    ours = over_batch(model)({"params": params}, x, where)
    assert ours.shape == (4, 6, 8)
    for direction in (0, 1):
        rnn = nn.RNN(nn.OptimizedLSTMCell(4), reverse=bool(direction), keep_order=True)
        theirs = rnn.apply(flax_weights(params, direction), x, seq_lengths=lengths)
        mine = ours[..., 4 * direction : 4 * direction + 4]
        np.testing.assert_allclose(mine[where], theirs[where], rtol=1e-4, atol=1e-5)
    assert not ours[~where].any()


def test_gradients_of_the_lstm_are_those_of_finite_differences(x64, rng):
    x = jnp.asarray(rng.normal(size=(2, 3, 2)))
    where = jnp.array([[True, True, True], [True, False, True]])
    model = BiLSTM(2)
    params = model.init(jax.random.key(0), x[0], where[0])
    value = lambda params, x: jnp.sum(jnp.sin(over_batch(model)(params, x, where)))
    check_grads(value, (params, x), order=1, modes=["rev"])


def test_recurrent_matrices_start_orthogonal():
    params = BiLSTM(4).init(jax.random.key(0), jnp.ones((2, 3)), jnp.ones(2, bool))
    for direction in params["params"]["recurrent"]:
        for matrix in np.split(direction, 4, axis=-1):
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-5)


def test_padding_anywhere_leaves_the_words_as_they_are(encoder):
    variables, encode = encoder
    tokens, mask = encode(variables, IDS, ALL)
    np.testing.assert_array_equal(mask, IDS != 0)
    spread = np.zeros((len(IDS), 9), np.int32)
    places = np.array([0, 2, 3, 6, 8])  # in front, in between and behind
    spread[:, places] = IDS
    tokens_spread, mask_spread = encode(variables, spread, ALL)
    np.testing.assert_array_equal(mask_spread, spread != 0)
    np.testing.assert_allclose(tokens_spread[:, places], tokens, atol=1e-6)
    assert not np.asarray(tokens_spread)[spread == 0].any()


def test_words_depend_on_words_before_and_after_them(encoder):
    variables, encode = encoder
    tokens, _ = encode(variables, IDS, ALL)
    changed = IDS.copy()
    changed[0, 0], changed[3, 3] = 7, 1
    moved = np.abs(encode(variables, changed, ALL)[0] - tokens).max(-1)
    assert (moved[0] > 1e-4).all() and (moved[3, :4] > 1e-5).all()
    assert moved[1:3].max() < 1e-6


def test_a_text_without_words_is_zero_with_finite_gradients(encoder):
    variables, encode = encoder
    attention = WordAttention()
    head = attention.init(jax.random.key(1), jnp.ones((2, 8)), jnp.ones(2, bool))

    def pooled(variables, head):
        tokens, mask = encode(variables, IDS, ALL)
        return over_batch(attention)(head, tokens, mask)

    value = pooled(variables, head)
    assert not value[2].any() and (jnp.abs(value).max(1) > 0).tolist() == [True, True, False, True]
    gradients = jax.grad(lambda *a: jnp.sum(jnp.sin(pooled(*a))), (0, 1))(variables, head)
    chex.assert_tree_all_finite(gradients)
    rows = np.asarray(gradients[0]["params"]["Embed_0"]["embedding"])
    assert not rows[0].any()  # the padding's vector takes no part
    assert rows[1:].any(1).all()


def test_an_absent_text_is_one_without_words(encoder):
    variables, encode = encoder
    tokens, mask = encode(variables, IDS, jnp.array([True, False, True, False]))
    expected, _ = encode(variables, IDS, ALL)
    assert not tokens[1::2].any() and not mask[1::2].any()
    np.testing.assert_allclose(tokens[::2], expected[::2], atol=1e-6)


def test_word_attention_is_its_equation(rng):
    states = rng.normal(size=(3, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], bool)
    model = WordAttention()
    variables = model.init(jax.random.key(0), states[0], mask[0])
    w = np.asarray(variables["params"]["Dense_0"]["kernel"], np.float64)[:, 0]
    pooled = over_batch(model)(variables, states, mask)
    for example, there, value in zip(states, mask, pooled, strict=True):
        words = example[there].astype(np.float64)
        weight = np.exp([w @ np.tanh(h) for h in words])
        expected = np.tanh(sum(a * h for a, h in zip(weight / weight.sum(), words, strict=True)))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
