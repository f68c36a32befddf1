"""Sound source localisation: boxes on a grid, consensus of annotators, and overlap with it.

Boxes are x1, y1, x2, y2 in 0 … 1, from the upper left corner; maps are [row, column].
"""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from unirep_jax.metrics._checks import as_array, finite_scores, fraction

SIZE = 224  # of the grid on which papers compare boxes
THRESHOLDS = np.arange(21) / 20


def box_maps(
    boxes: Float[ArrayLike, "box 4"], *, size: int = SIZE
) -> Bool[np.ndarray, "box row column"]:
    """Which pixels of a grid each box covers.

        covered(r, c) = ⌊y1·S⌋ ≤ r < ⌊y2·S⌋  and  ⌊x1·S⌋ ≤ c < ⌊x2·S⌋

    A box that starts and ends in the same row or column of pixels covers none.

    Args:
      boxes: [box, 4].
      size: S, rows and columns of the grid.

    Raises:
      ValueError: not such boxes, or a size below 1.
    """
    x1, y1, x2, y2 = _corners(boxes, size).T[..., None]
    pixel = np.arange(size)
    rows, columns = (y1 <= pixel) & (pixel < y2), (x1 <= pixel) & (pixel < x2)
    return rows[:, :, None] & columns[:, None, :]


def consensus_map(
    boxes: Float[ArrayLike, "box 4"],
    annotator: Int[ArrayLike, "box"] | None = None,
    *,
    agreement: int = 1,
    size: int = SIZE,
) -> Float[np.ndarray, "row column"]:
    """Share of the agreement that is asked for, pixel by pixel of one image.

        g = min(1, 1/A Σₐ [covered by a box of annotator a])

    Args:
      boxes: [box, 4]; without any the map is 0.
      annotator: [box], who drew each box; by default each is another's.
      agreement: A, how many annotators make a pixel count in full. 1 is the union of the boxes, as
        for VGG-SS; 2 is the consensus of Flickr-SoundNet, where one annotator's pixel counts half.
      size: rows and columns of the grid.

    Raises:
      ValueError: not such boxes, one annotator for each, or positive numbers.

    Reference: Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018.
    """
    maps = box_maps(boxes, size=size)
    by = np.arange(len(maps)) if annotator is None else as_array("annotator", annotator)
    if by.shape != (len(maps),) or not np.issubdtype(by.dtype, np.integer):
        raise ValueError(f"annotator must be {len(maps)} integers, got {by.dtype} {by.shape}")
    if agreement < 1:
        raise ValueError(f"agreement must be at least 1, got {agreement}")
    votes = np.zeros((size, size), np.float32)
    for person in np.unique(by):
        votes += maps[by == person].any(0)
    return np.minimum(votes / np.float32(agreement), 1)


def consensus_iou(
    prediction_map: Float[ArrayLike, "*image row column"],
    ground_truth_map: Float[ArrayLike, "*image row column"],
) -> Float[np.ndarray, "*image"]:
    """Consensus intersection over union of predicted and true maps, image by image.

        cIoU = Σ p·g / ( Σ g + Σ p·[g = 0] )

    Args:
      prediction_map: p in 0 … 1, as a box's map or a thresholded heat map.
      ground_truth_map: g in 0 … 1, as `consensus_map` gives it.

    Returns:
      [image] in float64, 0 where both maps are empty.

    Raises:
      ValueError: maps of different shapes, or with entries outside 0 … 1.

    Reference: Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018.
    """
    predicted = _map("prediction_map", prediction_map)
    truth = _map("ground_truth_map", ground_truth_map)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"prediction_map has shape {predicted.shape}, ground_truth_map {truth.shape}"
        )
    pixels: dict[str, Any] = {"axis": (-2, -1), "dtype": np.float64}
    return _ratio(
        np.sum(predicted * truth, **pixels),
        np.sum(truth, **pixels),
        np.sum(predicted * (truth == 0), **pixels),
    )


def box_consensus_iou(
    boxes: Float[ArrayLike, "box 4"],
    ground_truth_map: Float[ArrayLike, "image size size"],
    image_of: Int[ArrayLike, "box"],
) -> Float[np.ndarray, "box"]:
    """`consensus_iou` of the map of each box, which is never formed.

    Sums over a box are four entries of the map's double cumulative sum, so any number of boxes
    costs no more than reading the maps once.

    Args:
      boxes: [box, 4].
      ground_truth_map: [image, size, size] in 0 … 1.
      image_of: [box], the image to which each box belongs.

    Returns:
      [box] in float64.

    Raises:
      ValueError: not such boxes or maps, or an image that there is not.
    """
    truth = _map("ground_truth_map", ground_truth_map)
    if truth.ndim != 3 or truth.shape[1] != truth.shape[2]:
        raise ValueError(f"ground_truth_map must be [image, size, size], got {truth.shape}")
    corners = _corners(boxes, truth.shape[1])
    image = owners("image_of", image_of, len(corners), len(truth))

    def over_box(maps):
        sums = np.zeros((len(maps), *(n + 1 for n in maps.shape[1:])))
        sums[:, 1:, 1:] = maps.cumsum(1, dtype=np.float64).cumsum(2)
        x1, y1, x2, y2 = corners.T
        return sums[image, y2, x2] - sums[image, y1, x2] - sums[image, y2, x1] + sums[image, y1, x1]

    whole = truth.sum((1, 2), dtype=np.float64)[image]
    return _ratio(over_box(truth), whole, over_box(truth == 0))


