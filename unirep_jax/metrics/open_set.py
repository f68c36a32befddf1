"""Accuracy with rejection: OS*, UNK, OS and HOS of a decision, and of a sweep of thresholds."""

from typing import Literal, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from unirep_jax.metrics._checks import class_ids, finite_scores, same_length


class OpenSetAccuracy(NamedTuple):
    """Each a number in [0, 1], or an array of them over the thresholds of a sweep.

    os: accuracy with "unknown" as one more class; os_star: accuracy on known examples;
    unk: share of unknown examples rejected; hos: harmonic mean of os_star and unk.
    """

    os: float | Float[np.ndarray, "threshold"]
    os_star: float | Float[np.ndarray, "threshold"]
    unk: float | Float[np.ndarray, "threshold"]
    hos: float | Float[np.ndarray, "threshold"]


def open_set_accuracy(
    labels: Int[ArrayLike, "example"],
    predictions: Int[ArrayLike, "example"],
    *,
    average: Literal["instance", "class"] = "instance",
) -> OpenSetAccuracy:
    """Accuracy of a classifier that may reject examples as unknown.

        OS* = #{known, ŷ = y} / #{known}      UNK = #{unknown, rejected} / #{unknown}
        HOS = 2·OS*·UNK / (OS* + UNK)         OS  = #{ŷ = y} / #{examples}

    A rejected known example is wrong. With `average="class"` OS* is the mean over known classes of
    their accuracies and OS = (C·OS* + UNK) / (C + 1), over the C known classes that have examples.

    Args:
      labels: [example], classes from 0, −1 for an unknown class.
      predictions: [example], classes from 0, −1 where rejected as unknown.
      average: over examples, as MOOSA and MICU publish, or over classes, as in open-set domain
        adaptation.

    Returns:
      `OpenSetAccuracy` of floats. HOS is 0 where OS* and UNK are both 0.

    Raises:
      ValueError: no known or no unknown example, lengths that differ, entries that are not
        integers from −1.

    Example:
      >>> labels, predictions = [0, 1, 1, -1, -1], [0, 1, -1, -1, 0]
      >>> result = open_set_accuracy(labels, predictions)
      >>> print(f"{result.os_star:.3f} {result.unk:.3f} {result.hos:.3f}")
      0.667 0.500 0.571

    Reference: Bucci et al., "On the Effectiveness of Image Rotation for Open Set Domain
    Adaptation", ECCV 2020 (HOS).
    """
    labels = class_ids("labels", labels, lowest=-1)
    predictions = class_ids("predictions", predictions, lowest=-1)
    same_length(labels=labels, predictions=predictions)
    known = _known_mask(labels)
    correct = labels == predictions
    unk = float(correct[~known].mean())
    if average == "instance":
        os_star, os = float(correct[known].mean()), float(correct.mean())
    elif average == "class":
        _, class_of, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
        recalls = np.bincount(class_of, weights=correct[known]) / counts
        os_star = float(recalls.mean())
        os = float((recalls.sum() + unk) / (len(recalls) + 1))
    else:
        raise ValueError(f'average must be "instance" or "class", got {average!r}')
    return OpenSetAccuracy(os, os_star, unk, float(_harmonic_mean(os_star, unk)))


class ThresholdSweep(NamedTuple):
    """Open-set accuracy at each threshold; an example is rejected iff confidence < threshold."""

    thresholds: Float[np.ndarray, "threshold"]
    accuracy: OpenSetAccuracy

    def best(self) -> tuple[float, OpenSetAccuracy]:
        """The lowest threshold of highest HOS, and the accuracy there.

        On test examples this is the selection of the papers: it uses the test labels, so it is an
        upper bound and no estimate of what a deployed threshold reaches.
        """
        place = int(np.argmax(self.accuracy.hos))
        chosen = OpenSetAccuracy(*(float(np.asarray(values)[place]) for values in self.accuracy))
        return float(self.thresholds[place]), chosen


