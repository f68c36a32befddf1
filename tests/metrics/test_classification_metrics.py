"""Accuracies and the confusion matrix, against scikit-learn and hand-computed cases."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from unirep_jax import metrics


def test_micro_and_macro_accuracy_of_a_hand_computed_case():
    labels, predictions = [0, 0, 0, 1], [0, 0, 1, 1]
    assert metrics.accuracy(labels, predictions) == 0.75
    assert metrics.macro_accuracy(labels, predictions) == pytest.approx(5 / 6, rel=1e-15)


def test_accuracies_equal_scikit_learn(rng):
    labels, predictions = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    predictions[:200] = labels[:200]
    expected = sklearn_metrics.accuracy_score(labels, predictions)
    assert metrics.accuracy(labels, predictions) == pytest.approx(expected, rel=1e-14)
    expected = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert metrics.macro_accuracy(labels, predictions) == pytest.approx(expected, rel=1e-14)


def test_a_class_without_examples_is_left_out_of_the_macro_mean():
    assert metrics.macro_accuracy([0, 0, 5], [0, 3, 5]) == 0.75
    assert metrics.macro_accuracy([2, 2], [2, -1]) == 0.5


def test_top_k_accuracy_equals_scikit_learn_without_ties(rng):
    labels, scores = rng.integers(0, 6, 300), rng.normal(size=(300, 6))
    for k in (1, 2, 5):
        expected = sklearn_metrics.top_k_accuracy_score(labels, scores, k=k)
        assert metrics.top_k_accuracy(labels, scores, k=k) == pytest.approx(expected, rel=1e-14)


def test_top_k_accuracy_of_equal_scores_is_chance():
    labels = np.array([0, 0, 0, 4])
    for k in range(1, 6):
        assert metrics.top_k_accuracy(labels, np.zeros((4, 5)), k=k) == pytest.approx(k / 5)
    assert metrics.top_k_accuracy(labels, np.zeros((4, 5)), k=9) == 1


def test_confusion_matrix_counts_unknown_and_rejected_last():
    labels, predictions = [0, 0, 1, 1, -1, -1, -1], [0, -1, 1, 0, -1, 1, -1]
    matrix = metrics.confusion_matrix(labels, predictions, num_classes=2)
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [1, 1, 0], [0, 1, 2]])


def test_confusion_matrix_equals_scikit_learn_and_holds_the_open_set_accuracy(rng):
    labels, predictions = rng.integers(-1, 4, 400), rng.integers(-1, 4, 400)
    matrix = metrics.confusion_matrix(labels, predictions, num_classes=5)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=[0, 1, 2, 3, 4, -1])
    np.testing.assert_array_equal(matrix, expected)
    accuracy = metrics.open_set_accuracy(labels, predictions)
    assert accuracy.os == np.trace(matrix) / 400
    assert accuracy.unk == matrix[-1, -1] / matrix[-1].sum()
    assert accuracy.os_star == np.trace(matrix[:-1, :-1]) / matrix[:-1].sum()


@pytest.mark.parametrize(
    ("labels", "predictions", "culprit"),
    [
        ([0, 5], [0, 1], "labels hold class 5, num_classes is 5"),
        ([0, 1], [7, 1], "predictions hold class 7, num_classes is 5"),
        ([0, -2], [0, 1], "labels must be at least -1"),
        ([0, 1], [0], "predictions has 1 examples, labels has 2"),
    ],
)
def test_wrong_inputs_of_the_confusion_matrix_raise(labels, predictions, culprit):
    with pytest.raises(ValueError, match=culprit):
        metrics.confusion_matrix(labels, predictions, num_classes=5)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.macro_accuracy])
def test_closed_set_labels_may_not_be_unknown_nor_empty(metric):
    with pytest.raises(ValueError, match="labels must be at least 0, got -1"):
        metric([0, -1], [0, 0])
    with pytest.raises(ValueError, match="labels must be a non-empty vector"):
        metric([], [])
    with pytest.raises(ValueError, match="predictions must be integers"):
        metric([0, 1], [0.0, 1.0])


def test_the_gap_of_a_hand_computed_case_takes_the_best_modality_of_each_class():
    labels = [0, 0, 0, 0, 3, 3]
    single = {"image": [0, 0, 0, 1, 0, 0], "text": [1, 1, 1, 0, 3, -1]}
    fused = [0, 1, 1, 1, 3, 3]
    gap = metrics.class_accuracy_gap(labels, single, fused)
    assert gap == {0: 0.75 - 0.25, 3: 0.5 - 1}


def test_the_gap_equals_the_recalls_of_scikit_learn(rng):
    labels = rng.integers(0, 5, 200)
    image, text, fused = (np.where(rng.random(200) < p, labels, 9) for p in (0.3, 0.5, 0.6))
    recall = lambda p: sklearn_metrics.recall_score(labels, p, labels=range(5), average=None)
    expected = np.maximum(recall(image), recall(text)) - recall(fused)
    gap = metrics.class_accuracy_gap(labels, {"image": image, "text": text}, fused)
    assert list(gap) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(list(gap.values()), expected, rtol=1e-12, atol=1e-15)


def test_the_gap_of_one_modality_against_itself_is_zero():
    assert metrics.class_accuracy_gap([2, 2], {"image": [2, 0]}, [2, 0]) == {2: 0}


@pytest.mark.parametrize(
    ("single", "fused", "culprit"),
    [
        ({}, [0, 1], "single is empty"),
        ({"image": [0]}, [0, 1], r"single\['image'\] has 1 examples, labels has 2"),
        ({"image": [0, 1], "text": [0.0, 1]}, [0, 1], r"single\['text'\] must be integers"),
        ({"image": [0, 1]}, [0], "fused has 1 examples, labels has 2"),
    ],
)
def test_wrong_inputs_of_the_gap_name_the_modality(single, fused, culprit):
    with pytest.raises(ValueError, match=culprit):
        metrics.class_accuracy_gap([0, 1], single, fused)