def localization_success(ious: Float[ArrayLike, "image"], *, threshold: float = 0.5) -> float:
    """Share of images with a consensus IoU of at least the threshold: what papers print as "cIoU".

    Args:
      ious: [image], of `consensus_iou`.
      threshold: in (0, 1].

    Raises:
      ValueError: no image, an IoU outside 0 … 1, or such a threshold.
    """
    return float(np.mean(checked_ious(ious) >= fraction("threshold", threshold)))


def localization_auc(ious: Float[ArrayLike, "image"]) -> float:
    """Area under the share of images with an IoU of at least t, over t = 0, 0.05, …, 1.

    By trapezoids. An image at 0 adds 1/40, not 0, as in the evaluators that papers use; there t is
    0.05·k in floating point, which can part from k/20 for an IoU that is exactly on it.

    Args and Raises: as `localization_success`.
    """
    shares = np.mean(checked_ious(ious)[:, None] >= THRESHOLDS, axis=0)
    return float(np.trapezoid(shares, THRESHOLDS))


class BestProposals(NamedTuple):
    """The predicted proposal of each example.

    index: its place among all proposals, −1 where the example has none; score: its score, −∞ there.
    """

    index: Int[np.ndarray, "example"]  # type: ignore[assignment]
    score: Float[np.ndarray, "example"]


def best_proposals(
    scores: Float[ArrayLike, "proposal"],
    proposal_of: Int[ArrayLike, "proposal"],
    num_examples: int,
) -> BestProposals:
    """The proposal of the highest score of each example, the lowest index among equals.

    Args:
      scores: [proposal], higher = better match.
      proposal_of: [proposal], the example to which each proposal belongs, in any order.
      num_examples: how many examples there are, with or without proposals.

    Raises:
      ValueError: scores that are not finite, or an example that there is not.
    """
    index = np.full(num_examples, -1)
    best = np.full(num_examples, -np.inf)
    if np.size(scores) == 0 and np.size(proposal_of) == 0:
        return BestProposals(index, best)
    scores = finite_scores("scores", scores)
    example = owners("proposal_of", proposal_of, len(scores), num_examples)
    order = np.lexsort((-scores, example))  # stable: equal scores stay in order
    having, first = np.unique(example[order], return_index=True)
    index[having] = order[first]
    best[having] = scores[order[first]]
    return BestProposals(index, best)


def checked_ious(ious: Float[ArrayLike, "image"]) -> Float[np.ndarray, "image"]:
    """`ious` as a float64 vector of at least one number in 0 … 1."""
    ious = finite_scores("ious", ious)
    outside = (ious < 0) | (ious > 1)
    if outside.any():
        place = int(np.argmax(outside))
        raise ValueError(f"ious[{place}] is {ious[place]}, and not in 0 … 1")
    return ious


def owners(name: str, values: ArrayLike, length: int, upto: int) -> Int[np.ndarray, "row"]:
    """`values` as `length` integers from 0, below `upto`."""
    array = as_array(name, values)
    if array.shape != (length,) or not (np.issubdtype(array.dtype, np.integer) or length == 0):
        raise ValueError(f"{name} must be {length} integers, got {array.dtype} {array.shape}")
    outside = (array < 0) | (array >= upto)
    if outside.any():
        place = int(np.argmax(outside))
        raise ValueError(f"{name}[{place}] is {array[place]}, and not in [0, {upto})")
    return array.astype(np.int64)


def checked_boxes(name: str, boxes: ArrayLike) -> Float[np.ndarray, "box 4"]:
    """`boxes` as float64 rows x1, y1, x2, y2 in 0 … 1, in this order."""
    boxes = as_array(name, boxes).astype(np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must be [box, 4], got shape {boxes.shape}")
    inside = ((boxes >= 0) & (boxes <= 1)).all(1)  # false of NaN
    good = inside & (boxes[:, 0] <= boxes[:, 2]) & (boxes[:, 1] <= boxes[:, 3])
    if not good.all():
        place = int(np.argmin(good))
        raise ValueError(
            f"{name}[{place}] is {boxes[place].tolist()}: x1, y1, x2, y2 must be in 0 … 1, "
            "x1 ≤ x2 and y1 ≤ y2"
        )
    return boxes


def _corners(boxes: ArrayLike, size: int) -> Int[np.ndarray, "box 4"]:
    """First and last-plus-one column and row of each box, as x1, y1, x2, y2."""
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    return np.floor(checked_boxes("boxes", boxes) * size).astype(np.int64)


def _map(name: str, values: ArrayLike) -> np.ndarray:
    array = as_array(name, values)
    array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)
    if array.ndim < 2:
        raise ValueError(f"{name} must be [..., row, column], got shape {array.shape}")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name} must be in 0 … 1")
    return array


def _ratio(shared, truth, beyond):
    union = truth + beyond
    return shared / np.where(union > 0, union, 1)
