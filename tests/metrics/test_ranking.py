"""AUROC, AUPR, OSCR and rates: against counting of pairs, scikit-learn, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from unirep_jax import metrics
from unirep_jax.metrics.published import arpl_metrics, cssr_oscr

# Few distinct values: nearly every draw has ties within and between known and unknown.
known_examples = st.lists(st.tuples(st.integers(-3, 4), st.booleans()), min_size=1, max_size=25)
unknown_examples = st.lists(st.integers(-4, 3), min_size=1, max_size=25)


def arrays(known, unknown):
    scores, correct = (np.array(column) for column in zip(*known, strict=True))
    return scores / 4, np.array(unknown) / 4, correct.astype(bool)


def pairs_by_loop(known, unknown, weight):
    total = 0.0
    for k, w in zip(known, weight, strict=True):
        for u in unknown:
            total += w * ((k > u) + 0.5 * (k == u))
    return total / (len(known) * len(unknown))


@settings(deadline=None, max_examples=100)
@given(known_examples, unknown_examples)
def test_areas_equal_counting_pairs(known, unknown):
    known, unknown, correct = arrays(known, unknown)
    expected = pairs_by_loop(known, unknown, np.ones(len(known)))
    np.testing.assert_allclose(metrics.auroc(known, unknown), expected, atol=1e-14)
    expected = pairs_by_loop(known, unknown, correct)
    np.testing.assert_allclose(metrics.oscr(known, unknown, correct), expected, atol=1e-14)


@settings(deadline=None, max_examples=100)
@given(known_examples, unknown_examples)
def test_oscr_lies_between_its_bounds_and_is_the_area_under_its_curve(known, unknown):
    known, unknown, correct = arrays(known, unknown)
    area, auroc = metrics.oscr(known, unknown, correct), metrics.auroc(known, unknown)
    assert auroc - (1 - correct.mean()) - 1e-14 <= area <= min(auroc, correct.mean()) + 1e-14
    curve = metrics.oscr_curve(known, unknown, correct)
    np.testing.assert_allclose(np.trapezoid(curve.ccr, curve.fpr), area, atol=1e-14)
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.ccr) >= 0).all() and (np.diff(curve.fpr) >= 0).all()
    assert (curve.ccr[0], curve.fpr[0]) == (0, 0)
    for threshold, ccr, fpr in zip(*curve, strict=True):
        np.testing.assert_allclose(ccr, np.mean(correct & (known >= threshold)), atol=1e-15)
        np.testing.assert_allclose(fpr, np.mean(unknown >= threshold), atol=1e-15)


def everything(known, unknown, correct):
    values = [
        metrics.auroc(known, unknown),
        metrics.oscr(known, unknown, correct),
        metrics.detection_accuracy(known, unknown),
        metrics.tnr_at_known_tpr(known, unknown),
        metrics.fpr_at_unknown_tpr(known, unknown),
        metrics.ccr_at_fpr(known, unknown, correct, fpr=0.2),
        cssr_oscr(known, unknown, correct),
        *arpl_metrics(known, unknown, correct),
    ]
    for positive in ("known", "unknown"):
        for convention in ("step", "trapezoid", "arpl"):
            area = metrics.aupr(known, unknown, positive=positive, convention=convention)
            values.append(area)
    return values


@settings(deadline=None, max_examples=60)
@given(known_examples, unknown_examples, st.integers(0, 2**31))
def test_metrics_depend_on_the_order_of_scores_and_not_on_that_of_examples(known, unknown, seed):
    known, unknown, correct = arrays(known, unknown)
    expected = everything(known, unknown, correct)
    assert all(type(value) is float and 0 <= value <= 1 + 1e-15 for value in expected)
    increased = everything(np.exp(known), np.exp(unknown), correct)
    np.testing.assert_allclose(increased, expected, atol=1e-14)
    order = np.random.default_rng(seed).permutation(len(known))
    shuffled = everything(known[order], unknown[::-1], correct[order])
    np.testing.assert_allclose(shuffled, expected, atol=1e-14)


@settings(deadline=None, max_examples=40)
@given(known_examples, unknown_examples)
def test_swapping_roles_and_sign_swaps_the_positive_class(known, unknown):
    known, unknown, _ = arrays(known, unknown)
    np.testing.assert_allclose(
        metrics.auroc(-unknown, -known), metrics.auroc(known, unknown), atol=1e-14
    )
    for convention in ("step", "trapezoid", "arpl"):
        found = metrics.aupr(-unknown, -known, positive="known", convention=convention)
        expected = metrics.aupr(known, unknown, positive="unknown", convention=convention)
        np.testing.assert_allclose(found, expected, atol=1e-14)
    swapped = 1 - metrics.tnr_at_known_tpr(-unknown, -known, tpr=0.8)
    found = metrics.fpr_at_unknown_tpr(known, unknown, tpr=0.8)
    np.testing.assert_allclose(found, swapped, atol=1e-14)


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_areas_equal_scikit_learn_on_large_tied_samples(rng, decimals):
    known = np.round(rng.beta(4, 2, 3000), decimals)
    unknown = np.round(rng.beta(2, 3, 2000), decimals)
    known[:900], unknown[:200] = 1.0, 1.0  # saturated softmax values
    truth, scores = np.repeat([1, 0], [3000, 2000]), np.concatenate([known, unknown])
    np.testing.assert_allclose(
        metrics.auroc(known, unknown), roc_auc_score(truth, scores), rtol=1e-12
    )
    for positive, (labels, values) in {
        "known": (truth, scores),
        "unknown": (1 - truth, -scores),
    }.items():
        step = metrics.aupr(known, unknown, positive=positive)
        np.testing.assert_allclose(step, average_precision_score(labels, values), rtol=1e-12)
        precision, recall, _ = precision_recall_curve(labels, values, drop_intermediate=False)
        trapezoid = metrics.aupr(known, unknown, positive=positive, convention="trapezoid")
        np.testing.assert_allclose(trapezoid, auc(recall, precision), rtol=1e-12)


def test_conventions_agree_without_ties_and_part_with_them(rng):
    known, unknown = rng.normal(1, 1, 3000), rng.normal(0, 1, 3000)
    areas = [metrics.aupr(known, unknown, convention=c) for c in ("step", "trapezoid", "arpl")]
    assert np.ptp(areas) < 1e-3
    known, unknown = np.minimum(known, 1.5), np.minimum(unknown, 1.5)
    step, trapezoid, arpl = (
        metrics.aupr(known, unknown, convention=c) for c in ("step", "trapezoid", "arpl")
    )
    assert arpl < step - 0.01 < trapezoid - 0.02


def test_oscr_gives_wrong_examples_nothing_however_large_the_scores():
    # Moving wrong examples by a small constant, as is common, does nothing at this magnitude.
    known, unknown = np.full(4, 1e6, np.float32), np.full(3, 1e6, np.float32)
    assert metrics.oscr(known, unknown, np.array([True, False, False, False])) == 0.125


@settings(deadline=None, max_examples=60)
@given(known_examples, unknown_examples, st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0]))
def test_ccr_at_fpr_is_the_best_reachable_point(known, unknown, fpr):
    known, unknown, correct = arrays(known, unknown)
    reachable = [0.0]
    for threshold in np.concatenate([known, unknown]):
        if np.mean(unknown >= threshold) <= fpr:
            reachable.append(np.mean(correct & (known >= threshold)))
    found = metrics.ccr_at_fpr(known, unknown, correct, fpr=fpr)
    np.testing.assert_allclose(found, max(reachable), atol=1e-15)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=60), st.sampled_from([0.05, 0.5, 0.95, 1]))
def test_fitted_threshold_is_the_largest_score_that_accepts_enough(scores, tpr):
    scores = np.array(scores) / 7
    threshold = metrics.fit_threshold(scores, tpr=tpr)
    assert threshold in scores
    assert np.mean(scores >= threshold) >= tpr
    assert np.mean(scores > threshold) < tpr


def test_fitted_threshold_counts_exactly_where_the_share_is_met_with_equality():
    for n in range(20, 2001, 20):
        assert metrics.fit_threshold(np.arange(n)) == n - 19 * n // 20
    assert metrics.fit_threshold(np.arange(10), tpr=0.3) == 7


def test_detection_accuracy_is_the_best_over_all_thresholds(rng):
    known, unknown = rng.integers(0, 30, 70), rng.integers(-5, 20, 40)
    best = max(0.5 * (np.mean(known >= t) + np.mean(unknown < t)) for t in np.arange(-6, 31) + 0.5)
    assert metrics.detection_accuracy(known, unknown) == pytest.approx(best, abs=1e-15)
    assert metrics.detection_accuracy([0.0, 1.0], [2.0]) == 0.5


def test_published_oscr_differs_from_the_exact_one_by_the_stated_bias(rng):
    for _ in range(20):
        known, unknown = rng.normal(0.5, 1, 9), rng.normal(0, 1, 7)
        correct = rng.random(9) < 0.7
        exact = metrics.oscr(known, unknown, correct)
        order = np.argsort(np.concatenate([known, unknown]))
        is_correct = np.concatenate([correct, np.zeros(7, bool)])[order]
        neighbours = np.sum((order >= 9)[:-1] & is_correct[1:])
        arpl = arpl_metrics(known, unknown, correct).oscr
        np.testing.assert_allclose(arpl, exact - neighbours / (2 * 9 * 7), atol=1e-14)
        lowest = (unknown.min() < known.min()) / 7
        bias = lowest * (1 - correct.mean()) / 2
        np.testing.assert_allclose(cssr_oscr(known, unknown, correct), exact + bias, atol=1e-14)


def test_arpl_tnr_is_zero_with_few_known_examples():
    known, unknown = np.arange(9) + 10.0, np.arange(5.0)
    assert arpl_metrics(known, unknown, np.ones(9, bool)).tnr == 0
    assert metrics.tnr_at_known_tpr(known, unknown) == 1


def test_areas_under_jit_equal_the_eager_ones_and_ignore_small_differences_of_dtype(rng):
    known = np.round(rng.normal(1, 1, 300), 1).astype(np.float32)
    unknown = np.round(rng.normal(0, 1, 200), 1).astype(np.float32)
    correct = rng.random(300) < 0.8
    auroc, oscr = jax.jit(metrics.auroc), jax.jit(metrics.oscr)
    np.testing.assert_allclose(auroc(known, unknown), metrics.auroc(known, unknown), rtol=1e-6)
    expected = metrics.oscr(known, unknown, correct)
    np.testing.assert_allclose(oscr(known, unknown, correct), expected, rtol=1e-6)
    only_flags_traced = jax.jit(lambda flags: metrics.oscr(known, unknown, flags))
    np.testing.assert_allclose(only_flags_traced(correct), expected, rtol=1e-6)
    half = jnp.asarray(known, jnp.bfloat16), jnp.asarray(unknown, jnp.bfloat16)
    assert auroc(*half).dtype == jnp.float32
    np.testing.assert_allclose(auroc(*half), metrics.auroc(*half), rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(metrics.auroc)(np.stack([known, -known]), np.stack([unknown, -unknown])),
        [metrics.auroc(known, unknown), 1 - metrics.auroc(known, unknown)],
        rtol=1e-6,
    )


def test_areas_under_jit_do_not_overflow_with_billions_of_pairs():
    scores = jnp.zeros(70_000)
    assert jax.jit(metrics.auroc)(scores, scores) == 0.5


def test_areas_under_jit_are_nan_where_a_score_is_not_finite():
    good, correct = np.array([0.5, 0.7], np.float32), np.array([False, False])
    for bad in (np.array([0.1, np.nan], np.float32), np.array([-np.inf, 0.1], np.float32)):
        assert np.isnan(jax.jit(metrics.auroc)(good, bad))
        assert np.isnan(jax.jit(metrics.auroc)(bad, good))
        assert np.isnan(jax.jit(metrics.oscr)(bad, good, correct))


PAIR_METRICS = [
    metrics.auroc,
    metrics.aupr,
    metrics.detection_accuracy,
    metrics.tnr_at_known_tpr,
    metrics.fpr_at_unknown_tpr,
    lambda known_scores, unknown_scores: metrics.oscr(known_scores, unknown_scores, [True, True]),
    lambda known_scores, unknown_scores: metrics.oscr_curve(
        known_scores, unknown_scores, [True, True]
    ),
]


@pytest.mark.parametrize("metric", PAIR_METRICS)
@pytest.mark.parametrize("culprit", ["known_scores", "unknown_scores"])
def test_missing_or_non_finite_scores_raise_and_name_the_culprit(metric, culprit):
    scores = {"known_scores": [0.1, 0.2], "unknown_scores": [0.3, 0.1]}
    with pytest.raises(ValueError, match=rf"^{culprit}\[1\] is nan"):
        metric(**(scores | {culprit: [0.3, float("nan")]}))
    with pytest.raises(ValueError, match=rf"^{culprit} must be a non-empty vector"):
        metric(**(scores | {culprit: []}))
    with pytest.raises(ValueError, match=rf"^{culprit} must be a non-empty vector"):
        metric(**(scores | {culprit: [[0.1, 0.2]]}))


def test_shapes_are_checked_under_jit_too():
    with pytest.raises(ValueError, match="unknown_scores must be a non-empty vector"):
        jax.jit(metrics.auroc)(jnp.zeros(3), jnp.zeros(0))


@pytest.mark.parametrize("metric", [metrics.oscr, metrics.oscr_curve, arpl_metrics, cssr_oscr])
def test_flags_that_are_no_flags_of_these_examples_raise(metric):
    with pytest.raises(ValueError, match="correct must be a vector of booleans, got int64"):
        metric([0.1, 0.2], [0.3], np.array([3, 1]))
    with pytest.raises(ValueError, match="correct has 3 examples, known_scores has 2"):
        metric([0.1, 0.2], [0.3], np.array([True, True, False]))


def test_options_and_rates_out_of_range_raise():
    with pytest.raises(ValueError, match="positive must be"):
        metrics.aupr([0.1], [0.2], positive="ood")
    with pytest.raises(ValueError, match="convention must be"):
        metrics.aupr([0.1], [0.2], convention="mean")
    for tpr in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="tpr must be in"):
            metrics.fit_threshold([0.1], tpr=tpr)
    with pytest.raises(ValueError, match="fpr must be in"):
        metrics.ccr_at_fpr([0.1], [0.2], [True], fpr=0)


SUBNORMAL = np.float32(2e-40)


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        (np.array([2**24 + 1], np.int32), np.array([2**24], np.int32)),
        (np.array([2**32 - 1], np.uint32), np.array([2**32 - 2], np.uint32)),
        (np.array([-1, -3], np.int8), np.array([-2], np.int8)),
        (np.array([SUBNORMAL, -SUBNORMAL, 0.0]), np.array([0.0, -0.0, 2 * SUBNORMAL])),
        (np.array([-1.0, -2.0, 1.0]), np.array([-1.5, -0.0, 3e38])),
        (np.array([1.0, 2.0, 6e-8], np.float16), np.array([1.5, 0.0], np.float16)),
        (np.array([1.0, 2.0], np.float16), np.array([1.0005], np.float32)),
        (np.array([2, 1], np.int16), np.array([1.5, 1.0], np.float16)),
    ],
)
def test_under_jit_scores_are_compared_exactly(known, unknown):
    known, unknown = (
        x.astype(np.float32) if x.dtype == np.float64 else x for x in (known, unknown)
    )
    assert jax.jit(metrics.auroc)(known, unknown) == pytest.approx(metrics.auroc(known, unknown))
    correct = np.arange(len(known)) % 2 == 0
    assert jax.jit(metrics.oscr)(known, unknown, correct) == pytest.approx(
        metrics.oscr(known, unknown, correct)
    )


def test_under_jit_scores_that_are_not_finite_give_nan():
    for value in (np.nan, np.inf):
        for pair in (([value, 1.0], [0.0]), ([1.0, 0.0], [value])):
            known, unknown = (np.array(x, np.float32) for x in pair)
            assert np.isnan(jax.jit(metrics.auroc)(known, unknown))
