"""Open-set recognition: which classes are known, and held-out known data for a threshold."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.sample import take

_FEISTEL_ROUNDS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class OpenSetSplit:
    """A data set divided into known and unknown classes.

    feature_set: training examples of known classes, and all labelled test examples. Class i is the
      class known[i] of the original; test examples of other classes have label −1.
    known: original numbers of the known classes, in the order of their new numbers.
    unknown: original numbers of all other classes, ascending.
    rows: int [example], where each example stands in the original, ascending.
    seed: what the known classes were drawn with; None if they were given.
    """

    feature_set: FeatureSet
    known: tuple[int, ...]
    unknown: tuple[int, ...]
    known_names: tuple[str, ...]
    unknown_names: tuple[str, ...]
    rows: np.ndarray
    seed: int | None

    def record(self) -> dict[str, object]:
        """All that is needed to make or compare this split, in types that JSON knows."""
        return {
            "dataset": self.feature_set.name,
            "seed": self.seed,
            "known": list(self.known),
            "unknown": list(self.unknown),
            "known_names": list(self.known_names),
            "unknown_names": list(self.unknown_names),
        }


def osr_split(
    feature_set: FeatureSet, *, known: int | Sequence[int], seed: int = 0
) -> OpenSetSplit:
    """Some classes become the known ones; the others are seen in the test alone, as label −1.

    Training examples of other classes are left out, and so is every unlabelled example, which could
    be of any class. Arrays in memory are copied as far as they are kept, memory-mapped ones stay on
    disk (`mapped.take_rows`).

    Args:
      feature_set: with a training and a test part and at least three classes.
      known: how many classes to draw, ascending by their original number; or their numbers, which
        then keep the given order.
      seed: of the draw, ≥ 0; not used when the classes are given. Each seed has its own classes:
        two seeds agree only if they are equal modulo the number of possible choices, C(classes,
        known). Every choice is equally likely.

    Raises:
      ValueError: fewer than 2 known classes or no unknown one, a number repeated or out of range,
        a negative seed, a known class without training or test examples, or no unknown example in
        the test part.
    """
    classes = feature_set.num_classes
    if isinstance(known, int | np.integer):
        chosen = draw_classes(classes, int(known), seed)
    else:
        chosen = tuple(int(c) for c in known)
    _check_choice(chosen, classes)
    new_label = np.full(classes + 1, -1, np.int32)  # the last entry serves label −1
    new_label[list(chosen)] = np.arange(len(chosen), dtype=np.int32)
    label = new_label[feature_set.label]

    rows = np.flatnonzero(np.where(feature_set.train, label >= 0, feature_set.label >= 0))
    part = _select(
        feature_set,
        rows,
        label=label[rows],
        train=feature_set.train[rows],
        class_names=tuple(feature_set.class_names[c] for c in chosen),
    )
    _check_parts(part, chosen)
    unknown = tuple(c for c in range(classes) if c not in chosen)
    return OpenSetSplit(
        feature_set=part,
        known=chosen,
        unknown=unknown,
        known_names=part.class_names,
        unknown_names=tuple(feature_set.class_names[c] for c in unknown),
        rows=rows,
        seed=int(seed) if isinstance(known, int | np.integer) else None,
    )


def hold_out(feature_set: FeatureSet, *, share: float, seed: int) -> FeatureSet:
    """The training examples alone, divided into those to fit and those held out (`train` False).

    For the rejection threshold or any other choice that must not see the test. Groups (persons, for
    instance) are never divided: they are visited in an order drawn by the seed, and one is held out
    if that brings the counts of the classes nearer to what they should be,

        Σ_c (held_c − share · n_c)²,

    and leaves every class something to fit. Where every example is its own group this holds out
    round(share · n_c) of each class. If no group brings the counts nearer, because all are large,
    the one that changes them least is held out.

    Args:
      feature_set: all of whose training examples are labelled, as after `osr_split`.
      share: of the training examples, between 0 and 1.
      seed: of the order, ≥ 0.

    Raises:
      ValueError: share is not between 0 and 1, a training example is unlabelled, or no group can be
        held out without taking the last examples of a class.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    rows = np.flatnonzero(feature_set.train)
    label = feature_set.label[rows]
    if (label < 0).any():
        raise ValueError(f"training example {rows[np.argmin(label)]} is unlabelled")
    _, group = np.unique(feature_set.group[rows], return_inverse=True)
    counts = np.zeros((group.max() + 1, feature_set.num_classes))
    np.add.at(counts, (group, label), 1)
    held_group = _choose_groups(counts, share, np.random.default_rng(seed))
    return _select(feature_set, rows, label=label, train=~held_group[group])


