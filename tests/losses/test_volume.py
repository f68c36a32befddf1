"""Volumes against float64 QR, cofactors and loops; their collapse; InfoNCE on them."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.losses.volume import gram_volume, volume_info_nce, volume_matrix

BATCH, DIM = 9, 7


@jax.jit
def volume_and_gradient(vectors):
    def total(vectors):
        volume = gram_volume(vectors)
        return volume.sum(), volume

    gradient, volume = jax.grad(total, has_aux=True)(vectors)
    return volume, gradient


def unit_vectors(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def facet_normals(group):
    """Gradient by its geometry, in float64: the facet opposite to a vector, along its normal."""
    group = np.asarray(group, np.float64)
    gradient = np.zeros_like(group)
    for m in range(len(group)):
        others = np.delete(group, m, 0)
        differences = np.vstack([others[1:] - others[0], others[:1]])
        basis, triangle = np.linalg.qr(differences.T)
        normal = group[m] - others[0]
        for _ in range(2):
            normal = normal - basis @ (basis.T @ normal)
        gradient[m] = abs(np.prod(np.diag(triangle))) * normal / np.linalg.norm(normal)
    return gradient


def determinant_volume(group):
    group = np.asarray(group, np.float64)
    return np.sqrt(max(np.linalg.det(group @ group.T), 0))


# --- one group -----------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", [2, 3, 4])
def test_volume_keeps_six_digits_from_independence_down_to_collapse(oracle, modality):
    reference = oracle(f"gram_volume_k{modality}")
    assert reference["noise"].min() <= 1e-4  # where float32 determinants have no digit left
    np.testing.assert_allclose(
        gram_volume(reference["vectors"]), reference["volume"], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("modality", [2, 3, 4])
def test_gradient_keeps_six_digits_from_independence_down_to_collapse(oracle, modality):
    vectors = oracle(f"gram_volume_k{modality}")["vectors"][::4]
    gradient = np.asarray(volume_and_gradient(vectors)[1])
    for group, ours in zip(vectors, gradient, strict=True):
        exact = facet_normals(group)
        assert np.linalg.norm(ours - exact) <= 2e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_two_that_agree_beside_a_third_that_does_not_keep_their_digits(rng, noise, order):
    first, other = rng.normal(size=(2, 50, 64))
    near = first + noise * rng.normal(size=first.shape)
    for sign in (1, -1):
        vectors = np.stack([first, sign * near, other], axis=1).astype(np.float32)[:, order]
        exact = []
        for group in vectors[:, np.argsort(order)].astype(np.float64):
            sides = np.stack([group[0], group[1] - sign * group[0], group[2]], axis=1)
            exact.append(abs(np.prod(np.diag(np.linalg.qr(sides)[1]))))
        np.testing.assert_allclose(gram_volume(vectors), exact, rtol=2e-6)


def test_volume_of_any_number_of_vectors_and_lengths_is_the_root_of_the_determinant(rng):
    for modality in (1, 2, 5):
        vectors = (rng.normal(size=(3, 2, modality, 8)) * 3).astype(np.float32)
        expected = [[determinant_volume(group) for group in row] for row in vectors]
        np.testing.assert_allclose(gram_volume(vectors), expected, rtol=1e-5)


def test_collapse_gives_zero_volume_and_a_finite_gradient_of_at_most_the_facet(rng):
    a, b = unit_vectors(rng, 2, DIM)
    zero = np.zeros(DIM, np.float32)
    for group in (
        [a, a],
        [a, -a],
        [a, a, a],
        [a, b, a],
        [a, b, -b],
        [a, b, (a + b) / 2],
        [a, zero, b],
        [zero, zero],
        [a, a, b, b],
    ):
        group = np.stack(group)
        volume, gradient = volume_and_gradient(group)
        assert volume == 0
        assert np.isfinite(gradient).all()
        assert np.linalg.norm(gradient, axis=-1).max() <= 1 + 1e-5


def test_vectors_that_coincide_after_a_normalisation_fused_with_the_kernel_have_no_volume(rng):
    vectors = np.repeat(rng.normal(size=(20, 1, DIM)).astype(np.float32), 3, axis=1)

    def total(vectors):
        return gram_volume(vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)).sum()

    volume, gradient = jax.jit(jax.value_and_grad(total))(vectors)
    assert volume == 0
    np.testing.assert_array_equal(gradient, 0)


def test_more_vectors_than_dimensions_span_no_volume(rng):
    assert gram_volume(unit_vectors(rng, 4, 3)) == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    exponents=st.lists(st.integers(-8, 1), min_size=4, max_size=4),
    copied=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4),
)
def test_volume_and_gradient_are_finite_and_bounded_at_any_distance_from_collapse(
    seed, exponents, copied, signs
):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(4, DIM))[copied]
    vectors = base + 10.0 ** np.array(exponents)[:, None] * rng.normal(size=base.shape)
    vectors *= np.array(signs)[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32)
    volume, gradient = volume_and_gradient(vectors)
    assert 0 <= volume <= 1 + 1e-5
    np.testing.assert_allclose(volume, determinant_volume(vectors), atol=2e-6)
    assert np.linalg.norm(gradient, axis=-1).max() <= 1 + 1e-4


def test_volume_is_the_same_for_any_order_sign_and_rotation(rng):
    vectors = unit_vectors(rng, 5, 3, DIM)
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].astype(np.float32)
    expected = gram_volume(vectors)
    for same in (vectors[:, [2, 0, 1]], vectors * np.float32([[1], [-1], [1]]), vectors @ rotation):
        np.testing.assert_allclose(gram_volume(same), expected, rtol=2e-6)


def test_volume_has_the_derivatives_of_finite_differences(x64, rng):
    check_grads(gram_volume, (rng.normal(size=(3, 5)),), order=2, modes=["rev"])


def test_volume_reads_half_precision_and_answers_in_float32(rng):
    vectors = jnp.asarray(unit_vectors(rng, 5, 3, DIM), jnp.bfloat16)
    assert gram_volume(vectors).dtype == jnp.float32
    np.testing.assert_array_equal(gram_volume(vectors), gram_volume(vectors.astype(jnp.float32)))


# --- every anchor with every group ---------------------------------------------------------------


def loop_matrix(anchors, *others):
    return np.array(
        [[determinant_volume([a, *group]) for group in zip(*others, strict=True)] for a in anchors]
    )


@pytest.mark.parametrize("block_size", [None, 5])
def test_matrix_agrees_with_the_reference_file(oracle, block_size):
    reference = oracle("volume_matrix_k3")
    vectors = (reference[name] for name in ("anchors", "others_1", "others_2"))
    ours = volume_matrix(*vectors, block_size=block_size)
    np.testing.assert_allclose(ours, reference["matrix"], atol=1e-6)


@pytest.mark.parametrize("modality", [2, 3, 4])
def test_matrix_of_other_numbers_of_anchors_and_groups_is_the_loop(rng, modality):
    anchors, *others = unit_vectors(rng, 1, 5, DIM), *(2 * unit_vectors(rng, modality - 1, 3, DIM))
    np.testing.assert_allclose(
        volume_matrix(anchors[0], *others), loop_matrix(anchors[0], *others), atol=1e-5
    )


def test_height_is_the_volume_over_the_base_and_no_group_is_near_to_all(rng):
    anchors, first, second = unit_vectors(rng, 3, BATCH, DIM)
    second[0] = first[0] + 1e-3 * second[0]  # a group that agrees with itself alone
    base = gram_volume(np.stack([first, second], axis=1))
    volume = volume_matrix(anchors, first, second)
    height = volume_matrix(anchors, first, second, height=True)
    np.testing.assert_allclose(height * base[None, :], volume, atol=1e-6)
    assert (volume.argmin(1) == 0).all() and not (height.argmin(1) == 0).all()


@pytest.mark.parametrize("block_size", [None, 2])
def test_matrix_has_the_derivatives_of_finite_differences(x64, rng, block_size):
    vectors = rng.normal(size=(3, 4, 5))
    check_grads(
        jax.jit(partial(volume_matrix, block_size=block_size)), vectors, order=1, modes=["rev"]
    )


def test_matrix_at_collapse_is_zero_within_its_resolution_with_a_bounded_gradient(rng):
    anchors, other = unit_vectors(rng, 2, BATCH, DIM)
    for groups in ((anchors,), (anchors, other), (other, other), (anchors, -anchors)):
        diagonal = np.diagonal(volume_matrix(anchors, *groups))
        np.testing.assert_allclose(diagonal, 0, atol=1e-3)
        gradient = jax.grad(lambda a, *g: jnp.trace(volume_matrix(a, *g)))(anchors, *groups)
        assert np.linalg.norm(gradient, axis=-1).max() <= 1.01


def test_groups_need_a_second_modality(rng):
    with pytest.raises(ValueError, match="at least one modality"):
        volume_matrix(unit_vectors(rng, 3, DIM))


# --- InfoNCE -------------------------------------------------------------------------------------


def loop_info_nce(vectors, temperature, where=None, smoothing=0.0, negatives_only=False):
    """Both directions in float64 from the matrix of determinants."""
    kept = np.arange(len(vectors[0])) if where is None else np.flatnonzero(where)
    logits = -loop_matrix(*vectors) / temperature
    result = np.zeros((2, len(logits)))
    for direction, matrix in enumerate((logits, logits.T)):
        for i in kept:
            denominator = kept[kept != i] if negatives_only else kept
            if len(kept) > 1:
                result[direction, i] = np.log(np.exp(matrix[i, denominator]).sum())
                result[direction, i] -= (1 - smoothing) * matrix[i, i]
                result[direction, i] -= smoothing * matrix[i, kept].mean()
    return result


@partial(jax.jit, static_argnames=("block_size", "negatives_only"))
def both_and_gradient(vectors, temperature, **settings):
    def total(vectors, temperature):
        both = volume_info_nce(*vectors, temperature=temperature, **settings)
        return both.anchor_to_group.sum() + 2 * both.group_to_anchor.sum(), jnp.stack(both)

    gradient, both = jax.grad(total, (0, 1), has_aux=True)(vectors, temperature)
    return both, gradient


@pytest.mark.parametrize("block_size", [None, 5])
def test_both_directions_agree_with_the_reference_file(oracle, block_size):
    reference = oracle("volume_matrix_k3")
    vectors = [reference[name] for name in ("anchors", "others_1", "others_2")]
    both, _ = both_and_gradient(vectors, float(reference["temperature"]), block_size=block_size)
    expected = [reference["anchor_to_group_loss"], reference["group_to_anchor_loss"]]
    np.testing.assert_allclose(both, expected, rtol=1e-5)


@pytest.mark.parametrize("negatives_only", [False, True])
@pytest.mark.parametrize("block_size", [None, 4])
def test_masks_smoothing_and_negatives_are_those_of_the_loop(rng, block_size, negatives_only):
    vectors = list(unit_vectors(rng, 3, BATCH, DIM))
    where = np.arange(BATCH) % 4 > 0
    holes = [np.where(where[:, None], v, np.nan).astype(np.float32) for v in vectors]
    both, gradient = both_and_gradient(
        holes,
        0.1,
        label_smoothing=0.2,
        where=where,
        block_size=block_size,
        negatives_only=negatives_only,
    )
    expected = loop_info_nce(vectors, 0.1, where, 0.2, negatives_only)
    np.testing.assert_allclose(both, expected, rtol=2e-5, atol=2e-5)
    for leaf in gradient[0]:
        assert np.isfinite(leaf).all() and not np.asarray(leaf)[~where].any()


def test_blocks_have_the_value_and_gradient_of_the_dense_form(rng):
    vectors = list(unit_vectors(rng, 3, BATCH, DIM))
    dense, blocked = (both_and_gradient(vectors, 0.1, block_size=size) for size in (None, 4))
    for ours, theirs in zip(jax.tree.leaves(blocked), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * abs(theirs).max())


def test_info_nce_has_the_gradient_of_finite_differences_temperature_and_smoothing_too(x64, rng):
    def loss(vectors, temperature, smoothing):
        both = volume_info_nce(
            *vectors, temperature=temperature, label_smoothing=smoothing, block_size=2
        )
        return jnp.stack(both)

    inputs = list(rng.normal(size=(3, 4, 5))), np.float64(0.5), np.float64(0.1)
    check_grads(jax.jit(loss), inputs, order=1, modes=["rev"])


@pytest.mark.parametrize("block_size", [None, 4])
def test_positives_at_collapse_have_a_finite_gradient_and_their_digits(rng, block_size):
    anchors = unit_vectors(rng, BATCH, DIM)
    for noise in (0, 1e-5):
        other = (anchors + noise * unit_vectors(rng, BATCH, DIM)).astype(np.float32)
        both, gradient = both_and_gradient([anchors, other], 0.5, block_size=block_size)
        exact = loop_info_nce([anchors, other], 0.5)
        np.testing.assert_allclose(both, exact, rtol=2e-6)
        if noise > 0:
            with jax.enable_x64(True):
                wide = [v.astype(np.float64) for v in (anchors, other)]
                _, expected = both_and_gradient(wide, 0.5)
            for ours, theirs in zip(gradient[0], expected[0], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_one_example_alone_and_none_at_all_give_zero(rng):
    vectors = list(unit_vectors(rng, 3, BATCH, DIM))
    for kept in ([2], []):
        where = np.isin(np.arange(BATCH), kept)
        for negatives_only in (False, True):
            both, gradient = both_and_gradient(
                vectors, 0.1, where=where, negatives_only=negatives_only
            )
            for leaf in (both, *jax.tree.leaves(gradient)):
                np.testing.assert_array_equal(leaf, 0)


def test_info_nce_in_blocks_needs_memory_linear_in_the_batch():
    batch, block_size = 2048, 64
    shape = jax.ShapeDtypeStruct((batch, 4), jnp.float32)

    def bytes_of(block_size):
        def total(*vectors):
            both = volume_info_nce(*vectors, temperature=0.1, block_size=block_size)
            return both.anchor_to_group.sum()

        compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of(block_size) < 4 * batch**2 / 2 < bytes_of(None)


def test_the_height_over_a_group_of_equal_vectors_is_the_sine_to_their_line():
    eye = jnp.eye(3, dtype=jnp.float32)
    anchors = jnp.stack([eye[0], eye[2], (eye[0] + eye[2]) / 2**0.5])
    heights = volume_matrix(anchors, eye[2:], eye[2:], height=True)
    np.testing.assert_allclose(heights[:, 0], [1, 0, np.sqrt(0.5)], atol=1e-6)


@pytest.mark.parametrize("block_size", [None, 4])
def test_examples_are_compared_within_their_composition_alone(rng, block_size):
    """As if the examples of each composition were a batch of their own, in float64."""
    anchors, first, second = unit_vectors(rng, 3, BATCH, DIM)
    composition = np.array([0, 2, 0, 2, 2, 1, 0, 2, 0], np.int32)
    where = np.arange(BATCH) != 3
    settings = {"temperature": 0.4, "label_smoothing": 0.2}
    found = volume_info_nce(
        anchors,
        first,
        second,
        composition=composition,
        where=where,
        block_size=block_size,
        **settings,
    )
    for kind in range(3):
        rows = np.flatnonzero((composition == kind) & where)
        volume = np.array(
            [[determinant_volume([anchors[i], first[j], second[j]]) for j in rows] for i in rows]
        )
        for name, logits in (
            ("anchor_to_group", -volume / 0.4),
            ("group_to_anchor", -volume.T / 0.4),
        ):
            log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            expected = -0.8 * np.diag(log_share) - 0.2 * log_share.mean(1)
            np.testing.assert_allclose(getattr(found, name)[rows], expected, rtol=1e-4, atol=1e-6)
    assert found.anchor_to_group[5] == 0, "alone of its composition"
    assert found.anchor_to_group[3] == 0


def test_one_composition_is_none_at_all(rng):
    vectors = unit_vectors(rng, 3, BATCH, DIM)
    loss = lambda *v, **k: jnp.stack(volume_info_nce(*v, temperature=0.3, **k)).sum()
    same = {"composition": np.full(BATCH, 6, np.int32)}
    np.testing.assert_allclose(loss(*vectors), loss(*vectors, **same), rtol=1e-6)
    gradients = [jax.grad(loss)(*vectors, **more) for more in ({}, same)]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=3e-6)  # programs round in their own way


def test_the_loss_within_compositions_has_the_gradient_of_finite_differences(rng, x64):
    vectors = [jnp.asarray(v, jnp.float64) for v in unit_vectors(rng, 3, BATCH, DIM)]
    composition = np.arange(BATCH, dtype=np.int32) % 2
    loss = lambda *v: jnp.stack(volume_info_nce(*v, temperature=0.3, composition=composition))
    check_grads(loss, vectors, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)
