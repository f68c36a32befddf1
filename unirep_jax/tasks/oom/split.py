"""Out-of-modal generalisation: few labelled pairs, and else no trace of what belongs together."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from unirep_jax.data.features import FeatureSet

_LABELLED, _KEPT, _SHUFFLE, _VALIDATION = range(4)  # what a generator is for


class OutOfModalSplit(NamedTuple):
    """Training examples by what training may see of them, as row numbers, ascending.

    labelled: all modalities together, and the label. unlabelled: the out-of-modal modality alone.
    in_modal: the other modalities together, and the label. validation: as labelled, but no gradient
    sees them.
    """

    labelled: Int[np.ndarray, "labelled"]
    unlabelled: Int[np.ndarray, "unlabelled"]
    in_modal: Int[np.ndarray, "in_modal"]
    validation: Int[np.ndarray, "validation"]


def out_of_modal_split(
    data: FeatureSet,
    *,
    modality: str,
    labelled: float,
    in_modal: float = 1.0,
    validation: float = 0.0,
    seed: int = 0,
) -> OutOfModalSplit:
    """Which training examples are paired and labelled, and what the others give.

    The labelled ones are spread over the classes as evenly as these allow: in every round each
    class that still has examples gives one, and in the last round classes drawn at random do. All
    other examples give what they have, each side for itself.

    Args:
      data: of two modalities or more.
      modality: the out-of-modal one.
      labelled: share of the training examples to pair and label; 0 for none.
      in_modal: share of the other examples whose in-modal side is kept.
      validation: share of the labelled examples that training does not see, spread over the classes
        likewise.
      seed: of all draws, ≥ 0.

    Raises:
      ValueError: no such modality; a share out of range; fewer labelled examples than classes; or
        no training example that has the out-of-modal modality.

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), section 4.1; figure 8 for `in_modal`.
    """
    if modality not in data.modalities:
        raise ValueError(f"modality {modality!r} is none of {', '.join(data.modalities)}")
    if not 0 <= labelled <= 1:
        raise ValueError(f"labelled={labelled} is not between 0 and 1")
    if not 0 < in_modal <= 1:
        raise ValueError(f"in_modal={in_modal} is not above 0 and at most 1")
    outside = data.train & data.present[modality]
    others = [data.present[m] for m in data.modalities if m != modality]
    inside = data.train & np.any(others, axis=0) & (data.label >= 0)
    if not outside.any():
        raise ValueError(f"no training example has the modality {modality!r}")
    paired = np.zeros_like(data.train)
    if labelled:
        possible = np.flatnonzero(outside & inside)
        count = round(labelled * len(possible))
        classes = len(np.unique(data.label[possible]))
        if count < classes:
            raise ValueError(
                f"labelled={labelled}: {count} of {len(possible)} examples for {classes} classes"
            )
        paired[possible[evenly(data.label[possible], count, _generator(seed, _LABELLED))]] = True
    pairs = np.flatnonzero(paired)
    held = np.zeros(len(pairs), bool)
    if validation:
        count, generator = round(validation * len(pairs)), _generator(seed, _VALIDATION)
        held = evenly(data.label[pairs], count, generator)
    if validation and (held.all() or not held.any()):
        raise ValueError(f"validation={validation} of {len(pairs)} pairs leaves none on one side")
    rest = np.flatnonzero(inside & ~paired)
    kept = _generator(seed, _KEPT).permutation(rest)[: round(in_modal * len(rest))]
    unlabelled = np.flatnonzero(outside & ~paired)
    return OutOfModalSplit(pairs[~held], unlabelled, np.sort(kept), pairs[held])


def unpaired(data: FeatureSet, modality: str, rows: Int[np.ndarray, "row"], seed: int):
    """The feature set with the `modality` of these examples exchanged among them at random.

    Their label and other modalities stay, so nothing tells any more which of them belong together.
    """
    array = np.array(data.features[modality])
    array[rows] = array[_generator(seed, _SHUFFLE).permutation(rows)]
    return dataclasses.replace(data, features=data.features | {modality: array})


def evenly(
    label: Int[np.ndarray, "row"], count: int, generator: np.random.Generator
) -> Bool[np.ndarray, "row"]:
    """`count` rows, of every class as many as of any other as long as it has so many."""
    order = generator.permutation(len(label))
    turn = np.empty(len(label), int)  # the round in which a row would be taken
    for c in np.unique(label):
        members = order[label[order] == c]
        turn[members] = np.arange(len(members))
    chosen = np.zeros(len(label), bool)
    chosen[order[np.argsort(turn[order], kind="stable")[:count]]] = True
    return chosen


def _generator(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, purpose))
