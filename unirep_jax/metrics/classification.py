"""Closed-set accuracy, and the confusion matrix with a row and a column for "unknown"."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from unirep_jax.metrics._checks import class_ids, same_length
from unirep_jax.metrics.retrieval import recall_at, retrieval_ranks


def accuracy(labels: Int[ArrayLike, "example"], predictions: Int[ArrayLike, "example"]) -> float:
    """Share of examples whose prediction is their label.

    Args:
      labels: [example], classes from 0.
      predictions: [example], classes from 0, −1 for an abstention, which is wrong.

    Raises:
      ValueError: no examples, lengths that differ, entries that are not such integers.
    """
    labels, predictions = _closed_set(labels, predictions)
    return float(np.mean(labels == predictions))


def macro_accuracy(
    labels: Int[ArrayLike, "example"], predictions: Int[ArrayLike, "example"]
) -> float:
    """Mean over the classes that have examples of the accuracy on them.

        1/C Σ_c #{ŷ = y = c} / #{y = c}

    Args and Raises: as `accuracy`. A class without examples is left out of the mean.

    Reference: MRN ("Towards Multimodal Open Set Recognition", 2024), appendix E.2 (ACC); balanced
    accuracy elsewhere.
    """
    return float(np.mean(_class_accuracies(labels, predictions)[1]))


def class_accuracy_gap(
    labels: Int[ArrayLike, "example"],
    single: Mapping[str, Int[ArrayLike, "example"]],
    fused: Int[ArrayLike, "example"],
) -> dict[int, float]:
    """What fusion loses on each class against the best single modality there.

        ΔACC_c = maxₘ ACC_c(m) − ACC_c(fused)

    Positive where fusion does worse, which MRN calls fusion degradation. The best modality is
    chosen for each class.

    Args:
      labels: [example], classes from 0.
      single: predictions [example] of the classifier of each modality.
      fused: predictions [example] with all modalities.

    Returns:
      The gap of each class that has examples, by class.

    Raises:
      ValueError: as `accuracy`; no single modality.

    Reference: MRN ("Towards Multimodal Open Set Recognition", 2024), eq. 7.
    """
    if not single:
        raise ValueError("single is empty: the gap is against at least one modality")
    best = np.max(
        [_class_accuracies(labels, p, f"single[{m!r}]")[1] for m, p in single.items()], axis=0
    )
    classes, accuracies = _class_accuracies(labels, fused, "fused")
    return {int(c): float(gap) for c, gap in zip(classes, best - accuracies, strict=True)}


def top_k_accuracy(
    labels: Int[ArrayLike, "example"], scores: Float[ArrayLike, "example class"], *, k: int
) -> float:
    """Share of examples whose label is among the k highest scores.

    Equal scores are in random order, in expectation: a classifier with all scores equal gets
    k/classes, not 1. Class-level retrieval is this with the classes as items.

    Args:
      labels: [example], classes from 0, below the number of scores.
      scores: [example, class], finite.
      k: at least 1.

    Raises:
      ValueError: as `retrieval_ranks` and `recall_at`.

    Example:
      >>> top_k_accuracy([0, 1], [[0.9, 0.1, 0.0], [0.5, 0.3, 0.2]], k=2)
      1.0
    """
    return recall_at(retrieval_ranks(scores, class_ids("labels", labels, lowest=0)), k)


def confusion_matrix(
    labels: Int[ArrayLike, "example"],
    predictions: Int[ArrayLike, "example"],
    *,
    num_classes: int,
) -> Int[np.ndarray, "label prediction"]:
    """Counts of (label, prediction), the last row and column for unknown and rejected examples.

    Args:
      labels: [example], classes from 0, −1 for an unknown class.
      predictions: [example], classes from 0, −1 where rejected as unknown.
      num_classes: number of known classes.

    Returns:
      int64 [num_classes + 1, num_classes + 1]; its trace is the number of right decisions.

    Raises:
      ValueError: no examples, lengths that differ, entries outside [−1, num_classes).
    """
    labels = class_ids("labels", labels, lowest=-1)
    predictions = class_ids("predictions", predictions, lowest=-1)
    same_length(labels=labels, predictions=predictions)
    for name, values in {"labels": labels, "predictions": predictions}.items():
        if values.max() >= num_classes:
            raise ValueError(f"{name} hold class {values.max()}, num_classes is {num_classes}")
    size = num_classes + 1
    cells = (labels % size) * size + predictions % size  # −1 is the last row or column
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def _class_accuracies(labels, predictions, name="predictions"):
    """The classes that have examples, and the accuracy on each."""
    labels, predictions = _closed_set(labels, predictions, name)
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return classes, np.bincount(class_of, weights=labels == predictions) / counts


def _closed_set(labels, predictions, name="predictions"):
    labels = class_ids("labels", labels, lowest=0)
    predictions = class_ids(name, predictions, lowest=-1)
    same_length(**{"labels": labels, name: predictions})
    return labels, predictions
