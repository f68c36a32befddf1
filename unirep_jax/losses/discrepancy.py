"""Maximum mean discrepancy: a distance between the distributions of two samples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Positive, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import tiled


@kernel(static=("biased", "block_size"))
def maximum_mean_discrepancy(
    x: Float[Array, "row dim"],
    y: Float[Array, "column dim"],
    *,
    bandwidth: Positive | None = None,
    where_x: Bool[Array, "row"] | None = None,
    where_y: Bool[Array, "column"] | None = None,
    biased: bool = True,
    block_size: int | None = None,
) -> Float[Array, ""]:
    """Squared maximum mean discrepancy of two samples under a Gaussian kernel.

        MMD² = mean k(x, x′) + mean k(y, y′) − 2 mean k(x, y),   k(a, b) = exp(−‖a − b‖² / 2σ²)

    Args:
      x, y: samples; they need not be of one size.
      bandwidth: σ > 0. None: the median distance of all pairs of different rows of both samples
        that count, as a constant; 1 if that is 0.
      where_x, where_y: rows that count. An empty sample gives 0.
      biased: means over all pairs, never negative; otherwise those within a sample are over pairs
        of different rows (Gretton et al., eq. 3), which may be negative, and needs two rows of
        each: 0 with fewer.
      block_size: rows compared at a time; memory falls from O(rows²) to O(rows·block_size), in the
        backward pass too. It needs a bandwidth, since the median is of all pairs at once.

    Raises:
      ValueError: blocks without a bandwidth.

    Example:
      >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[2.0], [3.0]])
      >>> print(f"{maximum_mean_discrepancy(x, y, bandwidth=1.0):.3f}")
      1.162

    Reference: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, eq. 3 and 5. COX (ICLR 2025)
    reports it in its figure 5, with a kernel that it does not name.
    """
    if block_size is not None and bandwidth is None:
        raise ValueError(f"block_size={block_size} needs a bandwidth: the median has no blocks")
    dtype = accumulation_dtype(x, y)
    wheres = [jnp.ones(len(s), bool) if w is None else w for s, w in ((x, where_x), (y, where_y))]
    samples = [
        jnp.where(w[:, None], s.astype(dtype), 0) for s, w in zip((x, y), wheres, strict=True)
    ]
    both, where = jnp.concatenate(samples), jnp.concatenate(wheres)
    # Distances do not change with the origin; near it the expansion cancels least.
    center = jnp.sum(both, axis=0) / jnp.maximum(jnp.sum(where, dtype=dtype), 1)
    (x, y), (where_x, where_y) = (s - center[None] for s in samples), wheres
    square = (
        _median_square(both - center[None], where)
        if bandwidth is None
        else jnp.asarray(bandwidth, dtype) ** 2
    )
    count_x, count_y = (jnp.sum(w, dtype=dtype) for w in wheres)
    total = lambda a, b, **same: _similarity(*a, *b, square, block_size, **same)  # type: ignore[call-arg]
    value = -2 * total((x, where_x), (y, where_y)) / jnp.maximum(count_x * count_y, 1)
    for sample, count in (((x, where_x), count_x), ((y, where_y), count_y)):
        pairs = count**2 if biased else count * (count - 1)
        value += total(sample, sample, same=True, own=biased) / jnp.maximum(pairs, 1)
    enough = jnp.minimum(count_x, count_y) >= (1 if biased else 2)
    value = jnp.where(enough, value, 0)
    return jnp.maximum(value, 0) if biased else value


def _similarity(rows, where, columns, column_where, square, block_size, same=False, own=True):
    """Sum of k over the pairs that count; of the `same` sample with or without a row's `own`."""
    places = jnp.arange(len(columns))

    @jax.checkpoint  # similarities of a block are computed again in the backward pass
    def add(total, tile):
        row, keep, place = tile
        pairs = keep[:, None] & column_where[None, :]
        squared = _squared_distances(row, columns)
        if same:
            diagonal = place[:, None] == places[None, :]
            squared = jnp.where(diagonal, 0, squared)
            pairs = pairs if own else pairs & ~diagonal
        return total + jnp.sum(jnp.where(pairs, jnp.exp(-squared / (2 * square)), 0)), None

    tiles = tiled((rows, where, jnp.arange(len(rows))), block_size)
    return jax.lax.scan(add, jnp.zeros((), rows.dtype), tiles)[0]


def _squared_distances(rows, columns):
    norms = [jnp.sum(s * s, axis=1) for s in (rows, columns)]
    product = dot(rows, columns, "id,jd->ij", "highest")
    return jnp.maximum(norms[0][:, None] + norms[1][None, :] - 2 * product, 0)


def _median_square(both, where):
    """Square of the median distance of what counts, a constant; 1 if that is 0.

    Of an even number of pairs the mean of the two distances in the middle.
    """
    both = jax.lax.stop_gradient(both)
    pairs = where[:, None] & where[None, :] & ~jnp.eye(len(both), dtype=bool)
    ordered = jnp.sort(jnp.where(pairs, _squared_distances(both, both), jnp.inf).ravel())
    count = jnp.sum(pairs)
    middle = jnp.sqrt(jnp.stack([ordered[jnp.maximum(count - 1, 0) // 2], ordered[count // 2]]))
    median = jnp.where(count > 0, jnp.mean(middle), 0)
    return jnp.where(median > 0, median, 1) ** 2
