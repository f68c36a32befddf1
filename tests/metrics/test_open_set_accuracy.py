"""Open-set accuracy, the threshold sweep and openness."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from unirep_jax.metrics import open_set_accuracy, openness, threshold_sweep

# Counts of test examples (known, unknown) of each split, and what MICU's table 2 prints for it:
# OS*, UNK and HOS in percent. A row is one run, scored over instances.
PUBLISHED = {
    "AVE split1": (
        (223, 179),
        [
            (45.29, 59.78, 51.54),
            (34.98, 42.46, 38.36),
            (51.57, 57.54, 54.39),
            (34.98, 64.80, 45.43),
        ],
    ),
    "AVE split2": (
        (316, 86),
        [
            (41.14, 68.60, 51.44),
            (34.18, 67.44, 45.37),
            (47.15, 79.07, 59.08),
            (35.44, 80.23, 49.17),
        ],
    ),
    "UCF split1": (
        (2289, 4542),
        [
            (25.08, 55.06, 34.46),
            (29.62, 53.35, 38.09),
            (29.40, 61.69, 39.82),
            (27.48, 72.96, 39.92),
        ],
    ),
    "UCF split2": (
        (4623, 2208),
        [
            (18.52, 58.97, 28.18),
            (25.83, 48.28, 33.65),
            (24.33, 60.05, 34.64),
            (23.90, 68.25, 35.41),
        ],
    ),
    "UCF to VGG split1": ((2390, 2423), [(79.16, 88.53, 83.58), (81.72, 93.23, 87.09)]),
    "UCF to VGG split2": ((3518, 1295), [(54.97, 95.83, 69.87), (66.77, 87.18, 75.62)]),
    "VGG to UCF split1": ((1160, 843), [(56.47, 77.34, 65.28), (68.71, 70.70, 69.69)]),
    # The HOS printed for the first row is 62.49; its own OS* and UNK give 62.47.
    "VGG to UCF split2": ((1556, 447), [(50.00, 83.22, 62.47), (47.43, 86.13, 61.17)]),
}
COUNTS = [  # correct known, known, rejected unknown, unknown, and the printed percentages
    (101, 223, 107, 179, 45.29, 59.78),
    (130, 316, 59, 86, 41.14, 68.60),
    (2349, 3518, 1129, 1295, 66.77, 87.18),
    (738, 1556, 385, 447, 47.43, 86.13),
]


def decisions(right, known, rejected, unknown):
    """Labels and predictions with these counts; wrong known ones are rejected or misread."""
    index = np.arange(known)
    labels = np.concatenate([index % 5, np.full(unknown, -1)])
    wrong = np.where(index % 2 == 0, -1, (index + 1) % 5)
    guesses = np.where(index < right, index % 5, wrong)
    rejection = np.where(np.arange(unknown) < rejected, -1, 3)
    return labels, np.concatenate([guesses, rejection])


def open_set_by_loop(labels, predictions, average):
    hits = {}
    for label, prediction in zip(labels.tolist(), predictions.tolist(), strict=True):
        hits.setdefault(label, []).append(float(label == prediction))
    unk = sum(hits[-1]) / len(hits[-1])
    known = [hits[label] for label in hits if label >= 0]
    if average == "class":
        recalls = [sum(h) / len(h) for h in known]
        os_star = sum(recalls) / len(recalls)
        os = (sum(recalls) + unk) / (len(recalls) + 1)
    else:
        os_star = sum(map(sum, known)) / sum(map(len, known))
        os = sum(map(sum, hits.values())) / len(labels)
    hos = 2 * os_star * unk / (os_star + unk) if os_star + unk else 0.0
    return os, os_star, unk, hos


@pytest.mark.parametrize(("right", "known", "rejected", "unknown", "os_star", "unk"), COUNTS)
def test_published_percentages_are_these_counts(right, known, rejected, unknown, os_star, unk):
    result = open_set_accuracy(*decisions(right, known, rejected, unknown))
    assert round(100 * result.os_star, 2) == os_star
    assert round(100 * result.unk, 2) == unk
    assert result.os == (right + rejected) / (known + unknown)


@pytest.mark.parametrize("split", PUBLISHED)
def test_published_rows_are_single_runs_scored_over_instances_of_the_split(split):
    (known, unknown), rows = PUBLISHED[split]
    for os_star, unk, hos in rows:
        right, rejected = round(os_star / 100 * known), round(unk / 100 * unknown)
        result = open_set_accuracy(*decisions(right, known, rejected, unknown))
        assert round(100 * result.os_star, 2) == os_star
        assert round(100 * result.unk, 2) == unk
        assert round(100 * result.hos, 2) == pytest.approx(hos, abs=0.0101)


def test_class_and_instance_averages_of_a_hand_computed_case():
    labels, predictions = np.array([0, 0, 0, 1, -1, -1]), np.array([0, 0, 1, 1, -1, 0])
    by_class = open_set_accuracy(labels, predictions, average="class")
    np.testing.assert_allclose(by_class, (13 / 18, 5 / 6, 1 / 2, 5 / 8), rtol=1e-15)
    by_instance = open_set_accuracy(labels, predictions)
    np.testing.assert_allclose(by_instance, (4 / 6, 3 / 4, 1 / 2, 3 / 5), rtol=1e-15)
    assert all(type(value) is float for value in (*by_class, *by_instance))


def test_unknown_examples_of_several_classes_are_counted_together():
    assert open_set_accuracy([0, -1, -1, -1, -1], [0, -1, -1, -1, 0]).unk == 0.75


def test_a_rejected_known_example_is_wrong_and_nothing_right_gives_zero():
    assert open_set_accuracy([0, 1, -1], [-1, -1, 0]) == (0.0, 0.0, 0.0, 0.0)
    assert open_set_accuracy([0, 1, -1], [-1, 1, -1]).os_star == 0.5


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=40),
    st.sampled_from(["instance", "class"]),
    st.randoms(use_true_random=False),
)
def test_accuracy_equals_counting_by_loop_and_scikit_learn_in_any_order(pairs, average, random):
    pairs = [*pairs, (0, 0), (-1, 2)]
    labels, predictions = np.array(pairs).T
    result = open_set_accuracy(labels, predictions, average=average)
    np.testing.assert_allclose(result, open_set_by_loop(labels, predictions, average), rtol=1e-13)
    score = accuracy_score if average == "instance" else balanced_accuracy_score
    seen = np.isin(predictions, labels)  # scikit-learn warns of classes that are only predicted
    anything_seen = np.where(seen, predictions, np.where(labels == 0, -1, 0))
    np.testing.assert_allclose(result.os, score(labels, anything_seen), rtol=1e-13)
    random.shuffle(pairs)
    shuffled = open_set_accuracy(*np.array(pairs).T, average=average)
    np.testing.assert_allclose(shuffled, result, rtol=1e-13)


def test_open_set_accuracy_reproduces_the_reference_file(oracle):
    reference = oracle("open_set")
    threshold = reference["threshold_tpr95"]
    rejected = reference["known_scores"] < threshold
    predictions = np.concatenate(
        [
            np.where(rejected, -1, reference["known_predictions"]),
            np.where(reference["unknown_scores"] < threshold, -1, 0),
        ]
    )
    labels = np.concatenate([reference["known_labels"], np.full(500, -1)])
    instance = open_set_accuracy(labels, predictions)
    by_class = open_set_accuracy(labels, predictions, average="class")
    np.testing.assert_allclose(instance.os_star, reference["os_star_instance"], rtol=1e-13)
    np.testing.assert_allclose(by_class.os_star, reference["os_star_class"], rtol=1e-13)
    np.testing.assert_allclose(instance.unk, reference["unk"], rtol=1e-13)


@pytest.mark.parametrize(
    ("labels", "predictions", "culprit"),
    [
        ([], [], "labels must be a non-empty vector"),
        ([0, 1], [0, 1], r"no unknown \(label -1\) example"),
        ([-1, -1], [0, -1], r"no known \(label from 0\) example"),
        ([0, -1], [0], "predictions has 1 examples, labels has 2"),
        ([0.0, -1.0], [0, -1], "labels must be integers, got float64"),
        ([0, -1], [True, False], "predictions must be integers, got bool"),
        ([0, -2], [0, -1], "labels must be at least -1, got -2"),
        ([[0, -1]], [[0, -1]], r"labels must be a non-empty vector, got shape \(1, 2\)"),
    ],
)
def test_wrong_inputs_raise_and_name_the_culprit(labels, predictions, culprit):
    with pytest.raises(ValueError, match=culprit):
        open_set_accuracy(np.array(labels, None), np.array(predictions, None))


def test_an_unknown_average_raises():
    with pytest.raises(ValueError, match="average must be"):
        open_set_accuracy([0, -1], [0, -1], average="macro")


def test_jax_arrays_of_small_integers_are_accepted():
    labels, predictions = jnp.array([0, 1, -1], jnp.int8), jnp.array([0, 0, -1], jnp.int32)
    assert open_set_accuracy(labels, predictions).os_star == 0.5


def test_sweep_reproduces_a_hand_computed_case():
    confidence = np.array([0.9, 0.8, 0.5, 0.6, 0.3])
    sweep = threshold_sweep(confidence, [0, 1, 0, 1, 1], [0, 1, 2, -1, -1])
    np.testing.assert_allclose(sweep.thresholds, 0.3 + 0.6 * np.arange(10) / 9, rtol=1e-15)
    np.testing.assert_allclose(sweep.accuracy.os_star, [2 / 3] * 8 + [1 / 3] * 2, rtol=1e-15)
    np.testing.assert_allclose(sweep.accuracy.unk, [0] + [0.5] * 4 + [1] * 5, rtol=1e-15)
    np.testing.assert_allclose(sweep.accuracy.hos[[0, 5, 8]], [0, 0.8, 0.5], rtol=1e-15)
    threshold, best = sweep.best()
    assert threshold == pytest.approx(0.3 + 0.6 * 5 / 9)  # the first of the three best
    assert best == pytest.approx((4 / 5, 2 / 3, 1.0, 0.8))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=30
    ),
    st.integers(2, 12),
)
def test_sweep_equals_rejecting_and_scoring_at_each_threshold(examples, num_thresholds):
    examples = [*examples, (3, 0, 0), (2, 1, -1)]
    confidence, predictions, labels = np.array(examples).T
    sweep = threshold_sweep(confidence / 8, predictions, labels, num_thresholds=num_thresholds)
    assert len(sweep.thresholds) == num_thresholds
    for place, threshold in enumerate(sweep.thresholds):
        decided = np.where(confidence / 8 < threshold, -1, predictions)
        expected = open_set_accuracy(labels, decided)
        found = [values[place] for values in sweep.accuracy]
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_sweep_ends_at_the_extreme_scores_and_keeps_the_most_confident():
    confidence = np.array([0.1, 0.7, 1.0, 0.4], np.float32)
    sweep = threshold_sweep(confidence, [0, 0, 0, 0], [0, 0, 0, -1])
    assert sweep.thresholds[0] == confidence.min() and sweep.thresholds[-1] == confidence.max()
    assert sweep.accuracy.unk[0] == 0 and sweep.accuracy.os_star[0] == 1
    assert sweep.accuracy.os_star[-1] == 1 / 3 and sweep.accuracy.unk[-1] == 1


def test_sweep_over_equal_confidences_rejects_nothing():
    sweep = threshold_sweep([0.5] * 3, [0, 1, 0], [0, 0, -1])
    assert (sweep.accuracy.unk == 0).all() and (sweep.accuracy.hos == 0).all()
    assert sweep.best()[1].os_star == 0.5


@pytest.mark.parametrize(
    ("confidence", "predictions", "labels", "num_thresholds", "culprit"),
    [
        ([0.1, np.nan], [0, 0], [0, -1], 10, r"confidence\[1\] is nan"),
        ([0.1, np.inf], [0, 0], [0, -1], 10, r"confidence\[1\] is inf"),
        ([0.1, 0.2], [0, -1], [0, -1], 10, "predictions must be at least 0"),
        ([0.1, 0.2, 0.3], [0, 0], [0, -1], 10, "predictions has 2 examples, confidence has 3"),
        ([0.1, 0.2], [0, 0], [0, 0], 10, "no unknown"),
        ([0.1, 0.2], [0, 0], [0, -1], 1, "num_thresholds must be at least 2"),
    ],
)
def test_wrong_sweeps_raise_and_name_the_culprit(
    confidence, predictions, labels, num_thresholds, culprit
):
    with pytest.raises(ValueError, match=culprit):
        threshold_sweep(confidence, predictions, labels, num_thresholds=num_thresholds)


OPENNESS = [
    (10, 10, 0.183503),
    (10, 15, 0.244071),
    (10, 20, 0.292893),
    (10, 30, 0.367544),
    (10, 40, 0.42265),
    (10, 60, 0.5),
    (10, 80, 0.552786),
    (5, 96, 0.692852),
    (20, 81, 0.42504),
    (50, 51, 0.186212),
    (80, 21, 0.059799),
    (10, 0, 0.0),
]


@pytest.mark.parametrize(("known", "unknown", "expected"), OPENNESS)
def test_openness_of_published_splits(known, unknown, expected):
    assert openness(known, unknown) == pytest.approx(expected, abs=5e-7)


def test_the_other_openness_counts_training_over_test_classes():
    assert openness(10, 10, convention="train_over_test") == pytest.approx(0.292893, abs=5e-7)


@pytest.mark.parametrize(("known", "unknown"), [(0, 3), (2, -1)])
def test_openness_without_known_classes_raises(known, unknown):
    with pytest.raises(ValueError, match="num_known"):
        openness(known, unknown)


def test_an_unknown_openness_raises():
    with pytest.raises(ValueError, match="convention must be"):
        openness(3, 3, convention="other")
