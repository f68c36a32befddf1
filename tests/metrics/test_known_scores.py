"""Scores of how known an example is: worked examples, scipy, order, saturation and bad inputs."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from unirep_jax import metrics

LOGIT_SCORES = {
    "max_softmax": (metrics.max_softmax, lambda x: special.softmax(x, axis=1).max(1)),
    "max_logit": (metrics.max_logit, lambda x: x.max(1)),
    "energy": (metrics.energy, lambda x: special.logsumexp(x, axis=1)),
}
EVIDENCE_SCORES = [metrics.max_expected_probability, metrics.evidential_certainty]
of_logits = pytest.mark.parametrize(("score", "reference"), LOGIT_SCORES.values(), ids=LOGIT_SCORES)


@of_logits
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_scores_of_logits_equal_scipy(score, reference, size, rng):
    logits = size * rng.normal(size=(50, 6))
    np.testing.assert_allclose(score(logits), reference(logits), rtol=1e-12)
    assert score(logits).dtype == np.float64


@of_logits
def test_a_larger_lead_of_one_class_is_more_known(score, reference):
    scores = score(np.array([[0.0, 0, 0], [1, 0, 0], [0, 3, 0]]))
    assert scores[0] < scores[1] < scores[2]


def test_adding_a_constant_moves_all_scores_but_the_softmax(rng):
    logits = rng.normal(size=(20, 4))
    np.testing.assert_allclose(metrics.max_softmax(logits + 7), metrics.max_softmax(logits))
    for score in (metrics.max_logit, metrics.energy):
        np.testing.assert_allclose(score(logits + 7), score(logits) + 7, rtol=1e-12)


def test_a_softmax_ranks_where_float32_would_be_saturated():
    logits = np.array([[18.0, 0], [25, 0], [20, 0], [30, 0]], np.float32)
    for score, _ in LOGIT_SCORES.values():
        assert np.argsort(score(logits)).tolist() == [0, 2, 1, 3]
    assert len({float(np.float32(s)) for s in metrics.max_softmax(logits)}) == 1


def test_one_class_and_equal_logits_have_stated_scores():
    np.testing.assert_array_equal(metrics.max_softmax([[-900.0], [4]]), 1)
    np.testing.assert_allclose(metrics.max_softmax(np.full((2, 5), 1e300)), 1 / 5)
    np.testing.assert_allclose(metrics.energy([[2.0], [-3]]), [2, -3], rtol=1e-15)
    np.testing.assert_allclose(metrics.energy(np.zeros((1, 5)), temperature=2.0), 2 * np.log(5))


def test_energy_at_a_temperature_and_in_its_limits(rng):
    logits = rng.normal(size=(10, 3))
    expected = 0.3 * special.logsumexp(logits / 0.3, axis=1)
    np.testing.assert_allclose(metrics.energy(logits, temperature=0.3), expected, rtol=1e-12)
    cold = metrics.energy(logits, temperature=1e-9)
    np.testing.assert_allclose(cold, metrics.max_logit(logits), rtol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
@of_logits
def test_arrays_of_other_types_are_read_exactly(score, reference, dtype):
    logits = jnp.array([[3, -1], [0, 2]], dtype)
    np.testing.assert_array_equal(score(logits), score(np.array([[3.0, -1], [0, 2]])))


@of_logits
@pytest.mark.parametrize(
    ("logits", "culprit"),
    [
        (np.zeros(3), r"logits must be a non-empty matrix, got shape \(3,\)"),
        (np.zeros((0, 3)), "logits must be a non-empty matrix"),
        (np.zeros((3, 0)), "logits must be a non-empty matrix"),
        ([[0.0, 1], [np.nan, 1]], r"logits\[1\] is .*it must be finite"),
        ([[np.inf, 1]], r"logits\[0\] is .*it must be finite"),
    ],
)
def test_bad_logits_raise(score, reference, logits, culprit):
    with pytest.raises(ValueError, match=culprit):
        score(logits)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_a_temperature_that_is_not_positive_raises(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        metrics.energy([[1.0, 2]], temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        metrics.maximum_concept_matching([[1.0]], [[1.0]], temperature=temperature)


def test_scores_feed_the_ranking_metrics_with_known_above_unknown(rng):
    known = np.eye(4)[rng.integers(0, 4, 60)] * 4 + rng.normal(size=(60, 4))
    unknown = rng.normal(size=(60, 4))
    for score, _ in LOGIT_SCORES.values():
        assert metrics.auroc(score(known), score(unknown)) > 0.85
    known, unknown = np.maximum(known, 0), np.maximum(unknown, 0)
    for score in EVIDENCE_SCORES:
        assert metrics.auroc(score(known), score(unknown)) > 0.85


# --- activation shaping -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percentile", "variant", "expected"),
    [
        (50, "p", [0, 0, 3, 4]),
        (50, "b", [0, 0, 5, 5]),
        (50, "s", [0, 0, 12.518203, 16.690937]),
        (65, "p", [0, 0, 0, 4]),
        (65, "b", [0, 0, 0, 10]),
        (65, "s", [0, 0, 0, 48.729977]),
        (90, "p", [0, 0, 0, 4]),  # at least one is kept
        (90, "s", [0, 0, 0, 48.729977]),
        (0, "p", [1, 2, 3, 4]),
    ],
)
def test_the_worked_examples_of_activation_shaping(percentile, variant, expected):
    features = np.array([1.0, 2, 3, 4])
    shaped = metrics.ash(features, percentile=percentile, variant=variant)
    np.testing.assert_allclose(shaped, expected, rtol=2e-7)
    np.testing.assert_array_equal(features, [1, 2, 3, 4])  # the input is left as it was


@pytest.mark.parametrize("variant", ["p", "b", "s"])
def test_activation_shaping_is_the_loop_over_vectors(variant, rng):
    features = rng.exponential(size=(2, 3, 20))
    ours = metrics.ash(features, percentile=70, variant=variant)
    for place in np.ndindex(2, 3):
        vector = features[place]
        kept = sorted(range(20), key=lambda i, v=vector: -v[i])[:6]
        total, mass = sum(vector), sum(vector[i] for i in kept)
        value, factor = {
            "p": (vector, 1),
            "b": (np.ones(20), total / 6),
            "s": (vector, np.exp(total / mass)),
        }[variant]
        expected = [factor * x if i in kept else 0 for i, x in enumerate(value)]
        np.testing.assert_allclose(ours[place], expected, rtol=1e-12)


def test_equal_and_zero_features_have_stated_shapes():
    assert metrics.ash(np.ones(4), percentile=50, variant="p").tolist() == [1, 1, 0, 0]
    for variant in ("p", "b", "s"):
        zero = metrics.ash(np.zeros((2, 4)), percentile=50, variant=variant)
        np.testing.assert_array_equal(zero, 0)
        tiny = metrics.ash(np.full(4, 1e-310), percentile=90, variant=variant)
        assert np.isfinite(tiny).all()
    half = metrics.ash(jnp.array([1, 2, 3, 4], jnp.bfloat16), percentile=50, variant="b")
    np.testing.assert_array_equal(half, [0, 0, 5, 5])


def test_only_pruning_takes_negative_features():
    features = np.array([-5.0, 1, 2])
    np.testing.assert_array_equal(metrics.ash(features, percentile=60, variant="p"), [0, 0, 2])
    for variant in ("b", "s"):
        with pytest.raises(ValueError, match=f'variant "{variant}" needs features from 0, got -5'):
            metrics.ash(features, percentile=60, variant=variant)


@pytest.mark.parametrize(
    ("features", "options", "culprit"),
    [
        (1.0, {"percentile": 50}, "features must be finite vectors"),
        (np.zeros((2, 0)), {"percentile": 50}, "features must be finite vectors"),
        ([1.0, np.nan], {"percentile": 50}, "features must be finite vectors"),
        ([1.0, 2], {"percentile": 100}, r"percentile must be in \[0, 100\), got 100"),
        ([1.0, 2], {"percentile": -1}, "percentile must be in"),
        ([1.0, 2], {"percentile": 50, "variant": "x"}, "variant must be"),
        (np.ones(5000), {"percentile": 99.99}, "1 of 5000 entries are too few to scale"),
    ],
)
def test_bad_settings_of_activation_shaping_raise(features, options, culprit):
    with pytest.raises(ValueError, match=culprit):
        metrics.ash(features, **options)


def test_the_most_that_may_be_pruned_does_not_overflow():
    shaped = metrics.ash(np.full(600, 1e30), percentile=99.99)
    assert np.isfinite(shaped).all()
    assert shaped[0] > 1e250


# --- evidence -----------------------------------------------------------------------------------


def test_expected_probability_is_the_mean_of_the_dirichlet_distribution(rng):
    evidence = rng.exponential(3, size=(20, 4))
    expected = [stats.dirichlet(e + 1).mean().max() for e in evidence]
    np.testing.assert_allclose(metrics.max_expected_probability(evidence), expected, rtol=1e-12)
    strength = (evidence + 1).sum(1)
    np.testing.assert_allclose(metrics.evidential_certainty(evidence), 1 - 4 / strength, rtol=1e-12)


def test_more_evidence_is_more_known_and_conflict_lowers_the_probability_alone():
    nothing, little, much, conflict = np.array([[0.0, 0], [1, 0], [9, 0], [9, 9]])[:, None]
    probability, certainty = EVIDENCE_SCORES
    assert probability(nothing) == 0.5 == probability(conflict)
    assert certainty(nothing) == 0
    for score in EVIDENCE_SCORES:
        assert score(nothing) < score(little) < score(much)
    assert certainty(conflict) > certainty(much)


@pytest.mark.parametrize("score", EVIDENCE_SCORES)
def test_bad_evidence_raises(score):
    with pytest.raises(ValueError, match=r"evidence must be at least 0, got -0\.5"):
        score([[1.0, -0.5]])
    with pytest.raises(ValueError, match=r"evidence\[0\] is .*it must be finite"):
        score([[1.0, np.inf]])
    with pytest.raises(ValueError, match="evidence must be a non-empty matrix"):
        score([])


# --- concept matching ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_concept_matching_is_the_softmax_of_cosines(temperature, rng):
    images, texts = rng.normal(size=(7, 5)), rng.normal(size=(3, 5))
    cosines = np.array(
        [[x @ t / np.linalg.norm(x) / np.linalg.norm(t) for t in texts] for x in images]
    )
    expected = special.softmax(cosines / temperature, axis=1).max(1)
    score = lambda x, t: metrics.maximum_concept_matching(x, t, temperature=temperature)
    np.testing.assert_allclose(score(images, texts), expected, rtol=1e-10)
    scaled = score(1e200 * images, 1e-200 * texts)  # only directions matter
    np.testing.assert_allclose(scaled, expected, rtol=1e-10)


def test_concept_matching_knows_what_is_near_one_text_and_not_a_zero_vector():
    texts = np.eye(3)
    scores = metrics.maximum_concept_matching([[0, 1, 0], [1, 1, 1], [0, 0, 0.0]], texts)
    assert scores[0] > 0.999
    np.testing.assert_allclose(scores[1:], 1 / 3, rtol=1e-12)


def test_bad_embeddings_raise():
    with pytest.raises(ValueError, match="image_embeddings have 2 dimensions, text_embeddings 3"):
        metrics.maximum_concept_matching(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"text_embeddings\[0\] is .*it must be finite"):
        metrics.maximum_concept_matching(np.ones((1, 2)), np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match="image_embeddings must be a non-empty matrix"):
        metrics.maximum_concept_matching(np.ones((0, 2)), np.ones((1, 2)))
