"""What published evaluators compute, bias included: only to compare with numbers they printed.

`metrics.auroc`, `aupr`, `oscr`, `tnr_at_known_tpr` and `counterfactual_recognition` are the
quantities themselves.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from unirep_jax.metrics._checks import boolean_vector, finite_scores, fraction, same_length
from unirep_jax.metrics.counterfactual import detections
from unirep_jax.metrics.ranking import aupr, count_accepted
from unirep_jax.metrics.segments import SegmentScores, segment_f1


class ArplMetrics(NamedTuple):
    """The columns of ARPL's tables, each in [0, 1]."""

    tnr: float
    auroc: float
    auin: float
    auout: float
    oscr: float


def arpl_metrics(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    correct: Bool[ArrayLike, "known"],
) -> ArplMetrics:
    """What the evaluation code of ARPL, which MRN's tables and others use, gives for these scores.

    Examples are removed one by one from the least known on, known ones first among equal scores,
    so every tie counts against the detector. Beyond that:

    * tnr is read at the first position whose TPR is nearest 0.95, which is the position of removing
      nothing, hence tnr 0, whenever there are at most 9 known examples;
    * auin and auout start from precision 0: a perfect detector gets 1 − 1/(2n), with n positives;
    * oscr compares correct examples after a position with unknown ones from it on, and appends the
      point (1, 1): each neighbouring pair (unknown, next higher correct known) loses 1/(2·K·U).
      Its order of equal scores depends on the machine; here known ones come first, wrong before
      correct.

    Args and Raises: as `metrics.oscr`.

    Reference: Chen et al., "Adversarial Reciprocal Points Learning for Open Set Recognition",
    TPAMI 2021, by the authors' code.
    """
    known, unknown, correct = _checked(known_scores, unknown_scores, correct)
    is_unknown = np.repeat([False, True], [len(known), len(unknown)])
    is_correct = np.append(correct, np.zeros(len(unknown), bool))
    order = np.lexsort((is_correct, is_unknown, np.concatenate([known, unknown])))
    unknown_left = np.append(_counted_from(is_unknown[order]), 0) / len(unknown)
    known_left = np.append(_counted_from(~is_unknown[order]), 0) / len(known)
    correct_left = _counted_from(is_correct[order])

    unknown_below = np.searchsorted(np.sort(unknown), np.sort(known), side="left")
    ccr = np.concatenate([[1], correct_left[1:] / len(known), [0]])
    fpr = np.concatenate([[1], unknown_left[: len(order) - 1], [0]])
    return ArplMetrics(
        tnr=float(1 - unknown_left[np.argmin(np.abs(known_left - 0.95))]),
        auroc=float(np.mean(unknown_below / len(unknown))),
        auin=aupr(known, unknown, positive="known", convention="arpl"),
        auout=aupr(known, unknown, positive="unknown", convention="arpl"),
        oscr=float(np.trapezoid(ccr[::-1], fpr[::-1])),
    )


def cssr_oscr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    correct: Bool[ArrayLike, "known"],
) -> float:
    """OSCR as the evaluation code of CSSR gives it: scores strictly above a threshold are accepted.

    Without ties that leaves the unknown examples of the lowest score out of the curve, which then
    is closed by an appended (1, 1): too high by (their share)·(1 − accuracy)/2.

    Args and Raises: as `metrics.oscr`.

    Reference: Huang et al., "Class-Specific Semantic Reconstruction for Open Set Recognition",
    TPAMI 2022, by the authors' code.
    """
    known, unknown, correct = _checked(known_scores, unknown_scores, correct)
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]

    def above(scores):
        return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")

    ccr, fpr = above(known[correct]) / len(known), above(unknown) / len(unknown)
    return float(np.trapezoid(np.append(ccr, 1), np.append(fpr, 1)))


class SlavcRecognition(NamedTuple):
    """The columns of the tables on Extended VGG-SS and Extended Flickr-SoundNet, in [0, 1]."""

    average_precision: float
    max_f1: float


