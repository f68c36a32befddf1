"""Emergent correspondence: the example of another modality that lies nearest in a common space."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import accumulation_dtype, dot, kernel
from unirep_jax.losses.symmetric import tiled, untiled


class Correspondence(NamedTuple):
    """distance: to the nearest counterpart, inf where there is none; index: which one it is."""

    distance: Float[Array, "query"]
    index: Int[Array, "query"]


@kernel(static=("block_size",))
def nearest_correspondence(
    features: Float[Array, "query dim"],
    mapped: Float[Array, "head item dim"],
    *,
    where: Bool[Array, "item"] | None = None,
    block_size: int = 1024,
) -> Correspondence:
    """For each feature the item whose mappings are nearest to it on average.

        distⱼ = minᵢ 1/K Σₖ ‖zⱼ − vₖᵢ‖

    The mean is over norms, not squares. Items are compared by ‖z‖² + ‖v‖² − 2z·v, that is, by
    matrix products, which of points that nearly coincide are right to about 10⁻³ ‖z‖ only; the
    distance of the item chosen is computed again from the difference. Nothing larger than
    block_size × block_size is made.

    Args:
      features: [query, dim]. mapped: [head, item, dim], K mappings of every item.
      where: items that can be chosen.
      block_size: queries and items handled at a time.

    Of equally near items the first is chosen. It has no gradient: distance is a constant, too.

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), section 3.4, the set A of eq. 15.
    """
    dtype = accumulation_dtype(features, mapped)
    z = jax.lax.stop_gradient(features).astype(dtype)
    items = jnp.swapaxes(jax.lax.stop_gradient(mapped).astype(dtype), 0, 1)
    where = jnp.ones(len(items), bool) if where is None else where
    # Distances do not change with the origin; near it the expansion cancels least.
    center = jnp.mean(z, axis=0, keepdims=True)
    queries, item_blocks = (
        tiled(z - center, block_size),
        tiled((items - center[None], where), block_size),
    )
    starts = jnp.arange(len(item_blocks[1])) * item_blocks[1].shape[1]

    def nearest(query):
        norm = jnp.sum(query * query, axis=1)

        def fold(best, block):
            (vectors, there), start = block
            product = dot(query, vectors, "qd,ikd->kqi", "highest")
            squared = norm[None, :, None] - 2 * product
            squared += jnp.sum(vectors * vectors, axis=2).T[:, None, :]
            distance = jnp.sqrt(jnp.maximum(squared, 0)).mean(axis=0)
            distance = jnp.where(there[None, :], distance, jnp.inf)
            here = jnp.argmin(distance, axis=1)
            least = jnp.take_along_axis(distance, here[:, None], axis=1)[:, 0]
            closer = least < best[0]
            index = (start + here).astype(jnp.int32)
            return (jnp.where(closer, least, best[0]), jnp.where(closer, index, best[1])), None

        first = (jnp.full(norm.shape, jnp.inf, dtype), jnp.zeros(norm.shape, jnp.int32))
        return jax.lax.scan(fold, first, (item_blocks, starts))[0]

    rough, index = (untiled(x, len(z)) for x in jax.lax.map(nearest, queries))
    difference = z[:, None] - items[index]
    exact = jnp.sqrt(jnp.sum(difference * difference, axis=2)).mean(axis=1)
    return Correspondence(jnp.where(jnp.isfinite(rough), exact, jnp.inf), index)