def draw_classes(classes: int, count: int, seed: int) -> tuple[int, ...]:
    """`count` different ones of 0 … classes − 1, ascending; another seed gives other ones.

    All choices are numbered, and a fixed pseudo-random permutation of these numbers assigns one to
    each seed, so the first C(classes, count) seeds give every choice exactly once.

    Raises:
      ValueError: there is no such choice, or the seed is negative.
    """
    if not 0 <= count <= classes:
        raise ValueError(f"known={count}: cannot draw that many of {classes} classes")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    choices = math.comb(classes, count)
    rank = _permuted(seed % choices, choices)
    chosen = []
    for c in range(classes):  # choices that hold c come, in this numbering, before the others
        with_c = math.comb(classes - c - 1, count - len(chosen) - 1) if len(chosen) < count else 0
        if rank < with_c:
            chosen.append(c)
        else:
            rank -= with_c
    return tuple(chosen)


def _permuted(number: int, count: int) -> int:
    """Where a fixed pseudo-random permutation of 0 … count − 1 takes a number.

    A Feistel network over enough bits, repeated until the result is below count.
    """
    bits = max(1, (count.bit_length() + 1) // 2)
    while True:
        left, right = number >> bits, number & ((1 << bits) - 1)
        for turn in range(_FEISTEL_ROUNDS):
            digest = hashlib.shake_256(f"{count} {turn} {right}".encode()).digest(bits // 8 + 1)
            left, right = right, left ^ (int.from_bytes(digest, "big") & ((1 << bits) - 1))
        number = left << bits | right
        if number < count:
            return number


def _choose_groups(counts: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool [group]: which to hold out, given the examples [group, class]; see `hold_out`."""
    total = counts.sum(axis=0)
    missing = share * total  # how many of each class are still to be held out
    left = total.copy()
    held = np.zeros(len(counts), bool)
    order = rng.permutation(len(counts))
    for g in order:
        change = counts[g] @ (counts[g] - 2 * missing)  # of the sum of squares
        if change < 0 and ((left > counts[g]) | (counts[g] == 0)).all():
            held[g] = True
            missing = missing - counts[g]
            left -= counts[g]
    if not held.any():
        possible = order[((total > counts[order]) | (counts[order] == 0)).all(axis=1)]
        if not len(possible):
            raise ValueError(
                f"none of the {len(counts)} groups can be held out: each has all training examples "
                "of some class"
            )
        change = np.sum(counts[possible] * (counts[possible] - 2 * missing), axis=1)
        held[possible[np.argmin(change)]] = True
    return held


def _select(feature_set: FeatureSet, rows: np.ndarray, **changes) -> FeatureSet:
    """The rows of a checked feature set, with some of its fields changed."""
    return dataclasses.replace(take(feature_set, rows), **changes)


def _check_choice(known: tuple[int, ...], classes: int) -> None:
    if len(set(known)) < len(known):
        twice = next(c for c in known if known.count(c) > 1)
        raise ValueError(f"known: class {twice} is given twice")
    for c in known:
        if not 0 <= c < classes:
            raise ValueError(f"known: class {c} is not within 0 … {classes - 1}")
    if not 2 <= len(known) < classes:
        raise ValueError(
            f"{len(known)} known classes of {classes}; at least 2 must be known and 1 unknown"
        )


def _check_parts(part: FeatureSet, known: tuple[int, ...]) -> None:
    for name, rows in (("training", part.train), ("test", ~part.train)):
        found = np.bincount(part.label[rows & (part.label >= 0)], minlength=len(known))
        if not found.all():
            lacking = int(np.argmin(found))
            raise ValueError(
                f"known class {known[lacking]} ({part.class_names[lacking]}) has no {name} examples"
            )
    if not (part.label < 0).any():
        raise ValueError("no test example is of an unknown class")
