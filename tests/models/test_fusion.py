"""Fusions against loops, with padding, with modalities that are absent, with grouped queries."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.models.fusion import Add, Concat, CrossAttention, Single, output_width

DIM = 6
POSITIONS = {"audio": 3, "image": 4, "text": 5}
FUSIONS = {
    "single": Single("image"),
    "add": Add(width=5),
    "concat": Concat(),
    "cross": CrossAttention(width=8, heads=4),
    "grouped": CrossAttention(width=8, heads=4, kv_heads=2),
    "residual": CrossAttention(width=DIM, heads=2, residual=True),
    "partial": CrossAttention(width=8, heads=2, pairs=(("text", "image"),)),
}

DIFFERENT = [name for name in FUSIONS if name != "cross"]  # a case of "grouped", to save compiling


def example(rng, modalities=("image", "text"), batch=3):
    tokens = {
        m: jnp.asarray(rng.normal(size=(batch, POSITIONS[m], DIM)), jnp.float32) for m in modalities
    }
    mask = {m: rng.random((batch, POSITIONS[m])) < 0.7 for m in modalities}
    for there in mask.values():
        there[:, 1] = True
    return tokens, mask


def over_batch(fusion):
    """The fusion of every example, [batch, ...] each."""
    return jax.jit(jax.vmap(fusion.apply, (None, 0, 0)))


def start(fusion, *inputs):
    """Outputs of a batch and drawn variables; initialisers would be compiled one by one."""
    rng = np.random.default_rng(2)
    one = jax.tree.map(lambda x: x[0], inputs)
    shapes = jax.eval_shape(fusion.init, jax.random.key(0), *one)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape) / x.shape[0] ** 0.5, x.dtype)
    variables = jax.tree.map(draw, shapes)
    return over_batch(fusion)(variables, *inputs), variables


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


# -- values ----------------------------------------------------------------------------------------


def attend_in_loops(weights, query, key):
    """Mean over the queries of grouped multi-head attention, for one example without padding."""
    groups, share, size = weights["query"].shape[1:]
    total = 0
    for z in query:
        for g in range(groups):
            for r in range(share):
                scores = [
                    (z @ weights["query"][:, g, r]) @ (other @ weights["key"][:, g]) / np.sqrt(size)
                    for other in key
                ]
                attention = np.exp(scores) / np.exp(scores).sum()
                value = sum(
                    a * (other @ weights["value"][:, g])
                    for a, other in zip(attention, key, strict=True)
                )
                total = total + value @ weights["out"][g, r]
    return total / len(query)


@pytest.mark.parametrize("kv_heads", [None, 4, 2, 1])
def test_cross_attention_is_its_equation_in_loops(kv_heads, rng):
    tokens, mask = example(rng)
    fusion = CrossAttention(width=8, heads=4, kv_heads=kv_heads)
    value, variables = start(fusion, tokens, mask)
    weights, tokens = double(variables["params"]), double(tokens)
    assert weights["image_from_text"]["key"].shape == (DIM, kv_heads or 4, 2)
    for b in range(3):
        image, text = (tokens[m][b][mask[m][b]] for m in ("image", "text"))
        expected = [
            attend_in_loops(weights["image_from_text"], image, text),
            attend_in_loops(weights["text_from_image"], text, image),
        ]
        np.testing.assert_allclose(value[b], np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_fresh_weights_keep_the_scale_of_the_tokens(rng):
    tokens = {m: jnp.asarray(rng.normal(size=(40, 1, 64)), jnp.float32) for m in ("image", "text")}
    mask = {m: np.ones((40, 1), bool) for m in tokens}
    fusion = CrossAttention(width=32, heads=4, kv_heads=2)
    init = jax.vmap(fusion.init_with_output, (None, 0, 0))
    value, _ = jax.jit(init)(jax.random.key(0), tokens, mask)
    assert 0.7 < float(jnp.std(value)) < 1.4


def test_grouped_queries_are_multi_head_attention_with_repeated_weights(rng):
    inputs = example(rng)
    grouped = CrossAttention(width=8, heads=4, kv_heads=2)
    value, variables = start(grouped, *inputs)

    def ungroup(weights):
        """Each query head with a copy of the key and value head that it shared."""
        heads = {name: jnp.repeat(weights[name], 2, axis=1) for name in ("key", "value")}
        query, out = weights["query"], weights["out"]
        return heads | {"query": query.reshape(DIM, 4, 1, 2), "out": out.reshape(4, 1, 2, 8)}

    full = {pair: ungroup(weights) for pair, weights in variables["params"].items()}
    expected = over_batch(CrossAttention(width=8, heads=4))({"params": full}, *inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_it_is_the_attention_of_jax(rng):
    tokens, mask = example(rng)
    fusion = CrossAttention(width=8, heads=4, kv_heads=2)
    value, variables = start(fusion, tokens, mask)
    w = variables["params"]["text_from_image"]
    heads = lambda x, kernel: jnp.einsum("bpd,d...h->bp...h", x, kernel)
    query = heads(tokens["text"], w["query"]).reshape(3, POSITIONS["text"], 4, 2)
    received = jax.nn.dot_product_attention(
        query,
        heads(tokens["image"], w["key"]),
        heads(tokens["image"], w["value"]),
        mask=jnp.asarray(mask["image"])[:, None, None],
    ).reshape(3, POSITIONS["text"], 8)
    out = np.asarray(received @ w["out"].reshape(8, 8))
    there = mask["text"][..., None]
    expected = (out * there).sum(1) / there.sum(1)
    np.testing.assert_allclose(value[:, 8:], expected, rtol=1e-4, atol=1e-5)


def test_attention_to_one_key_is_a_linear_map_that_ignores_the_query(rng):
    tokens = {m: jnp.asarray(rng.normal(size=(3, 1, DIM)), jnp.float32) for m in ("image", "text")}
    mask = {m: jnp.ones((3, 1), bool) for m in tokens}
    fusion = CrossAttention(width=8, heads=4, kv_heads=2)
    value, variables = start(fusion, tokens, mask)
    for place, (pair, key) in enumerate(
        (("image_from_text", "text"), ("text_from_image", "image"))
    ):
        w = variables["params"][pair]
        matrix = jnp.einsum("dgh,grhe->de", w["value"], w["out"])
        expected = tokens[key][:, 0] @ matrix
        np.testing.assert_allclose(value[:, 8 * place : 8 * place + 8], expected, atol=1e-5)


def test_residual_adds_the_queries_and_normalises_before_the_mean(rng):
    tokens, mask = example(rng)
    fusion = FUSIONS["residual"]
    value, variables = start(fusion, tokens, mask)
    weights, tokens = double(variables["params"]["text_from_image"]), double(tokens)
    for b in range(3):
        image, text = (tokens[m][b][mask[m][b]] for m in ("image", "text"))
        sums = np.stack([z + attend_in_loops(weights, [z], image) for z in text])
        normal = (sums - sums.mean(1, keepdims=True)) / np.sqrt(sums.var(1, keepdims=True) + 1e-6)
        scaled = normal * weights["LayerNorm_0"]["scale"] + weights["LayerNorm_0"]["bias"]
        np.testing.assert_allclose(value[b, DIM:], scaled.mean(0), rtol=1e-4, atol=1e-5)


def test_single_add_and_concat_are_made_of_mean_tokens(rng):
    tokens, mask = example(rng, tuple(POSITIONS))
    mean = {
        m: np.stack([x[there].mean(0) for x, there in zip(tokens[m], mask[m], strict=True)])
        for m in tokens
    }
    mask["audio"][0] = False  # no audio in the first example
    mean["audio"][0] = 0
    value = over_batch(Single("text"))({}, tokens, mask)
    np.testing.assert_allclose(value, mean["text"], rtol=1e-5, atol=1e-6)

    parts = np.split(np.asarray(over_batch(Concat())({}, tokens, mask)), 3, axis=1)
    for modality, part in zip(sorted(tokens), parts, strict=True):
        np.testing.assert_allclose(part, mean[modality], rtol=1e-5, atol=1e-6)

    value, variables = start(Add(width=5), tokens, mask)
    for b in range(3):
        projected = [
            mean[m][b] @ double(variables["params"][m]["kernel"]) + variables["params"][m]["bias"]
            for m in tokens
            if mask[m][b].any()
        ]
        np.testing.assert_allclose(value[b], np.mean(projected, axis=0), rtol=1e-4, atol=1e-5)


# -- widths and pairs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width"), [("single", 6), ("add", 5), ("concat", 18), ("cross", 48), ("residual", 36)]
)
def test_three_modalities_have_the_announced_width(name, width, rng):
    inputs = example(rng, tuple(POSITIONS))
    value, variables = start(FUSIONS[name], *inputs)
    assert value.shape == (3, width)
    assert output_width(FUSIONS[name], dict.fromkeys(POSITIONS, DIM)) == width
    if name == "cross":
        assert len(variables["params"]) == 6


def test_a_pair_that_is_left_out_keeps_the_mean_of_its_queries(rng):
    inputs = example(rng)
    full = CrossAttention(width=8, heads=2)
    both, variables = start(full, *inputs)
    means = over_batch(Concat())({}, *inputs)
    one = over_batch(full.clone(pairs=(("text", "image"),)))(variables, *inputs)
    np.testing.assert_allclose(one[:, :DIM], means[:, :DIM], rtol=1e-6)
    np.testing.assert_allclose(one[:, DIM:], both[:, 8:], rtol=1e-6)
    np.testing.assert_allclose(over_batch(full.clone(pairs=()))({}, *inputs), means, rtol=1e-6)


def test_what_cannot_be_is_refused_by_name(rng):
    inputs = example(rng)
    with pytest.raises(ValueError, match="'audio'"):
        start(CrossAttention(width=8, heads=2, pairs=(("image", "audio"),)), *inputs)
    with pytest.raises(ValueError, match="two modalities"):
        start(CrossAttention(width=8, heads=2), *example(rng, ("text",)))
    with pytest.raises(ValueError, match="heads=3 must divide width=8"):
        start(CrossAttention(width=8, heads=3), *inputs)
    tokens, mask = inputs
    with pytest.raises(ValueError, match=r"tokens of \['image', 'text'\], masks of \['text'\]"):
        start(Concat(), tokens, {"text": mask["text"]})


# -- padding and absence ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFERENT)
def test_padding_does_not_matter_whatever_it_holds(name, rng):
    tokens, mask = example(rng)
    fusion = FUSIONS[name]
    _, variables = start(fusion, tokens, mask)

    def run(tokens, mask):
        apply = lambda v: over_batch(fusion)(v, tokens, mask)
        return apply(variables), jax.grad(lambda v: jnp.sum(jnp.sin(apply(v))))(variables)

    value, gradient = jax.jit(run)(tokens, mask)
    wider = {
        m: jnp.concatenate([jnp.where(mask[m][..., None], x, jnp.nan), 9 * x], axis=1)
        for m, x in tokens.items()
    }
    longer = {m: np.concatenate([there, ~there & False], axis=1) for m, there in mask.items()}
    value_wider, gradient_wider = jax.jit(run)(wider, longer)
    np.testing.assert_allclose(value_wider, value, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(gradient_wider, gradient, rtol=1e-4, atol=1e-5)


CASES = list(itertools.product(("here", "absent"), repeat=2))


@pytest.mark.parametrize("name", DIFFERENT)
def test_absent_modalities_leave_values_and_all_gradients_finite(name, rng):
    """One example per case of (image, text); an absent modality holds NaN."""
    tokens, mask = example(rng, batch=len(CASES))
    for b, states in enumerate(CASES):
        for modality, state in zip(("image", "text"), states, strict=True):
            if state == "absent":
                mask[modality][b] = False
                tokens[modality] = tokens[modality].at[b].set(jnp.nan)
    fusion = FUSIONS[name]
    _, variables = start(fusion, tokens, mask)

    @jax.jit
    def run(variables, tokens):
        def loss(variables, tokens):
            value = over_batch(fusion)(variables, tokens, mask)
            return jnp.sum(jnp.sin(value)), value

        return jax.grad(loss, (0, 1), has_aux=True)(variables, tokens)

    gradient, value = run(variables, tokens)
    chex.assert_tree_all_finite((gradient, value))
    value = dict(zip(CASES, np.asarray(value), strict=True))
    assert not value["absent", "absent"].any()
    for b, states in enumerate(CASES):
        for modality, state in zip(("image", "text"), states, strict=True):
            assert state == "here" or not gradient[1][modality][b].any()
    assert value["here", "absent"].any()
    assert value["absent", "here"].any() == (name not in ("single", "partial"))


def test_an_absent_query_asks_for_the_mean_and_an_absent_key_gives_zeros(rng):
    tokens, mask = example(rng)
    mask["image"][:] = False
    fusion = CrossAttention(width=8, heads=4)
    value, variables = start(fusion, tokens, mask)
    w = variables["params"]["image_from_text"]
    matrix = jnp.einsum("dgh,grhe->de", w["value"], w["out"])
    mean = over_batch(Single("text"))({}, tokens, mask)
    np.testing.assert_allclose(value[:, :8], mean @ matrix, rtol=1e-5, atol=1e-6)
    assert not value[:, 8:].any()


def test_the_order_of_the_modalities_in_a_dictionary_does_not_matter(rng):
    tokens, mask = jax.tree.map(lambda x: x[0], example(rng))
    _, variables = start(FUSIONS["cross"], *jax.tree.map(lambda x: x[None], (tokens, mask)))
    apply = FUSIONS["cross"].apply  # not jitted: jit would sort the keys
    turned = {m: tokens[m] for m in ("text", "image")}
    np.testing.assert_array_equal(apply(variables, turned, mask), apply(variables, tokens, mask))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mask_leaves_exactly_what_it_says(data):
    booleans = lambda *shape: np.array(
        data.draw(st.lists(st.booleans(), min_size=(n := int(np.prod(shape))), max_size=n))
    ).reshape(shape)
    rng = np.random.default_rng(1)
    tokens, _ = example(rng)
    mask = {m: booleans(3, POSITIONS[m]) for m in tokens}
    value = APPLY(VARIABLES, tokens, mask)
    assert np.isfinite(value).all()
    nothing = ~np.stack([there.any(1) for there in mask.values()]).any(0)
    np.testing.assert_array_equal(~np.asarray(value).any(1), nothing)
    for b in range(3):  # what is masked may as well be left out
        kept = {m: np.asarray(x)[b][mask[m][b]] for m, x in tokens.items()}
        if all(len(x) for x in kept.values()):
            weights = VARIABLES["params"]
            expected = [
                attend_in_loops(double(weights["image_from_text"]), kept["image"], kept["text"]),
                attend_in_loops(double(weights["text_from_image"]), kept["text"], kept["image"]),
            ]
            np.testing.assert_allclose(value[b], np.concatenate(expected), rtol=1e-4, atol=1e-5)


FUSION = CrossAttention(width=8, heads=4, kv_heads=2)
_, VARIABLES = start(FUSION, *example(np.random.default_rng(0)))
APPLY = over_batch(FUSION)


# -- gradients and precision -----------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
def test_gradients_are_those_of_finite_differences(residual, x64, standard_promotion, rng):
    tokens, mask = example(rng, batch=2)
    mask["text"][1] = False
    tokens = jax.tree.map(lambda x: x.astype(jnp.float64), tokens)
    # Flax's normalisation refuses float64 under strict promotion.
    fusion = CrossAttention(width=DIM, heads=2, kv_heads=1, residual=residual)
    _, variables = start(fusion, tokens, mask)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    value = jax.jit(lambda v, t: jnp.sum(jnp.sin(over_batch(fusion)(v, t, mask))))
    check_grads(value, (variables, tokens), order=1, modes=["rev"])


def test_half_precision_tokens_are_fused_in_single(rng):
    tokens, mask = example(rng)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tokens)
    fuse = over_batch(FUSIONS["cross"])
    _, variables = start(FUSIONS["cross"], tokens, mask)
    value = fuse(variables, half, mask)
    assert value.dtype == jnp.float32
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    np.testing.assert_array_equal(value, fuse(variables, rounded, mask))