def threshold_sweep(
    confidence: Float[ArrayLike, "example"],
    predictions: Int[ArrayLike, "example"],
    labels: Int[ArrayLike, "example"],
    *,
    num_thresholds: int = 10,
) -> ThresholdSweep:
    """Open-set accuracy, over instances, at thresholds evenly spaced from lowest to highest score.

        τₖ = min s + (max s − min s)·k/(n−1),  k = 0 … n−1;   ŷ = unknown iff s < τₖ

    The lowest threshold rejects nothing. The papers' protocol is `.best()` of this sweep over the
    test examples, labels included; an honest one sweeps validation examples and applies the
    threshold found to the test examples.

    Args:
      confidence: [example], higher = more known; finite.
      predictions: [example], the class taken if the example is accepted, from 0.
      labels: [example], classes from 0, −1 for an unknown class.
      num_thresholds: n ≥ 2.

    Returns:
      `ThresholdSweep` with arrays of shape [num_thresholds]; all thresholds are equal if all
      confidences are.

    Raises:
      ValueError: as `open_set_accuracy`; a confidence that is not finite; a prediction below 0.

    Example:
      >>> sweep = threshold_sweep([0.9, 0.8, 0.3, 0.2], [0, 1, 0, 1], [0, 1, -1, -1])
      >>> threshold, best = sweep.best()  # by the labels: an upper bound
      >>> print(f"{threshold:.3f} {best.hos:.3f}")
      0.356 1.000

    Reference: MOOSA (Dong et al., ECCV 2024), and MICU (Huang et al., ICCV 2025), by the authors'
    code, whose ten thresholds and strict inequality these are.
    """
    confidence = finite_scores("confidence", confidence)
    predictions = class_ids("predictions", predictions, lowest=0)
    labels = class_ids("labels", labels, lowest=-1)
    same_length(confidence=confidence, predictions=predictions, labels=labels)
    if num_thresholds < 2:
        raise ValueError(f"num_thresholds must be at least 2, got {num_thresholds}")
    known = _known_mask(labels)
    thresholds = np.linspace(confidence.min(), confidence.max(), num_thresholds)

    def below(scores: Float[np.ndarray, "some"]) -> Int[np.ndarray, "threshold"]:
        return np.searchsorted(np.sort(scores), thresholds, side="left")

    right = confidence[labels == predictions]
    accepted_right, rejected_unknown = len(right) - below(right), below(confidence[~known])
    os_star, unk = accepted_right / known.sum(), rejected_unknown / (~known).sum()
    os = (accepted_right + rejected_unknown) / len(labels)
    return ThresholdSweep(
        thresholds, OpenSetAccuracy(os, os_star, unk, _harmonic_mean(os_star, unk))
    )


def openness(
    num_known: int,
    num_unknown: int,
    *,
    convention: Literal["scheirer", "train_over_test"] = "scheirer",
) -> float:
    """How open a split of classes is: 0 without unknown classes, towards 1 with many.

        scheirer:        1 − √( 2·K / (2·K + U) )
        train_over_test: 1 − √( K / (K + U) )

    Args:
      num_known: K ≥ 1 classes trained on, all of them tested.
      num_unknown: U ≥ 0 classes only tested.
      convention: which of the two formulas in use.

    Example:
      >>> print(f"{openness(14, 13):.3f}")
      0.174

    Reference: Scheirer et al., "Toward Open Set Recognition", TPAMI 2013, with K training classes,
    K target classes and K + U test classes.
    """
    if num_known < 1 or num_unknown < 0:
        raise ValueError(
            "num_known must be at least 1 and num_unknown at least 0, "
            f"got {num_known} and {num_unknown}"
        )
    if convention not in ("scheirer", "train_over_test"):
        raise ValueError(f'convention must be "scheirer" or "train_over_test", got {convention!r}')
    known = 2 * num_known if convention == "scheirer" else num_known
    return float(1 - np.sqrt(known / (known + num_unknown)))


def _known_mask(labels: Int[np.ndarray, "example"]):
    known = labels >= 0
    if known.all() or not known.any():
        missing = "unknown (label -1)" if known.all() else "known (label from 0)"
        raise ValueError(f"labels hold no {missing} example: open-set accuracy is undefined")
    return known


def _harmonic_mean(left, right):
    """2ab / (a + b), 0 where both are 0."""
    total = np.add(left, right)
    return 2 * np.multiply(left, right) / np.where(total > 0, total, 1)
