"""How far apart two samples are as distributions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Scalar, accumulation_dtype, dot, kernel


@kernel(static=("biased",))
def maximum_mean_discrepancy(
    x: Float[Array, "row dim"],
    y: Float[Array, "column dim"],
    *,
    bandwidth: Scalar | None = None,
    where_x: Bool[Array, "row"] | None = None,
    where_y: Bool[Array, "column"] | None = None,
    biased: bool = True,
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

    Memory is quadratic in the rows of both.

    Reference: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, eq. 3 and 5. COX (ICLR 2025)
    reports it in its figure 5, with a kernel that it does not name.
    """
    dtype = accumulation_dtype(x, y)
    both = jnp.concatenate([x.astype(dtype), y.astype(dtype)])
    masks = [jnp.ones(len(s), bool) if w is None else w for s, w in ((x, where_x), (y, where_y))]
    where = jnp.concatenate(masks)
    both = jnp.where(where[:, None], both, 0)
    # Distances do not change with the origin; near it the expansion cancels least.
    both = both - jnp.sum(both, axis=0, keepdims=True) / jnp.maximum(jnp.sum(where, dtype=dtype), 1)
    norm = jnp.sum(both * both, axis=1)
    squared = norm[:, None] + norm[None, :] - 2 * dot(both, both, "id,jd->ij", "highest")
    same = jnp.eye(len(both), dtype=bool)
    squared = jnp.where(same, 0, jnp.maximum(squared, 0))
    pairs = where[:, None] & where[None, :]
    scale = _median_square(squared, pairs & ~same) if bandwidth is None else bandwidth**2
    similarity = jnp.exp(-squared / (2 * jnp.asarray(scale, dtype)))

    n, least = len(x), 1 if biased else 2
    count_x, count_y = (jnp.sum(mask, dtype=dtype) for mask in masks)

    def within(block, keep, count):
        keep = keep if biased else keep & ~jnp.eye(len(block), dtype=bool)
        pairs_of = count**2 if biased else count * (count - 1)
        return jnp.sum(jnp.where(keep, block, 0)) / jnp.maximum(pairs_of, 1)

    across = jnp.sum(jnp.where(pairs[:n, n:], similarity[:n, n:], 0))
    value = within(similarity[:n, :n], pairs[:n, :n], count_x)
    value += within(similarity[n:, n:], pairs[n:, n:], count_y)
    value -= 2 * across / jnp.maximum(count_x * count_y, 1)
    value = jnp.where((count_x >= least) & (count_y >= least), value, 0)
    return jnp.maximum(value, 0) if biased else value


def _median_square(squared, where):
    """Median of what counts, of an even number the mean of the middle distances, squared."""
    ordered = jnp.sort(jnp.where(where, squared, jnp.inf).ravel())
    count = jnp.sum(where)
    middle = jnp.sqrt(jnp.stack([ordered[jnp.maximum(count - 1, 0) // 2], ordered[count // 2]]))
    median = jnp.where(count > 0, jnp.mean(middle), 0)
    return jax.lax.stop_gradient(jnp.where(median > 0, median, 1) ** 2)
