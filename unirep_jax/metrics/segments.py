"""Which events go on in which second: precision, recall and F1 over segments and over events.

Labels and predictions are booleans [example, time, class]; several classes may be active at once.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from unirep_jax.metrics._checks import as_array


class SegmentScores(NamedTuple):
    """Each in [0, 1], and 0 where nothing could be right."""

    precision: float
    recall: float
    f1: float


class Events(NamedTuple):
    """Runs of active segments: from `onset` up to, not including, `offset`."""

    example: Int[np.ndarray, "event"]
    class_id: Int[np.ndarray, "event"]
    onset: Int[np.ndarray, "event"]
    offset: Int[np.ndarray, "event"]


def active_segments(
    logits: Float[ArrayLike, "example time class"], *, threshold: float = 0.5
) -> Bool[np.ndarray, "example time class"]:
    """Where a class is said to be active, each class for itself.

        σ(x) > threshold

    Args:
      logits: [example, time, class], finite.
      threshold: in (0, 1); equal to it is not active, as in the authors' code.

    Raises:
      ValueError: logits that are not finite or of another rank, or such a threshold.

    Reference: Xia et al., "Achieving Cross Modal Generalization with Multimodal Unified
    Representation", NeurIPS 2023, by the authors' code (AVVP, AVE to AVVP).
    """
    logits = as_array("logits", logits)
    if logits.ndim != 3 or logits.size == 0:
        raise ValueError(f"logits must be [example, time, class], got shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be in (0, 1), got {threshold}")
    return logits > np.log(threshold) - np.log1p(-threshold)


def with_background(
    active: Bool[ArrayLike, "example time class"],
) -> Bool[np.ndarray, "example time class_and_one"]:
    """One class more, the last: active where no other is."""
    active = segments("active", active)
    return np.concatenate([active, ~active.any(-1, keepdims=True)], axis=-1)


def segment_f1(
    labels: Bool[ArrayLike, "example time class"],
    predictions: Bool[ArrayLike, "example time class"],
) -> SegmentScores:
    """Precision, recall and F1 over every (example, second, class), pooled over the set.

        P = TP / (TP + FP),  R = TP / (TP + FN),  F1 = 2 TP / (2 TP + FP + FN)

    Without a background class it says nothing of seconds in which rightly nothing is predicted;
    `with_background` makes them count. For events of any class at all, pass `x.any(-1, keepdims=
    True)` of both. 0 where a denominator is 0.

    Args:
      labels, predictions: [example, time, class].

    Raises:
      ValueError: not booleans of three axes, of one shape.
    """
    labels, predictions = _pair(labels=labels, predictions=predictions)
    right = np.count_nonzero(labels & predictions)
    return _scores(right, np.count_nonzero(predictions), right, np.count_nonzero(labels))


def audio_visual_f1(
    audio_labels: Bool[ArrayLike, "example time class"],
    visual_labels: Bool[ArrayLike, "example time class"],
    audio_predictions: Bool[ArrayLike, "example time class"],
    visual_predictions: Bool[ArrayLike, "example time class"],
) -> dict[str, SegmentScores]:
    """`segment_f1` of what is heard, of what is seen, and of what is both at once.

    Returns:
      `audio`, `visual` and `audio_visual`, whose events are those of both modalities in the same
      second, predicted as labelled.

    Raises:
      ValueError: as `segment_f1`; the four arrays have one shape.

    Reference: Tian et al., "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video
    Parsing", ECCV 2020, section 5.1. ≠ there, F1 is computed video by video and class by class,
    then averaged; here it is pooled.
    """
    audio = _pair(audio_labels=audio_labels, audio_predictions=audio_predictions)
    visual = _pair(visual_labels=visual_labels, visual_predictions=visual_predictions)
    _pair(audio_labels=audio[0], visual_labels=visual[0])
    both = [a & v for a, v in zip(audio, visual, strict=True)]
    return {
        "audio": segment_f1(*audio),
        "visual": segment_f1(*visual),
        "audio_visual": segment_f1(*both),
    }


def find_events(active: Bool[ArrayLike, "example time class"]) -> Events:
    """Runs of consecutive active segments of each example and class, in this order.

    Raises:
      ValueError: not booleans of three axes.
    """
    active = segments("active", active).transpose(0, 2, 1)
    edges = np.zeros((*active.shape[:2], active.shape[2] + 2), np.int8)
    edges[..., 1:-1] = active
    change = np.diff(edges)
    example, class_id, onset = np.nonzero(change == 1)
    return Events(example, class_id, onset, np.nonzero(change == -1)[2])


def event_f1(
    labels: Bool[ArrayLike, "example time class"],
    predictions: Bool[ArrayLike, "example time class"],
    *,
    iou: float = 0.5,
) -> SegmentScores:
    """Precision, recall and F1 over events, pooled over the set.

    An event (`find_events`) is right if one of the other side, of the same example and class, has
    with it an intersection over union of at least `iou`. From ½ on there is at most one: two that
    covered half of an event each would touch and be one.

    Args:
      labels, predictions: [example, time, class].
      iou: in [½, 1].

    Raises:
      ValueError: as `segment_f1`, or `iou` outside [½, 1].

    Example:
      >>> labels = np.array([0, 1, 1, 1, 0], bool)[None, :, None]  # five seconds
      >>> predictions = np.array([0, 0, 1, 1, 1], bool)[None, :, None]
      >>> print(event_f1(labels, predictions).f1, segment_f1(labels, predictions).f1)
      1.0 0.6666666666666666

    Reference: Tian et al., ECCV 2020, section 5.1. ≠ there, averaged over videos; here pooled.
    """
    if not 0.5 <= iou <= 1:
        raise ValueError(f"iou must be in [0.5, 1], got {iou}")
    labels, predictions = _pair(labels=labels, predictions=predictions)
    true, said = find_events(labels), find_events(predictions)
    # The pairs that share a second: each segment active on both sides names one.
    numbers = [_numbered(labels, true), _numbered(predictions, said)]
    shared = labels.transpose(0, 2, 1) & predictions.transpose(0, 2, 1)
    pairs, overlap = np.unique(np.stack([n[shared] for n in numbers]), axis=1, return_counts=True)
    length = lambda events, which: events.offset[which] - events.onset[which]
    union = length(true, pairs[0]) + length(said, pairs[1]) - overlap
    # Not overlap ≥ iou · union, which rounds: 0.55 · 100 is above 55, and 55 / 100 is 0.55.
    right = np.count_nonzero(overlap / union >= iou)
    return _scores(right, len(said.onset), right, len(true.onset))


def segments(name: str, values: ArrayLike) -> Bool[np.ndarray, "example time class"]:
    """`values` as booleans of three axes, none of length 0."""
    array = as_array(name, values)
    if array.dtype != np.bool_ or array.ndim != 3 or array.size == 0:
        raise ValueError(
            f"{name} must be booleans [example, time, class], got {array.dtype} {array.shape}"
        )
    return array


def _numbered(active, events: Events) -> Int[np.ndarray, "example class time"]:
    """The number of the event that each active segment belongs to."""
    number = np.zeros(active.transpose(0, 2, 1).shape, np.int64)
    np.add.at(number, (events.example, events.class_id, events.onset), 1)
    return np.cumsum(number).reshape(number.shape) - 1


def _pair(**arrays: ArrayLike) -> list[np.ndarray]:
    """Two arrays of segments of one shape, by name."""
    checked = [segments(name, values) for name, values in arrays.items()]
    if checked[0].shape != checked[1].shape:
        shapes = zip(arrays, (array.shape for array in checked), strict=True)
        raise ValueError(" and ".join(f"{name} of shape {shape}" for name, shape in shapes))
    return checked


def _scores(said_right, said, found, true) -> SegmentScores:
    ratio = lambda a, b: float(a / b) if b else 0.0
    return SegmentScores(
        ratio(said_right, said), ratio(found, true), ratio(said_right + found, said + true)
    )
