"""Boxes, consensus and overlap by hand, against loops over pixels, and under random inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax import metrics

QUARTER = [0, 0, 0.5, 0.5]  # the upper left one
LEFT = [0, 0, 0.5, 1]
WHOLE = [0, 0, 1, 1]


def random_boxes(rng, count):
    corners = np.sort(rng.random((count, 2, 2)), axis=1)  # [box, which corner, x or y]
    return corners.reshape(count, 4)


def test_a_box_covers_the_pixels_between_the_floors_of_its_corners():
    maps = metrics.box_maps([[0.25, 0, 0.8, 0.5], [0.3, 0.3, 0.45, 1]], size=4)
    np.testing.assert_array_equal(
        maps[0], [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], "3.2 is floored to 3"
    )
    np.testing.assert_array_equal(maps[1], np.zeros((4, 4)), "columns 1 to 1")
    assert metrics.box_maps([WHOLE]).sum() == 224**2
    assert metrics.box_maps(np.zeros((0, 4)), size=4).shape == (0, 4, 4)


def test_a_map_is_the_loop_over_pixels(rng):
    boxes, size = random_boxes(rng, 30), 9
    maps = metrics.box_maps(boxes, size=size)
    for (x1, y1, x2, y2), ours in zip(boxes, maps, strict=True):
        expected = np.zeros((size, size), bool)
        expected[int(y1 * size) : int(y2 * size), int(x1 * size) : int(x2 * size)] = True
        np.testing.assert_array_equal(ours, expected)


def test_the_union_of_boxes_counts_each_pixel_once():
    union = metrics.consensus_map([QUARTER, LEFT], size=2)
    np.testing.assert_array_equal(union, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(metrics.consensus_map([], size=2), np.zeros((2, 2)))


def test_the_consensus_of_two_is_half_where_one_annotator_has_a_box_and_never_above_one():
    boxes = [QUARTER, LEFT, WHOLE]
    consensus = metrics.consensus_map(boxes, [0, 1, 2], agreement=2, size=2)
    np.testing.assert_array_equal(consensus, [[1, 0.5], [1, 0.5]])
    same = metrics.consensus_map(boxes, [7, 7, 3], agreement=2, size=2)
    np.testing.assert_array_equal(same, [[1, 0.5], [1, 0.5]])
    alone = metrics.consensus_map(boxes[:2], [7, 7], agreement=2, size=2)
    np.testing.assert_array_equal(alone, [[0.5, 0], [0.5, 0]], "an annotator has one vote")


def test_hand_computed_overlaps():
    truth = metrics.consensus_map([LEFT], size=2)
    predicted = metrics.box_maps([WHOLE, LEFT, QUARTER, [0.5, 0, 1, 1]], size=2)
    ious = metrics.consensus_iou(predicted, np.tile(truth, (4, 1, 1)))
    np.testing.assert_array_equal(ious, [2 / 4, 1, 1 / 2, 0])
    soft = np.array([[1, 0.5], [1, 0]])
    # The half is shared by half, and does not count as beyond the truth.
    assert metrics.consensus_iou(np.ones((2, 2)), soft) == 2.5 / (2.5 + 1)
    assert metrics.consensus_iou([[0, 1], [0, 0]], soft) == 0.5 / 2.5


def test_empty_maps_overlap_nothing():
    nothing, whole = np.zeros((2, 2)), np.ones((2, 2))
    for predicted, truth in ((nothing, whole), (whole, nothing), (nothing, nothing)):
        assert metrics.consensus_iou(predicted, truth) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
def test_boxes_overlap_as_their_maps_do(seed, agreement):
    rng = np.random.default_rng(seed)
    truth = np.stack(
        [
            metrics.consensus_map(
                random_boxes(rng, n), rng.integers(0, 3, n), agreement=agreement, size=13
            )
            for n in (0, 1, 5)
        ]
    )
    boxes, image = random_boxes(rng, 20), rng.integers(0, 3, 20)
    ours = metrics.box_consensus_iou(boxes, truth, image)
    maps = metrics.consensus_iou(metrics.box_maps(boxes, size=13), truth[image])
    np.testing.assert_allclose(ours, maps, rtol=1e-12, atol=1e-12)
    assert ((ours >= 0) & (ours <= 1)).all()
    same = np.stack([metrics.consensus_map([box], size=13) for box in boxes])
    covered = same.any((1, 2))
    np.testing.assert_array_equal(metrics.box_consensus_iou(boxes, same, range(20)), covered)


def test_success_counts_the_threshold_itself():
    ious = [0.5, 0.49, 1, 0]
    assert metrics.localization_success(ious) == 0.5
    assert metrics.localization_success(ious, threshold=1) == 0.25


def test_the_area_of_single_images_is_hand_computed():
    # Shares are 1 for the first n thresholds, then 0: n − 1 trapezoids of 0.05 and half a one.
    for iou, passed in ((0, 1), (0.049, 1), (0.05, 2), (0.15, 4), (0.5, 11), (0.999, 20)):
        assert metrics.localization_auc([iou]) == pytest.approx((passed - 0.5) / 20, abs=1e-12)
    assert metrics.localization_auc([1]) == pytest.approx(1, abs=1e-12)
    assert metrics.localization_auc([0, 1]) == pytest.approx((0.025 + 1) / 2, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_area_is_the_mean_iou_but_for_the_width_of_a_step(ious):
    auc = metrics.localization_auc(ious)
    assert abs(auc - np.mean(ious)) <= 0.025 + 1e-12
    single = [metrics.localization_auc([iou]) for iou in ious]
    assert auc == pytest.approx(np.mean(single), abs=1e-12)


def test_the_best_proposal_has_the_highest_score_and_the_lowest_index_among_equals():
    scores, of = [0.5, 2, 0.5, 3, 2], [2, 0, 2, 0, 3]
    best = metrics.best_proposals(scores, of, 5)
    np.testing.assert_array_equal(best.index, [3, -1, 0, 4, -1])
    np.testing.assert_array_equal(best.score, [3, -np.inf, 0.5, 2, -np.inf])
    nothing = metrics.best_proposals([], [], 2)
    np.testing.assert_array_equal(nothing.index, [-1, -1])
    np.testing.assert_array_equal(nothing.score, [-np.inf, -np.inf])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40))
def test_the_best_proposal_is_that_of_a_loop(proposals):
    scores, of = [s / 4 for s, _ in proposals], [e for _, e in proposals]
    best = metrics.best_proposals(scores, of, 4)
    for example in range(4):
        own = [(-s, place) for place, s in enumerate(scores) if of[place] == example]
        score, index = min(own, default=(np.inf, -1))
        assert (best.index[example], best.score[example]) == (index, -score)


@pytest.mark.parametrize(
    ("box", "culprit"),
    [
        ([0.2, 0, 1.01, 1], r"boxes\[1\] is \[0.2, 0.0, 1.01, 1.0\]"),
        ([-0.1, 0, 1, 1], r"boxes\[1\]"),
        ([0.6, 0, 0.5, 1], r"boxes\[1\].* x1 ≤ x2"),
        ([0, 0.6, 1, 0.5], r"boxes\[1\].* y1 ≤ y2"),
        ([0, 0, float("nan"), 1], r"boxes\[1\]"),
    ],
)
def test_a_box_outside_the_image_or_inside_out_raises(box, culprit):
    for function in (metrics.box_maps, metrics.consensus_map):
        with pytest.raises(ValueError, match=culprit):
            function([WHOLE, box])
    with pytest.raises(ValueError, match=culprit):
        metrics.box_consensus_iou([WHOLE, box], np.ones((1, 2, 2)), [0, 0])


def test_other_wrong_inputs_raise_and_name_the_culprit():
    truth = np.ones((1, 2, 2))
    cases = [
        (lambda: metrics.box_maps([0, 0, 1, 1]), r"boxes must be \[box, 4\], got shape \(4,\)"),
        (lambda: metrics.box_maps([WHOLE], size=0), "size must be at least 1"),
        (lambda: metrics.consensus_map([WHOLE], [0, 1]), "annotator must be 1 integers"),
        (lambda: metrics.consensus_map([WHOLE], agreement=0), "agreement must be at least 1"),
        (lambda: metrics.consensus_iou(truth[0], truth), "prediction_map has shape"),
        (lambda: metrics.consensus_iou(2 * truth, truth), "prediction_map must be in 0 … 1"),
        (lambda: metrics.consensus_iou(truth, np.nan * truth), "ground_truth_map must be in"),
        (lambda: metrics.consensus_iou([1], [1]), r"prediction_map must be \[..., row, column\]"),
        (lambda: metrics.box_consensus_iou([WHOLE], truth[0], [0]), r"\[image, size, size\]"),
        (lambda: metrics.box_consensus_iou([WHOLE], truth, [1]), r"image_of\[0\] is 1"),
        (lambda: metrics.box_consensus_iou([WHOLE], truth, [0, 0]), "image_of must be 1 integers"),
        (lambda: metrics.localization_success([0.5, 1.1]), r"ious\[1\] is 1.1"),
        (lambda: metrics.localization_success([0.5], threshold=0), "threshold must be in"),
        (lambda: metrics.localization_auc([]), "ious must be a non-empty vector"),
        (lambda: metrics.best_proposals([1, np.nan], [0, 0], 1), r"scores\[1\] is nan"),
        (lambda: metrics.best_proposals([1, 2], [0, 3], 3), r"proposal_of\[1\] is 3"),
        (lambda: metrics.best_proposals([1], [0.0], 3), "proposal_of must be 1 integers"),
    ]
    for call, culprit in cases:
        with pytest.raises(ValueError, match=culprit):
            call()
