"""Counterfactual recognition by hand, against loops over every threshold, and as published."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax import metrics
from unirep_jax.metrics.published import slavc_recognition

examples = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.booleans()),
    min_size=1,
    max_size=25,
).filter(lambda rows: any(has_object for _, _, has_object in rows))


def arrays(rows):
    confidence, iou, has_object = zip(*rows, strict=True)
    return np.array(confidence) / 3 - 1, np.array(iou, float), np.array(has_object)


def counts(confidence, iou, has_object, delta, gamma=0.5):
    """Eq. 11 by a loop over examples."""
    true_positive = false_positive = false_negative = 0
    for c, overlap, real in zip(confidence, iou, has_object, strict=True):
        true_positive += real and overlap > gamma and c > delta
        false_positive += (real and overlap <= gamma and c > delta) or (not real and c > delta)
        false_negative += real and c <= delta
    return true_positive, false_positive, false_negative


HAND = {
    "confidence": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    "iou": [0.9, 0.0, 0.4, 0.8, 0.0, 0.6],
    "has_object": np.array([True, False, True, True, False, True]),
}


def test_a_hand_computed_case():
    curve = metrics.counterfactual_curve(**HAND)
    np.testing.assert_array_equal(curve.thresholds, [np.inf, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    np.testing.assert_array_equal(curve.true_positive, [0, 1, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(curve.false_positive, [0, 0, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(curve.false_negative, [4, 3, 3, 2, 1, 1, 0])
    np.testing.assert_allclose(curve.recall, [0, 1 / 4, 1 / 4, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.precision, [1, 1, 1 / 2, 1 / 3, 1 / 2, 2 / 5, 1 / 2])
    result = metrics.counterfactual_recognition(**HAND)
    # Steps of recall to 1/4 at precision 1, then to 1 at precision 1/2 from the right.
    assert result.average_precision == pytest.approx(1 / 4 + 3 / 4 * 1 / 2, abs=1e-15)
    assert result.max_f1 == pytest.approx(2 * 3 / (2 * 3 + 3), abs=1e-15)
    assert result.threshold == 0.4


def test_a_detection_at_a_wrong_place_is_a_false_positive_and_no_false_negative():
    curve = metrics.counterfactual_curve([1.0, 0.5], [0.9, 0.1], np.array([True, True]))
    assert curve.false_positive[-1] == 1 and curve.false_negative[-1] == 0
    assert curve.recall[-1] == 1 and curve.precision[-1] == 0.5


def test_an_overlap_of_exactly_the_threshold_is_a_wrong_place():
    flags = np.array([True])
    assert metrics.counterfactual_recognition([1.0], [0.5], flags) == (0, 0, np.inf)
    assert metrics.counterfactual_recognition([1.0], [0.5], flags, iou_threshold=0.4)[:2] == (1, 1)


def test_equal_confidences_are_detected_together_in_any_order():
    for order in ([0, 1], [1, 0]):
        iou, flags = np.array([0.9, 0.0])[order], np.array([True, False])[order]
        curve = metrics.counterfactual_curve([0.3, 0.3], iou, flags)
        np.testing.assert_array_equal(curve.true_positive, [0, 1])
        np.testing.assert_array_equal(curve.false_positive, [0, 1])
        assert metrics.counterfactual_recognition([0.3, 0.3], iou, flags)[:2] == (0.5, 2 / 3)


def test_where_there_is_nothing_to_detect_nothing_is_detected_but_the_object_is_missed():
    curve = metrics.counterfactual_curve(
        [0.2, -np.inf, -np.inf], [0.9, 0, 0], np.array([True, True, False])
    )
    np.testing.assert_array_equal(curve.thresholds, [np.inf, 0.2])
    np.testing.assert_array_equal(curve.false_positive, [0, 0])
    np.testing.assert_array_equal(curve.false_negative, [2, 1])
    nothing = metrics.counterfactual_recognition([-np.inf], [0], np.array([True]))
    assert nothing == (0, 0, np.inf)


@settings(deadline=None, max_examples=80)
@given(examples)
def test_every_threshold_has_the_counts_of_the_definition(rows):
    confidence, iou, has_object = arrays(rows)
    curve = metrics.counterfactual_curve(confidence, iou, has_object)
    distinct = np.unique(confidence)[::-1]
    assert curve.thresholds.tolist() == [np.inf, *distinct]
    below = [*distinct, distinct[-1] - 1]  # δ from the next lower confidence on
    for point, delta in enumerate(below):
        ours = (curve.true_positive, curve.false_positive, curve.false_negative)
        expected = counts(confidence, iou, has_object, delta)
        assert tuple(int(c[point]) for c in ours) == expected


@settings(deadline=None, max_examples=80)
@given(examples)
def test_the_summaries_are_those_of_a_loop_over_all_thresholds(rows):
    confidence, iou, has_object = arrays(rows)
    points, best = [], 0
    for delta in np.append(np.unique(confidence)[::-1], -9):
        tp, fp, fn = counts(confidence, iou, has_object, delta)
        precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
        points.append((recall, precision))
        best = max(best, 2 * precision * recall / max(precision + recall, 1e-9))
    area = 0
    for k in range(1, len(points)):
        area += (points[k][0] - points[k - 1][0]) * max(p for _, p in points[k:])
    result = metrics.counterfactual_recognition(confidence, iou, has_object)
    assert result.average_precision == pytest.approx(area, abs=1e-12)
    assert result.max_f1 == pytest.approx(best, abs=1e-8)
    order = np.random.default_rng(0).permutation(len(rows))
    moved = metrics.counterfactual_recognition(
        3 * confidence[order] + 1, iou[order], has_object[order]
    )
    np.testing.assert_allclose(moved[:2], result[:2], atol=1e-12)


def test_all_right_and_confident_is_one_and_recall_never_falls(rng):
    has_object = np.arange(40) < 25
    confidence = has_object + 0.1 * rng.random(40)
    assert metrics.counterfactual_recognition(confidence, np.ones(40), has_object)[:2] == (1, 1)
    curve = metrics.counterfactual_curve(rng.random(40), rng.random(40), has_object)
    assert (np.diff(curve.recall) >= 0).all()


def test_many_examples_of_one_confidence_are_one_point():
    flags = np.arange(200_000) % 2 == 0
    curve = metrics.counterfactual_curve(np.zeros(200_000), np.ones(200_000), flags)
    assert len(curve.thresholds) == 2
    assert metrics.counterfactual_recognition(np.zeros(200_000), np.ones(200_000), flags)[0] == 0.5


# --- as published --------------------------------------------------------------------------------


def published(confidence, iou, has_object):
    """Loops over thresholds and examples, as the description of `slavc_recognition` has it."""

    def precision_and_recall(threshold):
        detected = confidence >= threshold
        found = np.sum(detected & has_object & (iou >= 0.5))
        missed = np.sum(~detected & has_object)
        precision = found / detected.sum() if detected.any() else 1
        return precision, found / (found + missed) if found + missed else 1

    ordered = sorted(confidence)
    stride = max(1, len(ordered) // 200)
    points = [precision_and_recall(t) for t in ordered[-2::-stride]] if len(ordered) > 1 else []
    area = 0
    for k in range(len(points) - 1):
        area += max(p for p, _ in points[k:]) * (points[k + 1][1] - points[k][1])
    some = [precision_and_recall(t) for t in ordered[:: max(1, len(ordered) // 10)]]
    return area, max(2 * p * r / (p + r) if p + r else 0 for p, r in some)


@settings(deadline=None, max_examples=60)
@given(examples)
def test_the_published_variant_is_its_loop(rows):
    confidence, iou, has_object = arrays(rows)
    ours = slavc_recognition(confidence, iou, has_object)
    np.testing.assert_allclose(ours, published(confidence, iou, has_object), atol=1e-12)


def test_the_published_variant_of_many_examples_takes_some_thresholds(rng):
    has_object, iou = rng.random(1300) < 0.5, rng.random(1300)
    confidence = rng.normal(size=1300) + has_object
    ours = slavc_recognition(confidence, iou, has_object)
    np.testing.assert_allclose(ours, published(confidence, iou, has_object), atol=1e-12)
    exact = metrics.counterfactual_recognition(confidence, iou, has_object)
    assert ours.average_precision == pytest.approx(exact.average_precision, abs=0.03)
    assert exact.max_f1 - 0.01 < ours.max_f1 <= exact.max_f1


def test_the_published_average_precision_of_a_perfect_detector_misses_two_objects():
    has_object = np.arange(30) < 10
    result = slavc_recognition(-np.arange(30.0), np.ones(30), has_object)
    assert result.average_precision == pytest.approx(1 - 2 / 10, abs=1e-12)
    assert slavc_recognition([1.0], [1.0], np.array([True])) == (0, 1)


def test_the_published_hand_computed_case_passes_an_overlap_of_exactly_a_half():
    assert slavc_recognition([1.0], [0.5], np.array([True])).max_f1 == 1
    result = slavc_recognition(**HAND)
    # From recall 1/4 at precision 1/2 on: every later gain at a precision of 1/2.
    assert result.average_precision == pytest.approx(3 / 4 * 1 / 2, abs=1e-12)
    assert result.max_f1 == pytest.approx(2 / 3, abs=1e-12)


@pytest.mark.parametrize(
    "metric",
    [metrics.counterfactual_curve, metrics.counterfactual_recognition, slavc_recognition],
)
@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"confidence": [0.1, np.nan]}, r"confidence\[1\] is nan"),
        ({"confidence": [np.inf, 0.1]}, r"confidence\[0\] is inf"),
        ({"confidence": []}, "confidence must be a non-empty vector"),
        ({"iou": [0.1, 1.5]}, r"ious\[1\] is 1.5"),
        ({"iou": [0.1]}, "iou has 1 examples, confidence has 2"),
        ({"has_object": np.array([1, 0])}, "has_object must be a vector of booleans"),
        ({"has_object": np.array([False, False])}, "has_object is nowhere true"),
        ({"iou_threshold": 0.0}, "iou_threshold must be in"),
    ],
)
def test_wrong_inputs_raise_and_name_the_culprit(metric, change, culprit):
    right = {"confidence": [0.2, 0.1], "iou": [0.6, 0.2], "has_object": np.array([True, False])}
    with pytest.raises(ValueError, match=culprit):
        metric(**(right | change))
