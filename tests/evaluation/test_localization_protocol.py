"""Localisation from proposals: by hand, against a loop, over chunks, and where much is absent."""

import numpy as np
import pytest

from unirep_jax import metrics
from unirep_jax.evaluation import localization as protocol
from unirep_jax.evaluation.localization import Boxes, counterfactual, localization, locate

LEFT, RIGHT, WHOLE = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]


def hand():
    """Right and sure, wrong, unsure and right, a silent one, and one without proposals."""
    audio = np.array([[1, 0], [1, 0], [1, 0], [0, 2], [1, 0]], np.float32)
    proposals = np.array([[3, 0], [0, 1], [1, 1], [2, 0], [1, 2], [1, 3]], np.float32)
    boxes = Boxes([LEFT, RIGHT, LEFT, RIGHT, LEFT, WHOLE], [0, 0, 1, 1, 2, 3])
    truth = Boxes([LEFT, LEFT, WHOLE, LEFT], [0, 1, 2, 4])
    return audio, proposals, boxes, truth


def random_inputs(rng, examples=9, proposals=40, true=14, dim=5):
    def boxes(count, by=None):
        corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
        return Boxes(corners, rng.integers(0, examples, count), by)

    audio, embedded = rng.normal(size=(examples, dim)), rng.normal(size=(proposals, dim))
    return audio, embedded, boxes(proposals), boxes(true, rng.integers(0, 3, true))


def test_the_hand_computed_case_finds_one_of_four():
    located = locate(*hand())
    cosines = [1, 1, 1 / np.sqrt(5), 3 / np.sqrt(10), -np.inf]
    np.testing.assert_allclose(located.confidence, cosines, rtol=1e-6)
    np.testing.assert_allclose(located.iou, [1, 0, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(located.has_object, [True, True, True, False, True])
    found = {metric: (value, chance) for metric, value, chance in localization(located)}
    # An IoU of exactly ½ is a success; of two proposals one is right, twice.
    assert found["ciou"] == pytest.approx((2 / 4, (1 / 2 + 1 / 2 + 1 + 0) / 4))
    single = [metrics.localization_auc([iou]) for iou in (1, 0, 0.5)]
    assert found["auc"][0] == pytest.approx((single[0] + single[1] + single[2] + single[1]) / 4)
    half = (single[0] + single[1]) / 2
    assert found["auc"][1] == pytest.approx((half + half + single[2] + single[1]) / 4)


def test_the_hand_computed_case_recognises_one_and_misses_the_one_without_proposals():
    ap, max_f1 = counterfactual(locate(*hand()))
    # Confidences 1 (right), 1 (wrong), 0.95 (silent), 0.45 (an IoU of ½ is wrong here).
    # Recall is 1/3 at precision 1/2; all but the object without proposals, 1/2 at 1/4.
    assert ap == ("ap", pytest.approx(1 / 3 * 1 / 2 + 1 / 6 * 1 / 4), None)
    assert max_f1 == ("max_f1", pytest.approx(2 * 1 / (2 * 1 + 1 + 2)), None)


@pytest.mark.parametrize("images", [1, 4, 128])
@pytest.mark.parametrize("agreement", [1, 2])
def test_it_is_the_loop_over_examples_whatever_the_chunks(rng, monkeypatch, images, agreement):
    audio, proposals, boxes, truth = random_inputs(rng)
    monkeypatch.setattr(protocol, "IMAGES", images)
    located = locate(audio, proposals, boxes, truth, agreement=agreement)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = np.sum(unit(audio)[boxes.of] * unit(proposals), axis=1)
    for example in range(len(audio)):
        own, true = np.flatnonzero(boxes.of == example), truth.of == example
        best = own[np.argmax(cosine[own])] if len(own) else None
        confidence = -np.inf if best is None else cosine[best]
        np.testing.assert_allclose(located.confidence[example], confidence, rtol=1e-5)
        assert located.has_object[example] == true.any()
        if not true.any() or best is None:
            assert located.iou[example] == 0
            continue
        consensus = metrics.consensus_map(truth.box[true], truth.by[true], agreement=agreement)
        maps = metrics.box_maps(boxes.box[own])
        ious = metrics.consensus_iou(maps, np.tile(consensus, (len(own), 1, 1)))
        np.testing.assert_allclose(located.iou[example], ious[own == best], atol=1e-12)
        shares = np.mean(ious[:, None] >= np.arange(21) / 20, axis=0)
        np.testing.assert_allclose(located.random[example], shares, atol=1e-12)


def test_the_order_of_proposals_and_the_lengths_of_embeddings_do_not_matter(rng):
    audio, proposals, boxes, truth = random_inputs(rng)
    order = rng.permutation(len(proposals))
    moved = locate(
        audio * rng.uniform(0.1, 9, (len(audio), 1)),
        proposals[order],
        Boxes(boxes.box[order], boxes.of[order]),
        truth,
    )
    for ours, theirs in zip(moved, locate(audio, proposals, boxes, truth), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_of_equally_similar_proposals_the_first_counts_and_embeddings_may_be_zero():
    audio, boxes = np.ones((1, 2)), Boxes([RIGHT, LEFT], [0, 0])
    for proposals in (np.ones((2, 2)), np.zeros((2, 2))):
        located = locate(audio, proposals, boxes, Boxes([LEFT], [0]))
        assert located.iou == [0]
        assert next(localization(located)) == ("ciou", 0, 0.5)


def test_without_any_proposal_nothing_is_found():
    located = locate(np.ones((2, 3)), np.zeros((0, 3)), Boxes([], []), Boxes([WHOLE], [1]))
    assert list(localization(located)) == [
        ("ciou", 0, 0),
        ("auc", pytest.approx(0.025), pytest.approx(0.025)),
    ]
    assert list(counterfactual(located)) == [("ap", 0, None), ("max_f1", 0, None)]


def test_without_any_object_there_is_nothing_to_judge():
    located = locate(np.ones((1, 3)), np.ones((1, 3)), Boxes([WHOLE], [0]), Boxes([], []))
    for evaluate in (localization, counterfactual):
        with pytest.raises(ValueError, match="has_object is nowhere true"):
            list(evaluate(located))


def test_wrong_inputs_raise_and_name_the_culprit():
    audio, proposals, boxes, truth = hand()
    hole = proposals.copy()
    hole[4, 1] = np.nan
    inside_out = [*truth.box[:3], RIGHT[::-1]]
    cases = [
        ((audio[0], proposals, boxes, truth), r"audio must be \[example, dim\]"),
        ((audio, proposals[:, 1:], boxes, truth), r"proposals must be \[proposal, 2\] as audio is"),
        ((audio, hole, boxes, truth), r"proposals\[4\] is not finite"),
        ((np.full((5, 2), np.inf), proposals, boxes, truth), r"audio\[0\] is not finite"),
        ((audio, proposals[1:], boxes, truth), "boxes.box has 6 boxes for 5 proposals"),
        ((audio[:3], proposals, boxes, truth), r"boxes.of\[5\] is 3, and not in \[0, 3\)"),
        ((audio, proposals, boxes._replace(of=[0] * 5), truth), "boxes.of must be 6 integers"),
        ((audio, proposals, boxes, Boxes(inside_out, truth.of)), r"truth.box\[3\] is"),
        ((audio, proposals, boxes, truth._replace(of=[0, 1, 2, 9])), r"truth.of\[3\] is 9"),
        ((audio, proposals, boxes, truth._replace(by=[0])), "truth.by must be 4 integers"),
    ]
    for inputs, culprit in cases:
        with pytest.raises(ValueError, match=culprit):
            locate(*inputs)
