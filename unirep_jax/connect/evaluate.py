"""The protocols of C-MCR on embeddings of a common space: (value, chance) by metric and row."""

import numpy as np
from jaxtyping import Float, Int

from unirep_jax.evaluation import localization as protocols
from unirep_jax.evaluation import retrieval as searching
from unirep_jax.evaluation.zero_shot import zero_shot

Rows = dict[str, dict[str, tuple[float, float | None]]]


def retrieval(
    first: Float[np.ndarray, "pair dim"],
    second: Float[np.ndarray, "pair dim"],
    label: Int[np.ndarray, "pair"] | None = None,
) -> Rows:
    """Recalls, median rank and mean average precision in both directions, row i being a pair.

    Args:
      label: class of each pair, for the mean average precision of classes; −1 = none.

    Raises:
      ValueError: the banks are not of one space and one number of pairs.
    """
    if first.shape != second.shape:
        raise ValueError(f"banks of pairs have shapes {first.shape} and {second.shape}")
    label = np.full(len(first), -1) if label is None else label
    if label.shape != (len(first),):
        raise ValueError(f"label has shape {label.shape} for {len(first)} pairs")
    one, other = (
        searching.Rows((np.asarray(x, np.float32),), np.arange(len(x)), label)
        for x in (first, second)
    )
    return {
        title: {m: (v, c) for m, v, c in searching.search(queries, items, searching.cosine)}
        for title, queries, items in (
            ("first → second", one, other),
            ("second → first", other, one),
        )
    }


def classification(
    items: Float[np.ndarray, "example dim"],
    prompts: Float[np.ndarray, "class template dim"],
    label: Int[np.ndarray, "example"],
) -> Rows:
    """Top-1, top-3 and top-5 accuracy of zero-shot classification; errors as `zero_shot`."""
    return {"items": {m: (v, c) for m, v, c in zero_shot(items, prompts, label)}}


def localization(
    audio: Float[np.ndarray, "image dim"],
    proposals: Float[np.ndarray, "proposal dim"],
    boxes: dict[str, np.ndarray],
    *,
    agreement: int = 1,
) -> Rows:
    """Localisation of the sounds of images and, if some have no object, counterfactual recognition.

    Args:
      boxes: proposal_box [proposal, 4] and proposal_of [proposal], the image of each; truth_box
        [box, 4], truth_of [box] and, if several people annotated, truth_by [box].
      agreement: how many annotators make a pixel count in full.

    Raises:
      ValueError: an array is missing or unknown, or as `locate`.
    """
    needed = {"proposal_box", "proposal_of", "truth_box", "truth_of"}
    for name in sorted(needed ^ (boxes.keys() - {"truth_by"})):
        raise ValueError(f"boxes: array {name!r} is {'missing' if name in needed else 'unknown'}")
    located = protocols.locate(
        audio,
        proposals,
        protocols.Boxes(boxes["proposal_box"], boxes["proposal_of"]),
        protocols.Boxes(boxes["truth_box"], boxes["truth_of"], boxes.get("truth_by")),
        agreement=agreement,
    )
    rows: Rows = {"localisation": {m: (v, c) for m, v, c in protocols.localization(located)}}
    if not located.has_object.all():
        counterfactual = protocols.counterfactual(located)
        rows["counterfactual"] = {m: (v, c) for m, v, c in counterfactual}
    return rows
