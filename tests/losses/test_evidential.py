"""TMC's kernels: worked examples, Dempster's rule by loops, extreme evidence, absent modalities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import special

from unirep_jax.losses.evidential import combine_opinions, evidential_loss, opinion


def loop_combine(opinions):
    """Dempster's rule on singletons and the whole set, two opinions at a time; each is (b, u)."""
    (belief, unsure), *others = opinions
    for other, other_unsure in others:
        classes = range(len(belief))
        conflict = sum(belief[i] * other[j] for i in classes for j in classes if i != j)
        agreed = [
            belief[c] * other[c] + belief[c] * other_unsure + other[c] * unsure for c in classes
        ]
        belief = np.array(agreed) / (1 - conflict)
        unsure = unsure * other_unsure / (1 - conflict)
    return belief, unsure


def loop_loss(evidence, label, kl_weight):
    alpha = np.asarray(evidence, float) + 1
    loss = special.digamma(alpha.sum()) - special.digamma(alpha[label])
    alpha[label] = 1
    total = alpha.sum()
    kl = special.gammaln(total) - special.gammaln(len(alpha)) - special.gammaln(alpha).sum()
    kl += sum((a - 1) * (special.digamma(a) - special.digamma(total)) for a in alpha)
    return loss + kl_weight * kl


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [([2, 1], [3, 1], [5, 1]), ([4, 1], [1, 4], [4, 4]), ([4, 1], [1, 1], [4, 1])],
)
def test_the_worked_examples_of_two_opinions(left, right, both):
    evidence = jnp.array([left, right], jnp.float32)[:, None] - 1
    np.testing.assert_allclose(combine_opinions(evidence)[0] + 1, both, rtol=1e-6)


def test_the_worked_examples_of_the_loss():
    evidence = jnp.array([[2.0, 0], [2, 0]])
    labels = jnp.array([0, 1])
    expected = [1 / 3, 11 / 6 + np.log(3) - 2 / 3]
    np.testing.assert_allclose(evidential_loss(evidence, labels), expected, rtol=2e-6)
    np.testing.assert_allclose(expected[1], 2.265279, atol=1e-6)
    np.testing.assert_allclose(
        evidential_loss(evidence, labels, kl_weight=0.5)[1], 2.049306, atol=2e-6
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 999))
def test_combination_is_dempsters_rule_folded_over_any_number_of_modalities(
    modality, classes, seed
):
    rng = np.random.default_rng(seed)
    evidence = jnp.asarray(rng.exponential(3, size=(modality, 2, classes)), jnp.float32)
    combined = opinion(combine_opinions(evidence))
    for i in range(2):
        singles = []
        for m in range(modality):
            strength = sum(float(e) + 1 for e in evidence[m, i])
            singles.append(([float(e) / strength for e in evidence[m, i]], classes / strength))
        belief, unsure = loop_combine(singles)
        np.testing.assert_allclose(combined.belief[i], belief, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(combined.uncertainty[i], unsure, rtol=1e-4)
    np.testing.assert_allclose(combined.belief.sum(-1) + combined.uncertainty, 1, rtol=1e-6)


def test_combination_is_commutative_associative_and_neutral_to_no_evidence(rng):
    evidence = jnp.asarray(rng.exponential(3, size=(3, 4, 5)), jnp.float32)
    whole = combine_opinions(evidence)
    np.testing.assert_allclose(combine_opinions(evidence[::-1]), whole, rtol=1e-5)
    pair = combine_opinions(evidence[:2])
    np.testing.assert_allclose(combine_opinions(jnp.stack([pair, evidence[2]])), whole, rtol=1e-5)
    vacuous = jnp.concatenate([evidence, jnp.zeros((2, 4, 5))])
    np.testing.assert_allclose(combine_opinions(vacuous), whole, rtol=1e-5)


def test_an_absent_modality_changes_nothing(rng):
    evidence = jnp.asarray(rng.exponential(3, size=(3, 4, 5)), jnp.float32)
    where = jnp.array([[True, False, True, False], [True, True, False, False], [False] * 4])
    holes = jnp.where(where[..., None], evidence, jnp.nan)
    combined = combine_opinions(holes, where)
    np.testing.assert_allclose(combined[0], combine_opinions(evidence[:2])[0], rtol=1e-6)
    np.testing.assert_allclose(combined[1], evidence[1, 1], rtol=1e-5)
    np.testing.assert_array_equal(combined[3], 0)
    assert np.isfinite(jax.grad(lambda e: combine_opinions(e, where).sum())(holes)).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 6), st.floats(-2, 2), st.integers(0, 999))
def test_the_loss_is_the_loop_for_any_number_of_classes(classes, magnitude, seed):
    rng = np.random.default_rng(seed)
    evidence = jnp.asarray(rng.exponential(10**magnitude, size=(3, classes)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, classes, 3), jnp.int32)
    expected = [loop_loss(e, y, 0.7) for e, y in zip(evidence, labels, strict=True)]
    ours = evidential_loss(evidence, labels, kl_weight=0.7)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)