def slavc_recognition(
    confidence: Float[ArrayLike, "example"],
    iou: Float[ArrayLike, "example"],
    has_object: Bool[ArrayLike, "example"],
    *,
    iou_threshold: float = 0.5,
) -> SlavcRecognition:
    """What the evaluation code of SLAVC gives for counterfactual recognition.

    A confidence or IoU equal to its threshold passes it. Thresholds are some of the confidences:

    * for the average precision, every ⌊n/200⌋-th one from the second highest on down. The recall
      gained up to that one is left out, so a perfect detector loses at least 2/(number of objects);
      each later gain counts with the precision reached before it, or a better one after it;
    * for F1, every ⌊n/10⌋-th one from the lowest on up.

    Precision is 1 where nothing is detected, recall is 1 where all objects are, though all at a
    wrong place. One example alone has an average precision of 0.

    Args and Raises: as `metrics.counterfactual_recognition`.

    Reference: Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source
    Localization", NeurIPS 2022, by the authors' code.
    """
    confidence, iou, has_object = detections(confidence, iou, has_object)
    hit = has_object & (iou >= fraction("iou_threshold", iou_threshold))
    ordered = np.sort(confidence)

    def precision_and_recall(thresholds):
        found, seen, detected = (
            count_accepted(confidence[which], thresholds) for which in (hit, has_object, ...)
        )
        missed = np.count_nonzero(has_object) - seen
        precision = np.where(detected > 0, found / np.maximum(detected, 1), 1)
        return precision, np.where(found + missed > 0, found / np.maximum(found + missed, 1), 1)

    precision, recall = precision_and_recall(ordered[:-1][:: -max(1, len(ordered) // 200)])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    p, r = precision_and_recall(ordered[:: max(1, len(ordered) // 10)])
    f1 = 2 * p * r / np.where(p + r > 0, p + r, 1)
    return SlavcRecognition(float(np.sum(np.diff(recall) * best[:-1])), float(np.max(f1)))


def cmg_segment_f1(
    labels: Bool[ArrayLike, "example time class"],
    predictions: Bool[ArrayLike, "example time class"],
    *,
    batch_size: int = 80,
) -> SegmentScores:
    """What the evaluation code of CMG (Uni-Code), MICU's too, gives for localisation in time.

        P = Σ_b |b| P_b / Σ_b |b|,  R likewise,  F1 = 2 P R / (P + R)

    over batches b of consecutive clips, so it depends on their size and order. The last class is
    the background (`metrics.with_background`) and counts as any other. A batch without prediction
    has P_b = R_b = 0; so has here one without label, where theirs divides by zero. They print the
    best epoch by it; here nothing is chosen.

    Args:
      labels, predictions: as `metrics.segment_f1`, which is the quantity itself.
      batch_size: theirs is 80.

    Raises:
      ValueError: as `metrics.segment_f1`, or a batch size below 1.

    Reference: Xia et al., "Achieving Cross Modal Generalization with Multimodal Unified
    Representation", NeurIPS 2023, by the authors' code.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    segment_f1(labels, predictions)  # refuses what is wrong by its name
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    starts = range(0, len(labels), batch_size)
    parts = [(labels[i : i + batch_size], predictions[i : i + batch_size]) for i in starts]
    each = np.array([segment_f1(*part)[:2] for part in parts])
    p, r = np.average(each, axis=0, weights=[len(part[0]) for part in parts])
    return SegmentScores(float(p), float(r), float(2 * p * r / (p + r)) if p + r else 0.0)


def _counted_from(events: Bool[np.ndarray, "position"]):
    """How many of the events happen at each position or after it."""
    return np.cumsum(events[::-1])[::-1]


def _checked(known_scores, unknown_scores, correct):
    known = finite_scores("known_scores", known_scores)
    unknown = finite_scores("unknown_scores", unknown_scores)
    correct = boolean_vector("correct", correct)
    same_length(known_scores=known, correct=correct)
    return known, unknown, correct
