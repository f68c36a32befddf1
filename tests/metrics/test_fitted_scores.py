"""Scores beside training features: loops, scikit-learn, invariances, degenerate references."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from unirep_jax import metrics


@pytest.fixture
def features(rng):
    return rng.normal(size=(30, 6)), rng.normal(size=(80, 6)) + 1


@pytest.mark.parametrize("k", [1, 7, 80, 500])
def test_the_nearest_neighbour_is_that_of_scikit_learn_on_unit_vectors(features, k):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in features]
    search = NearestNeighbors(n_neighbors=min(k, 80), algorithm="brute").fit(unit[1])
    expected = -search.kneighbors(unit[0])[0][:, -1]
    np.testing.assert_allclose(metrics.nearest_neighbour(*features, k=k), expected, atol=1e-7)


def test_blocks_of_distances_give_the_same(features, monkeypatch):
    expected = metrics.nearest_neighbour(*features, k=3)
    monkeypatch.setattr("unirep_jax.metrics.fitted_scores._BLOCK", 160)
    np.testing.assert_allclose(metrics.nearest_neighbour(*features, k=3), expected, atol=1e-12)


def test_mahalanobis_is_a_loop_over_classes(features, rng):
    z, reference = features
    label = rng.integers(0, 3, 80) * 5
    means = {c: reference[label == c].mean(0) for c in np.unique(label)}
    covariance = sum(
        np.outer(r - means[c], r - means[c]) for r, c in zip(reference, label, strict=True)
    ) / len(reference)
    inverse = np.linalg.inv(covariance)
    expected = [max(-(x - m) @ inverse @ (x - m) for m in means.values()) for x in z]
    found = metrics.mahalanobis(z, reference, label)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0] * [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(
        metrics.mahalanobis(z @ turn, reference @ turn, label), expected, rtol=1e-7
    )


def test_a_direction_in_which_the_reference_does_not_vary_is_left_out(features, rng):
    label = rng.integers(0, 2, 80)
    wider = [np.hstack([x, np.full((len(x), 1), 4.0)]) for x in features]
    wider[0][:, -1] = 9.0
    np.testing.assert_allclose(
        metrics.mahalanobis(*wider, label), metrics.mahalanobis(*features, label), rtol=1e-6
    )


@pytest.mark.parametrize("dim", [0, 2, 5])
def test_the_virtual_logit_is_its_equation(features, rng, dim):
    z, reference = features
    logits, known = rng.normal(size=(30, 4)), rng.normal(size=(80, 4)) + 3
    centred = reference - reference.mean(0)
    principal = np.linalg.svd(centred, full_matrices=True)[2][:dim]
    rest = lambda x: np.linalg.norm(
        (x - reference.mean(0)) - (x - reference.mean(0)) @ principal.T @ principal, axis=1
    )
    alpha = known.max(1).sum() / rest(reference).sum()
    expected = logsumexp(logits, axis=1) - alpha * rest(z)
    found = metrics.virtual_logit(z, logits, reference, known, dim=dim)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_where_the_principal_space_is_all_there_is_the_energy_is_left(features, rng):
    logits, known = rng.normal(size=(30, 4)), rng.normal(size=(80, 4))
    found = metrics.virtual_logit(features[0], logits, features[1], known, dim=6)
    np.testing.assert_array_equal(found, metrics.energy(logits))
    flat = np.hstack([features[1][:, :2], np.zeros((80, 4))])
    found = metrics.virtual_logit(features[0], logits, flat, known, dim=3)
    np.testing.assert_array_equal(found, metrics.energy(logits))


def test_what_is_far_from_all_training_examples_looks_less_known(rng):
    label = np.repeat([0, 1], 60)
    reference = rng.normal(size=(120, 8)) + 6 * np.eye(2, 8)[label]
    near = rng.normal(size=(20, 8)) + 6 * np.eye(2, 8)[np.repeat([0, 1], 10)]
    far = rng.normal(size=(20, 8)) - 8 * np.eye(8)[5]
    test, logits = np.vstack([near, far]), np.zeros((40, 2))
    for scores in (
        metrics.nearest_neighbour(test, reference, k=5),
        metrics.mahalanobis(test, reference, label),
        metrics.virtual_logit(test, logits, reference, np.ones((120, 2)), dim=1),
    ):
        assert scores[:20].min() > scores[20:].max() and scores.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: metrics.nearest_neighbour(x, x, k=0), "k must be at least 1"),
        (lambda x: metrics.nearest_neighbour(x, x[:, :2]), "3 dimensions, reference 2"),
        (lambda x: metrics.nearest_neighbour(x * np.inf, x), "finite"),
        (lambda x: metrics.mahalanobis(x, x, np.zeros(2, int)), "label must be 4 integers"),
        (lambda x: metrics.mahalanobis(x, x, np.zeros(4)), "label must be 4 integers"),
        (lambda x: metrics.virtual_logit(x, x, x, x, dim=4), r"dim must be within 0 … 3"),
        (lambda x: metrics.virtual_logit(x, x[:2], x, x), "logits are of 2 examples"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((4, 3)))
