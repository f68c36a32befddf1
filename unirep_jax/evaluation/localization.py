"""Where a sound comes from, and whether it does, by the proposal that is most like it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from unirep_jax import losses, metrics
from unirep_jax.metrics.localization import SIZE, THRESHOLDS, checked_boxes, owners

IMAGES = 128  # whose maps exist at a time


class Boxes(NamedTuple):
    """Boxes of several examples, x1, y1, x2, y2 in 0 … 1.

    box: [box, 4]; of: [box], the example to which each belongs; by: [box], who drew it, or None.
    """

    box: Float[np.ndarray, "box 4"]
    of: Int[np.ndarray, "box"]
    by: Int[np.ndarray, "box"] | None = None


class Located(NamedTuple):
    """What was found in each example.

    confidence: cosine of the best proposal, −∞ without any; iou: its consensus IoU, 0 without any;
    has_object: whether there is a true box; random: share of the example's proposals with an IoU of
    at least each of `metrics.localization.THRESHOLDS`, an empty one standing for none.
    """

    confidence: Float[np.ndarray, "example"]
    iou: Float[np.ndarray, "example"]
    has_object: Bool[np.ndarray, "example"]
    random: Float[np.ndarray, "example threshold"]


def locate(
    audio: Float[np.ndarray, "example dim"],
    proposals: Float[np.ndarray, "proposal dim"],
    boxes: Boxes,
    truth: Boxes,
    *,
    agreement: int = 1,
) -> Located:
    """Takes the proposal most similar to the audio of each example, and compares it to the truth.

    Args:
      audio: [example, dim], of any length.
      proposals: [proposal, dim] of the same space, of any length.
      boxes: of the proposals; an example may have none.
      truth: true boxes; an example without any is a negative of counterfactual recognition.
      agreement: how many annotators make a pixel count in full: 1 for VGG-SS, 2 for
        Flickr-SoundNet (`metrics.consensus_map`).

    Raises:
      ValueError: embeddings, boxes or examples that do not belong together, with the first culprit.

    Reference: C-MCR (Wang et al., NeurIPS 2023), appendix B.2 and B.3.
    """
    audio, proposals, boxes, truth = _checked(audio, proposals, boxes, truth)
    count = len(audio)
    cosine = np.einsum(
        "pd,pd->p", _unit(audio)[boxes.of], _unit(proposals), dtype=np.float64, casting="same_kind"
    )
    best = metrics.best_proposals(cosine, boxes.of, count)
    has_object = np.bincount(truth.of, minlength=count) > 0
    ious = np.zeros(len(proposals))
    positives = np.flatnonzero(has_object)
    for start in range(0, len(positives), IMAGES):
        images = positives[start : start + IMAGES]
        maps = [_truth_map(truth, image, agreement) for image in images]
        own = np.flatnonzero(np.isin(boxes.of, images))
        places = np.searchsorted(images, boxes.of[own])
        ious[own] = metrics.box_consensus_iou(boxes.box[own], np.stack(maps), places)
    return Located(
        confidence=best.score,
        iou=np.append(ious, 0)[best.index],  # −1, no proposal, is the appended 0
        has_object=has_object,
        random=_random(ious, boxes.of, count),
    )


def localization(located: Located) -> Iterator[tuple[str, float, float]]:
    """Success at a consensus IoU of ½ and area over thresholds, of the examples with an object.

    Yields:
      Metric (`ciou`, as papers call the success, and `auc`), its value, and its expectation for a
      random proposal.

    Raises:
      ValueError: no example has an object.
    """
    if not located.has_object.any():
        raise ValueError("has_object is nowhere true: without objects nothing is to be found")
    ious, random = located.iou[located.has_object], located.random[located.has_object].mean(0)
    by_chance = float(random[THRESHOLDS == 0.5][0])
    yield "ciou", metrics.localization_success(ious), by_chance
    yield "auc", metrics.localization_auc(ious), float(np.trapezoid(random, THRESHOLDS))


def counterfactual(located: Located) -> Iterator[tuple[str, float, None]]:
    """Average precision and maximum F1 over all thresholds of the confidence, of all examples.

    Yields:
      Metric (`ap`, `max_f1`), its value, and None: what chance gives is not known.

    Raises:
      ValueError: no example has an object.
    """
    found = metrics.counterfactual_recognition(*located[:3])
    yield "ap", found.average_precision, None
    yield "max_f1", found.max_f1, None


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(losses.unit(vectors))


def _truth_map(truth: Boxes, image: int, agreement: int) -> Float[np.ndarray, "row column"]:
    own = truth.of == image
    by = None if truth.by is None else truth.by[own]
    return metrics.consensus_map(truth.box[own], by, agreement=agreement, size=SIZE)


def _random(ious, proposal_of, count):
    """Share of each example's proposals at or above each threshold."""
    passed = np.zeros((count, len(THRESHOLDS)))
    np.add.at(passed, proposal_of, ious[:, None] >= THRESHOLDS)
    proposals = np.bincount(proposal_of, minlength=count)[:, None]
    return np.where(proposals > 0, passed / np.maximum(proposals, 1), THRESHOLDS == 0)


def _checked(audio, proposals, boxes, truth):
    audio, proposals = np.asarray(audio), np.asarray(proposals)
    if audio.ndim != 2 or audio.size == 0:
        raise ValueError(f"audio must be [example, dim], got shape {audio.shape}")
    if proposals.ndim != 2 or proposals.shape[1] != audio.shape[1]:
        raise ValueError(
            f"proposals must be [proposal, {audio.shape[1]}] as audio is, got {proposals.shape}"
        )
    for name, vectors in (("audio", audio), ("proposals", proposals)):
        finite = np.isfinite(vectors).all(1)
        if not finite.all():
            raise ValueError(f"{name}[{int(np.argmin(finite))}] is not finite")
    sides = []
    for name, side in (("boxes", boxes), ("truth", truth)):
        box = checked_boxes(f"{name}.box", side.box)
        of = owners(f"{name}.of", side.of, len(box), len(audio))
        by = None if side.by is None else np.asarray(side.by)
        if by is not None and by.shape != of.shape:
            raise ValueError(f"{name}.by must be {len(box)} integers, got shape {by.shape}")
        sides.append(Boxes(box, of, by))
    if len(sides[0].box) != len(proposals):
        raise ValueError(f"boxes.box has {len(sides[0].box)} boxes for {len(proposals)} proposals")
    return audio, proposals, *sides
