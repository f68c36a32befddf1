"""Wrong correspondence, on purpose: pairs of a feature set that do not belong together."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from unirep_jax.data.features import FeatureSet

KINDS = ("batch", "set", "unpaired", "missing")
Rng = np.random.Generator
Rows = Int[np.ndarray, "row"]


class Mispaired(NamedTuple):
    """A feature set with wrong pairs, and the truth about them.

    source: by modality, the example that the features of each row are of.
    """

    data: FeatureSet
    source: Mapping[str, Int[np.ndarray, "example"]]


def mispair(
    data: FeatureSet, rows: Rows, *, kind: str, share: float, block: int, seed: int
) -> Mispaired:
    """The feature set with a share of these rows no longer what it was; the others stay.

    The first modality keeps its place; every other one is drawn on its own.

    Args:
      data: whose pairs are true.
      rows: that may be changed, for instance the training examples.
      kind: "batch": features change places within blocks of rows (`blocks`), so that the partner of
        a row is near; "set": within all rows. "missing": one modality but the first is taken away;
        "unpaired": an example keeps a single modality.
      share: of the rows, in [0, 1]. Of two or more that change places none keeps its own.
      block: rows of a block.
      seed: of the draw.

    Raises:
      ValueError: there is no such kind, or a number is out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"task.noise={kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= share <= 1:
        raise ValueError(f"task.share={share} is not within 0 … 1")
    rng = np.random.default_rng([seed, 1])  # blocks have a generator of their own
    if kind in ("batch", "set"):
        parts = [*blocks(rows, block, seed)] if kind == "batch" else [rows]
        return _shuffled(data, parts, share, rng)
    chosen = rng.permutation(rows)[: round(share * len(rows))]
    return _without(data, chosen, rng, paired=kind == "missing")


def blocks(rows: Rows, block: int, seed: int) -> Int[np.ndarray, "block row"]:
    """The rows in random blocks of `block`; what is left over is in none.

    Raises:
      ValueError: there are fewer rows than a block has, or a block has fewer than two.
    """
    if not 2 <= block <= len(rows):
        raise ValueError(f"task.block={block} is not within 2 … {len(rows)} training examples")
    order = np.random.default_rng([seed, 0]).permutation(rows)
    return order[: len(order) // block * block].reshape(-1, block)


def _shuffled(data: FeatureSet, parts: list[Rows], share: float, rng: Rng) -> Mispaired:
    """Every modality but the first changes places within each part."""
    source = {m: np.arange(len(data.label)) for m in data.modalities}
    for m in data.modalities[1:]:
        for part in parts:
            chosen = rng.permutation(part)[: round(share * len(part))]
            source[m][chosen] = np.roll(chosen, 1)  # a cycle: nothing stays where it was
    first = data.modalities[0]
    features = {m: x if m == first else x[source[m]] for m, x in data.features.items()}
    present = {m: p[source[m]] for m, p in data.present.items()}
    return Mispaired(dataclasses.replace(data, features=features, present=present), source)


def _without(data: FeatureSet, chosen: Rows, rng: Rng, *, paired: bool) -> Mispaired:
    """The chosen examples without some modality: `paired`, one of them; else all but one."""
    names = data.modalities
    drawn = rng.integers(1 if paired else 0, len(names), len(chosen))
    present = {m: p.copy() for m, p in data.present.items()}
    for place, m in enumerate(names):
        present[m][chosen[(drawn == place) == paired]] = False
    empty = ~np.any(list(present.values()), axis=0)  # had nothing else before
    present = {m: np.where(empty, data.present[m], p) for m, p in present.items()}
    source = {m: np.arange(len(data.label)) for m in names}
    return Mispaired(dataclasses.replace(data, present=present), source)
