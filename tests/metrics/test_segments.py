"""Events in time: against cases computed by hand, scikit-learn, and loops."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from unirep_jax.metrics import (
    active_segments,
    audio_visual_f1,
    event_f1,
    find_events,
    segment_f1,
    with_background,
)
from unirep_jax.metrics.published import cmg_segment_f1


def rows(*texts):
    """[1, time, class] from one text a class: '#' where it is active."""
    return np.array([[c == "#" for c in text] for text in texts]).T[None]


LABELS = rows("####......", "..........", "......##.#")
SAID = rows("..####....", "#.........", "......##.#")
OFTEN = np.random.default_rng(1).random((30, 10, 4)) < 0.5


def test_segments_of_a_hand_computed_case():
    # right: 2 + 0 + 3 of 8 predicted and of 7 labelled seconds
    assert segment_f1(LABELS, SAID) == pytest.approx((5 / 8, 5 / 7, 10 / 15), rel=1e-15)


def test_segments_equal_scikit_learn_on_all_cells(rng):
    said = rng.random(OFTEN.shape) < 0.3
    expected = sklearn_metrics.precision_recall_fscore_support(
        OFTEN.ravel(), said.ravel(), average="binary"
    )
    assert segment_f1(OFTEN, said) == pytest.approx(expected[:3], rel=1e-14)


def test_the_order_of_examples_does_not_matter(rng):
    said, order = rng.random(OFTEN.shape) < 0.5, rng.permutation(30)
    assert segment_f1(OFTEN, said) == segment_f1(OFTEN[order], said[order])
    assert event_f1(OFTEN, said) == event_f1(OFTEN[order], said[order])


def test_events_of_any_class_are_segments_of_one_class():
    anything = lambda x: x.any(-1, keepdims=True)
    # any label: seconds 0-3, 6, 7, 9; any prediction: 0, 2-5, 6, 7, 9; both: 0, 2, 3, 6, 7, 9
    assert segment_f1(anything(LABELS), anything(SAID)) == pytest.approx((6 / 8, 6 / 7, 12 / 15))


def test_background_is_where_nothing_else_is():
    background = with_background(LABELS)
    assert background.shape == (1, 10, 4)
    np.testing.assert_array_equal(background[..., :3], LABELS)
    np.testing.assert_array_equal(background[..., 3], rows("....##..#.")[..., 0])


def test_what_is_heard_seen_and_both_is_scored_apart():
    audio, visual = rows("####......"), rows("..####....")
    audio_said, visual_said = rows("###......."), rows("...###....")
    scores = audio_visual_f1(audio, visual, audio_said, visual_said)
    assert scores["audio"] == pytest.approx((1, 3 / 4, 6 / 7))
    assert scores["visual"] == pytest.approx((1, 3 / 4, 6 / 7))
    # together labelled in seconds 2 and 3, predicted together in none
    assert scores["audio_visual"] == (0, 0, 0)
    scores = audio_visual_f1(audio, visual, audio, visual_said)
    assert scores["audio_visual"] == pytest.approx((1, 1 / 2, 2 / 3))


def test_runs_become_events_and_end_with_the_clip():
    events = find_events(np.concatenate([LABELS, rows("..........", "##########", "#.#.......")]))
    assert list(zip(*(e.tolist() for e in events), strict=True)) == [
        (0, 0, 0, 4),
        (0, 2, 6, 8),
        (0, 2, 9, 10),
        (1, 1, 0, 10),
        (1, 2, 0, 1),
        (1, 2, 2, 3),
    ]


def test_events_of_a_hand_computed_case():
    # 0-3 and 2-5 share 2 of 6 seconds; the two of the last class are right
    assert event_f1(LABELS, SAID) == pytest.approx((2 / 4, 2 / 3, 4 / 7), rel=1e-15)


@pytest.mark.parametrize(("said", "found"), [("##..", 1), ("#...", 0), (".###", 1), ("####", 1)])
def test_an_event_is_found_from_half_of_the_union_on(said, found):
    assert event_f1(rows("####"), rows(said)) == (found, found, found)


def test_a_stricter_overlap_can_be_asked_for():
    assert event_f1(rows("####"), rows(".###"), iou=0.75) == (1, 1, 1)
    assert event_f1(rows("####"), rows(".###"), iou=0.76) == (0, 0, 0)


def events_by_loops(labels, said, iou):
    runs = lambda x: [(e, c, set(range(a, b))) for e, c, a, b in zip(*find_events(x), strict=True)]
    true, found = runs(labels), runs(said)
    meets = lambda p, q: p[:2] == q[:2] and len(p[2] & q[2]) >= iou * len(p[2] | q[2])
    right = sum(any(meets(p, q) for q in true) for p in found)
    recalled = sum(any(meets(p, q) for p in found) for q in true)
    assert right == recalled
    return right / len(found), right / len(true), 2 * right / (len(found) + len(true))


@pytest.mark.parametrize("iou", [0.5, 0.6, 1.0])
def test_events_equal_loops_over_all_pairs(iou, rng):
    said = OFTEN ^ (rng.random(OFTEN.shape) < 0.15)
    expected = events_by_loops(OFTEN, said, iou)
    assert event_f1(OFTEN, said, iou=iou) == pytest.approx(expected, rel=1e-14)
    assert 0 < expected[2] < 1


def test_nothing_labelled_or_predicted_scores_zero():
    nothing = np.zeros_like(OFTEN)
    for score in (segment_f1, event_f1):
        assert score(nothing, nothing) == (0, 0, 0)
        assert score(OFTEN, nothing) == (0, 0, 0)
        assert score(nothing, OFTEN) == (0, 0, 0)
        assert score(OFTEN, OFTEN) == (1, 1, 1)
    assert cmg_segment_f1(with_background(OFTEN), with_background(nothing)).recall > 0


def test_a_logit_is_active_above_its_threshold_alone():
    logits = np.array([[[-1.0, 0.0, 1e-7, 30.0]]])
    np.testing.assert_array_equal(active_segments(logits)[0, 0], [False, False, True, True])
    logits = np.log([[[0.25 / 0.75]]]) + np.array([[[-1e-3, 1e-3]]])
    np.testing.assert_array_equal(active_segments(logits, threshold=0.25)[0, 0], [False, True])


# -- as published ----------------------------------------------------------------------------------


def published_by_loops(labels, said, size):
    """The authors' meters: sums weighted by the number of clips, in torch's way."""
    precision = recall = count = 0.0
    for start in range(0, len(labels), size):
        y, p = labels[start : start + size], said[start : start + size]
        if p.sum():
            precision += (y & p).sum() / p.sum() * len(y)
            recall += (y & p).sum() / y.sum() * len(y)
        count += len(y)
    p, r = precision / count, recall / count
    return p, r, 2 * p * r / (p + r + 1e-10)


def test_the_published_f1_averages_batches(rng):
    labels = with_background(OFTEN)
    said = labels ^ (rng.random(labels.shape) < 0.2)
    said[8:16] = False  # a batch without any prediction
    for size in (1, 8, 9, 30, 80):
        expected = published_by_loops(labels, said, size)
        found = cmg_segment_f1(labels, said, batch_size=size)
        assert found == pytest.approx(expected, rel=1e-9)
    assert cmg_segment_f1(labels, said, batch_size=30) == pytest.approx(segment_f1(labels, said))


def test_the_published_f1_of_a_hand_computed_case():
    labels, said = np.zeros((3, 1, 4), bool), np.zeros((3, 1, 4), bool)
    labels[:, 0, :2] = True
    said[0, 0, :1] = said[1, 0, 1:] = True
    # batch of clips 0 and 1: P 2/4, R 2/4; batch of clip 2: nothing predicted
    assert cmg_segment_f1(labels, said, batch_size=2) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert segment_f1(labels, said) == pytest.approx((1 / 2, 1 / 3, 2 / 5))


# -- wrong inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [segment_f1, event_f1, cmg_segment_f1])
def test_inputs_that_are_no_segments_are_named(score):
    with pytest.raises(ValueError, match=r"labels must be booleans.*float64"):
        score(OFTEN.astype(float), OFTEN)
    with pytest.raises(ValueError, match=r"predictions must be booleans.*\(30, 10\)"):
        score(OFTEN, OFTEN[..., 0])
    with pytest.raises(ValueError, match="labels must be booleans"):
        score(OFTEN[:0], OFTEN[:0])
    with pytest.raises(
        ValueError, match=r"labels of shape \(30, 10, 4\) and predictions of shape \(29"
    ):
        score(OFTEN, OFTEN[1:])


def test_thresholds_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"iou must be in \[0.5, 1\], got 0.4"):
        event_f1(OFTEN, OFTEN, iou=0.4)
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\), got 1"):
        active_segments(np.zeros((1, 1, 1)), threshold=1)
    with pytest.raises(ValueError, match="logits must be finite"):
        active_segments(np.full((1, 1, 1), np.nan))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        cmg_segment_f1(OFTEN, OFTEN, batch_size=0)
    with pytest.raises(
        ValueError, match=r"audio_labels of shape \(30, 10, 4\) and visual_labels of shape \(30, 9"
    ):
        audio_visual_f1(OFTEN, OFTEN[:, 1:], OFTEN, OFTEN[:, 1:])


@pytest.mark.parametrize("hundredths", range(50, 101))
def test_an_overlap_exactly_on_the_threshold_is_right(hundredths):
    """Whatever binary fractions make of it: 0.55 · 100 is above 55."""
    for union in (u for u in range(1, 241) if hundredths * u % 100 == 0):
        labels, predictions = np.zeros((2, 1, union, 1), bool)
        labels[:] = True
        predictions[0, : hundredths * union // 100] = True
        assert event_f1(labels, predictions, iou=hundredths / 100).f1 == 1
        predictions[0, hundredths * union // 100 - 1] = False
        assert event_f1(labels, predictions, iou=hundredths / 100).f1 == 0
