"""The best matches of each query among any number of items."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Found(NamedTuple):
    """Best first. index: rows of the items, [query, k]; score: their cosines, [query, k]."""

    index: Int[np.ndarray, "query k"]  # type: ignore[assignment]
    score: Float[np.ndarray, "query k"]


def search(
    queries: Float[np.ndarray, "query dim"],
    items: Float[np.ndarray, "item dim"],
    *,
    k: int = 10,
    query_block: int = 1024,
    item_block: int = 65536,
) -> Found:
    """The k items with the largest inner products with each query, of unit vectors their cosines.

    Blocks of items pass by the device one after another, so the items may be a memory-mapped file;
    memory is O(query_block · item_block + query · k). Equal scores are in the order of the items.

    Args:
      queries, items: unit vectors of one space.
      k: at most the number of items.

    Raises:
      ValueError: shapes do not fit, a side is empty, k is not within 1 … items, or a row of either
        holds NaN, infinity or a masked entry.
    """
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and items {items.shape} must be [row, dim] of one space"
        )
    if not len(queries) or not 1 <= k <= len(items):
        raise ValueError(f"k={k} of {len(items)} items for {len(queries)} queries")
    checked_queries = _checked("queries", queries, 0, len(queries))
    shape = (len(queries), k)
    score, index = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32)
    for first in range(0, len(items), item_block):
        block = jnp.asarray(_checked("items", items, first, item_block))
        for start in range(0, len(queries), query_block):
            rows = slice(start, start + query_block)
            part = checked_queries[rows]
            score[rows], index[rows] = _merge(part, block, score[rows], index[rows], first)
    return Found(index, score)


def _checked(name: str, rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Some rows in float32, all finite: `top_k` puts NaN before every number."""
    block = rows[first : first + count]
    if isinstance(block, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: pass the rows that count")
    block = np.asarray(block, np.float32)
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}[{first + int(np.argmin(finite))}] is not finite")
    return block


@jax.jit
def _merge(queries, block, score, index, first) -> tuple[Array, Array]:
    """The best of what was found before and of a block whose first item is number `first`."""
    scores = jnp.einsum("qd,id->qi", queries, block, precision="highest")
    count = min(score.shape[1], block.shape[0])
    new_score, new_index = jax.lax.top_k(scores, count)
    # Earlier items come first, and so win ties.
    merged = jnp.concatenate([score, new_score], axis=1)
    numbers = jnp.concatenate([index, (new_index + first).astype(index.dtype)], axis=1)
    best, place = jax.lax.top_k(merged, score.shape[1])
    return best, jnp.take_along_axis(numbers, place, axis=1)