def test_gradients_are_those_of_finite_differences_on_both_sides_of_the_series(x64, rng):
    evidence = jnp.asarray(rng.exponential([[2.0], [12], [50]], size=(3, 4)))
    labels = jnp.array([0, 3, 1])
    function = lambda e, w: evidential_loss(e, labels, kl_weight=w)
    check_grads(function, (evidence, jnp.float64(0.4)), order=1, modes=["rev"], rtol=1e-6)
    many = jnp.stack([evidence, evidence[::-1]])
    check_grads(combine_opinions, (many,), order=1, modes=["fwd", "rev"], rtol=1e-6)


def test_float64_agrees_with_scipy_to_twelve_digits(x64):
    evidence = jnp.array([[0.3, 14.9, 15.1], [1.0, 40, 900], [0, 0, 2e4]])
    for y in range(3):
        expected = [loop_loss(e, y, 1.0) for e in evidence]
        ours = evidential_loss(evidence, jnp.full(3, y))
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1e3, 1e5, 1e7, 1e12, 1e30])
def test_float32_keeps_its_digits_at_large_evidence(size):
    """KL(Dir(n, 1, 1) ‖ Dir(1, 1, 1)) = log Γ(n+2)/(Γ(3)Γ(n)) + (n−1)(ψ(n)−ψ(n+2)), in logs."""
    n = float(size)  # log n(n+1)/2 − (n−1)(2n+1)/(n(n+1))
    kl = np.log(n) + np.log(n + 1) - np.log(2) - (1 - 1 / n) * (2 * n + 1) / (n + 1)
    expected = special.digamma(n + 2) - special.digamma(1.0) + kl
    evidence, labels = jnp.array([[n - 1, 0, 0]], jnp.float32), jnp.array([1])
    value, gradient = jax.value_and_grad(lambda e: evidential_loss(e, labels).sum())(evidence)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(evidential_loss(evidence, jnp.array([0])), 2 / n, atol=2e-6)


def test_no_evidence_has_no_divergence_and_a_stated_loss():
    for classes in (1, 2, 101):
        labels = jnp.zeros(1, int)
        function = jax.jit(
            jax.value_and_grad(lambda e, w, y=labels: evidential_loss(e, y, kl_weight=w)[0])
        )
        zero = jnp.zeros((1, classes))
        expected = special.digamma(classes) - special.digamma(1)
        np.testing.assert_allclose(function(zero, 0.0)[0], expected, rtol=1e-6, atol=1e-7)
        value, gradient = function(zero, 1.0)
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-7)
        # The divergence is smallest there, so that only −ψ'(1) of the label and ψ'(C) are left.
        slope = np.full(classes, special.polygamma(1, classes))
        slope[0] -= special.polygamma(1, 1)
        np.testing.assert_allclose(gradient[0], slope, rtol=1e-5, atol=2e-6)
    assert evidential_loss(jnp.full((1, 1), 8.0), labels)[0] == 0


def test_removed_examples_give_zero_whatever_they_hold():
    evidence = jnp.array([[1.0, 2], [jnp.nan, jnp.inf]])
    where = jnp.array([True, False])
    function = lambda e: evidential_loss(e, jnp.array([0, -1]), where=where)
    alone = evidential_loss(evidence[:1], jnp.array([0]))
    np.testing.assert_allclose(function(evidence), [alone[0], 0], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda e: function(e).sum())(evidence)).all()


def test_half_precision_is_read_and_a_sweep_over_the_annealing_compiles_once(rng):
    evidence = jnp.asarray(rng.exponential(3, size=(2, 3, 4)), jnp.bfloat16)
    labels = jnp.zeros((2, 3), int)
    before = evidential_loss._cache_size()
    for weight in (0.0, 0.1, 1.0):
        half = evidential_loss(evidence, labels, kl_weight=weight)
    assert evidential_loss._cache_size() == before + 1
    assert half.dtype == combine_opinions(evidence).dtype == jnp.float32
    full = evidence.astype(jnp.float32)
    np.testing.assert_allclose(half, evidential_loss(full, labels), rtol=1e-5)
    np.testing.assert_allclose(combine_opinions(evidence), combine_opinions(full), rtol=1e-5)


def test_a_batch_of_batches_is_mapped_over_and_shapes_that_differ_are_refused(rng):
    evidence = jnp.asarray(rng.exponential(3, size=(2, 3, 4)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, (2, 3)))
    mapped = jax.vmap(lambda e, y: evidential_loss(e, y))(evidence, labels)
    np.testing.assert_allclose(mapped, evidential_loss(evidence, labels), rtol=1e-5)
    combined = jax.vmap(lambda e: combine_opinions(e))(evidence)
    np.testing.assert_allclose(combined[1], combine_opinions(evidence[1]), rtol=1e-5)
    with pytest.raises(Exception, match="labels"):
        evidential_loss(evidence, labels[0])


def test_opinions_of_no_evidence_and_of_half_precision():
    nothing = opinion(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(nothing.belief, 0)
    np.testing.assert_array_equal(nothing.uncertainty, 1)
    half = opinion(jnp.array([3.0, 1, 0], jnp.bfloat16))
    assert half.belief.dtype == half.uncertainty.dtype == jnp.float32
    np.testing.assert_allclose(half.belief, np.array([3, 1, 0]) / 7, rtol=1e-6)
    np.testing.assert_allclose(half.uncertainty, 3 / 7, rtol=1e-6)
