"""Small data on the device: batches are drawn there, and only example numbers are sent.

What `pipeline` streams, this keeps: the whole set lies in the accelerator's memory, and a step
gathers its batch from it. So several steps can be one program (`train.step.fused_step`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import is_words
from unirep_jax.data.pipeline import epoch_order


class Pool(NamedTuple):
    """Examples of which every batch has the same number.

    rows: integers [row], the examples; count: how many of them a batch has; modalities: those that
    the batch shows; labelled, numbered: whether it shows the label, the number of the example, too.
    together: rows come in runs of so many, a divisor of both numbers, that no batch splits.
    """

    rows: np.ndarray
    count: int  # type: ignore[assignment]
    modalities: tuple[str, ...]
    labelled: bool = False
    numbered: bool = False
    together: int = 1


def is_pool(node: Any) -> bool:
    """Where a tree of pools ends: a `Pool` is itself a tuple."""
    return isinstance(node, Pool)


def resident_arrays(feature_set: FeatureSet, pools: Any) -> dict[str, Any]:
    """What `take` gathers from: features in their own precision, zero where absent, int32 of words.

    And `rows`, those of every pool: as data, so that a program does not belong to one split.
    """
    features = {}
    shown = {m for pool in jax.tree.leaves(pools, is_leaf=is_pool) for m in pool.modalities}
    for modality in sorted(shown):
        array, here = feature_set.features[modality], feature_set.present[modality]
        whole = np.array(array)
        whole[~here] = 0  # before the cast: what stands in absent rows may not fit
        features[modality] = whole.astype(_resident_type(whole), copy=False)
    return {
        "features": features,
        "present": {m: np.asarray(feature_set.present[m]) for m in features},
        "label": feature_set.label,
        "rows": jax.tree.map(lambda pool: pool.rows.astype(np.int32), pools, is_leaf=is_pool),
    }


def _resident_type(array: np.ndarray) -> np.dtype:
    """JAX has no numbers of 64 bits unless it is told to."""
    if is_words(array):
        return np.dtype(np.int32)
    return np.dtype(np.float32) if array.dtype == np.float64 else array.dtype


def take(resident: dict[str, Any], indices: Int[Array, "batch"], pool: Pool) -> dict[str, Any]:
    """The batch of `pool` at these example numbers, in the form that `gather` gives."""
    batch = {
        kind: {m: resident[kind][m][indices] for m in pool.modalities}
        for kind in ("features", "present")
    }
    batch |= {"label": resident["label"][indices]} if pool.labelled else {}
    return batch | ({"index": indices} if pool.numbered else {})


class Whole(NamedTuple):
    """A pool on the device: the numbers of all its examples, and what makes a batch of some."""

    rows: Int[Array, "row"]
    take: Callable[[Int[Array, "batch"]], dict[str, Any]]


def wholes(resident: dict[str, Any], pools: Any) -> Any:
    """Every pool as a `Whole`, in the tree of `pools`."""
    return jax.tree.map(
        lambda pool, rows: Whole(rows, lambda indices: take(resident, indices, pool)),
        pools,
        resident["rows"],
        is_leaf=is_pool,
    )


def index_batches(
    pools: Any,
    *,
    seed: int,
    start_step: int,
    num_steps: int,
    fused: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Any]:
    """Example numbers of the next `fused` steps at a time, int32 [batch, fused] for each pool.

    A pool of N rows gives S = ⌊N / count⌋ batches an epoch, in the order that `pipeline.batches`
    has: a function of (seed, epoch) and, beyond the first pool, of its place. A pool with fewer
    rows than a batch needs repeats them.

    Args:
      pools: a `Pool` or a tree of them.
      start_step, num_steps: multiples of `fused`.
      process_index: of `process_count` processes; each gets its contiguous part of every batch.
      process_count: a divisor of every count.
    """
    leaves, tree = jax.tree.flatten(pools, is_leaf=is_pool)

    def rows(pool: Pool, place: int, step: int) -> np.ndarray:
        share = pool.count // process_count
        whole = _rows(pool, place, seed, step)
        return whole[process_index * share :][:share]

    for first in range(start_step, start_step + num_steps, fused):
        steps = range(first, first + fused)
        indices = [
            np.stack([rows(pool, place, step) for step in steps], axis=1)
            for place, pool in enumerate(leaves)
        ]
        yield jax.tree.unflatten(tree, indices)


def _rows(pool: Pool, place: int, seed: int, step: int) -> Int[np.ndarray, "batch"]:
    runs, count = pool.rows.reshape(-1, pool.together), pool.count // pool.together
    epoch, batch = divmod(step, max(len(runs) // count, 1))
    order = epoch_order(len(runs), seed, epoch + (place << 32))
    chosen = np.resize(order, max(len(order), count))[batch * count :][:count]
    return runs[chosen].reshape(-1).astype(np.int32)
