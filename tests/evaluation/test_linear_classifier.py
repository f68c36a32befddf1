"""The logistic regression that stands beside trained classifiers."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.linear_classifier import LEAST, LinearClassifier, concatenated


def examples(rng, classes=3, count=90, width=12):
    label = np.arange(count) % classes
    x = rng.normal(size=(classes, width))[label] + rng.normal(size=(count, width))
    return x * 10.0 ** rng.integers(-3, 4, width), label


def test_it_is_the_regression_of_scikit_learn_on_standardised_features(rng):
    """A rotation changes nothing; one example a class leaves no choice of the penalty."""
    x, label = examples(rng)
    first = [np.flatnonzero(label == c)[0] for c in range(3)]
    found = LinearClassifier(x[first], label[first], 0).logits(x, 3)
    mean, scale = x[first].mean(0), x[first].std(0) * 12**0.5
    model = LogisticRegression(C=10.0, max_iter=1000).fit((x[first] - mean) / scale, label[first])
    expected = model.predict_log_proba((x - mean) / scale)
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize("width", [12, 400])
def test_what_is_separable_is_learned_whatever_the_scale_and_the_width(rng, width):
    x, label = examples(rng, width=width)
    train = np.arange(90) < 60
    classifier = LinearClassifier(x[train], label[train], 0)
    right = classifier.logits(x[~train], 3).argmax(1) == label[~train]
    assert right.mean() > 0.85
    again = LinearClassifier(x[train], label[train], 0).logits(x, 3)
    np.testing.assert_array_equal(classifier.logits(x, 3), again)


def test_classes_without_examples_are_next_to_impossible_and_constants_tell_nothing(rng):
    x, label = examples(rng)
    x[:, 0] = 7.0
    shifted = x + np.eye(12)[0] * 1e6  # what never varied in training
    classifier = LinearClassifier(x, np.where(label == 1, 3, label), 0)
    logits = classifier.logits(shifted, 5)
    assert np.isfinite(logits).all() and (logits[:, [1, 4]] == LEAST).all()
    np.testing.assert_array_equal(logits, classifier.logits(x, 5))


def test_modalities_stand_side_by_side_absent_ones_as_zeros_and_words_as_counts():
    features = {
        "a": np.ones((3, 2, 2), np.float32),
        "w": np.array([[1, 1, 0], [2, 0, 0], [1, 2, 2]]),
    }
    present = {"a": np.array([True, False, True]), "w": np.ones(3, bool)}
    data = FeatureSet.from_arrays(
        "d", features, np.array([0, 1, 0]), np.array([True, True, False]), present=present
    )
    found = concatenated(data, np.array([1, 2]), ("a", "w"))
    np.testing.assert_array_equal(found, [[0] * 4 + [0, 0, 1], [1] * 4 + [0, 1, 2]])


def test_a_class_that_is_ruled_out_has_a_finite_logit_and_warns_nobody(rng):
    """Its probability underflows to 0 far from the training examples; warnings fail here."""
    label = np.arange(40) % 2
    x = rng.normal(size=(40, 3)) + 5 * label[:, None]
    logits = LinearClassifier(x, label, 0).logits(1e4 * x, 2)
    assert np.isfinite(logits).all() and (logits.argmax(1) == label).mean() > 0.5
