"""Counterfactual recognition: is the source of a sound in the image, and where.

A detection is an example whose confidence exceeds a threshold. It is right if the example has an
object and the detected place overlaps it.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from unirep_jax.metrics._checks import as_array, boolean_vector, fraction, same_length
from unirep_jax.metrics.localization import checked_ious


class CounterfactualCurve(NamedTuple):
    """Counts from no example detected to all, one point per distinct confidence.

    thresholds: the lowest confidence that is detected, ∞ first; any δ below it, down to the next
    lower confidence, gives the same. All other fields are counts of examples.
    """

    thresholds: Float[np.ndarray, "point"]
    true_positive: Int[np.ndarray, "point"]
    false_positive: Int[np.ndarray, "point"]
    false_negative: Int[np.ndarray, "point"]

    @property
    def precision(self) -> Float[np.ndarray, "point"]:
        """TP / (TP + FP), 1 where nothing is detected."""
        detected = self.true_positive + self.false_positive
        return np.where(detected > 0, self.true_positive / np.maximum(detected, 1), 1)

    @property
    def recall(self) -> Float[np.ndarray, "point"]:
        """TP / (TP + FN), 0 where all objects are detected, and all at a wrong place."""
        return self.true_positive / np.maximum(self.true_positive + self.false_negative, 1)

    @property
    def f1(self) -> Float[np.ndarray, "point"]:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
        wrong = self.false_positive + self.false_negative
        return 2 * self.true_positive / np.maximum(2 * self.true_positive + wrong, 1)


def counterfactual_curve(
    confidence: Float[ArrayLike, "example"],
    iou: Float[ArrayLike, "example"],
    has_object: Bool[ArrayLike, "example"],
    *,
    iou_threshold: float = 0.5,
) -> CounterfactualCurve:
    """Right and wrong detections at every threshold δ that makes a difference.

        TP = { i : Gᵢ ≠ ∅, IoUᵢ > γ, cᵢ > δ }
        FP = { i : Gᵢ ≠ ∅, IoUᵢ ≤ γ, cᵢ > δ } ∪ { i : Gᵢ = ∅, cᵢ > δ }
        FN = { i : Gᵢ ≠ ∅, cᵢ ≤ δ }

    Equal confidences are detected together or not at all. A detection at a wrong place is a false
    positive but no false negative. O(n log n).

    Args:
      confidence: c [example], −∞ where there is nothing to detect.
      iou: [example], overlap with the truth; where there is no object it does not matter.
      has_object: G ≠ ∅ [example].
      iou_threshold: γ in (0, 1].

    Raises:
      ValueError: no example, no object in any, or arrays that are not of the same examples.

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 11; Mo and Morgado, "A Closer Look at Weakly-
    Supervised Audio-Visual Source Localization", NeurIPS 2022.
    """
    confidence, right, has_object = detections(confidence, iou, has_object)
    hit = has_object & (right > fraction("iou_threshold", iou_threshold))
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    # A threshold is placed only after the last of equal confidences; −∞ is never detected.
    last = np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True) & (ordered > -np.inf))

    def up_to(flags):
        return np.append(0, np.cumsum(flags[order])[last])

    found, objects = up_to(hit), up_to(has_object)
    detected = np.append(0, last + 1)
    return CounterfactualCurve(
        thresholds=np.append(np.inf, ordered[last]),
        true_positive=found,
        false_positive=detected - found,
        false_negative=np.count_nonzero(has_object) - objects,
    )


class CounterfactualRecognition(NamedTuple):
    """average_precision, and the maximum F1 with its threshold (as in `CounterfactualCurve`)."""

    average_precision: float
    max_f1: float
    threshold: float


def counterfactual_recognition(
    confidence: Float[ArrayLike, "example"],
    iou: Float[ArrayLike, "example"],
    has_object: Bool[ArrayLike, "example"],
    *,
    iou_threshold: float = 0.5,
) -> CounterfactualRecognition:
    """Average precision and maximum F1 over all thresholds.

        AP = Σₖ (Rₖ − Rₖ₋₁) · max_{j ≥ k} Pⱼ,   Max-F1 = maxₖ 2PₖRₖ / (Pₖ + Rₖ)

    over the points k of `counterfactual_curve`, from R₀ = 0 on. Recall never falls, but it rises
    with a detection at a wrong place, too: once all objects are detected it is 1 if any is found.

    Args and Raises: as `counterfactual_curve`. Without any right detection both are 0, and the
    threshold is ∞.

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 12-13. `metrics.published.slavc_recognition`
    is what the authors of the task compute, from some thresholds.
    """
    curve = counterfactual_curve(confidence, iou, has_object, iou_threshold=iou_threshold)
    precision = np.maximum.accumulate(curve.precision[::-1])[::-1]
    best = int(np.argmax(curve.f1))
    return CounterfactualRecognition(
        average_precision=float(np.sum(np.diff(curve.recall) * precision[1:])),
        max_f1=float(curve.f1[best]),
        threshold=float(curve.thresholds[best]),
    )


def detections(confidence, iou, has_object):
    """All three as checked vectors of the same examples, at least one of which has an object."""
    confidence = as_array("confidence", confidence)
    if confidence.ndim != 1 or confidence.size == 0:
        raise ValueError(f"confidence must be a non-empty vector, got shape {confidence.shape}")
    confidence = confidence.astype(np.float64)
    usable = confidence < np.inf  # false of NaN
    if not usable.all():
        place = int(np.argmin(usable))
        raise ValueError(f"confidence[{place}] is {confidence[place]}: it must be finite or −∞")
    has_object = boolean_vector("has_object", has_object)
    iou = checked_ious(iou)
    same_length(confidence=confidence, iou=iou, has_object=has_object)
    if not has_object.any():
        raise ValueError("has_object is nowhere true: without objects there is no recall")
    return confidence, iou, has_object
