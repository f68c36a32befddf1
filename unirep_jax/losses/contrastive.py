"""Contrastive kernels: InfoNCE, and MICU's fine-coarse masked InfoNCE over all modality pairs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import accumulation_dtype, dot, kernel, unit

Scalar = float | int | Float[Array, ""]


@kernel(static=("block_size", "axis_name"))
def info_nce(
    queries: Float[Array, "batch dim"],
    keys: Float[Array, "batch dim"],
    *,
    temperature: Scalar,
    where: Bool[Array, "batch"] | None = None,
    block_size: int | None = None,
    axis_name: str | None = None,
) -> Float[Array, "batch"]:
    """InfoNCE of each query against its own key, with the other keys as negatives.

        ℓᵢ = −log( exp(qᵢ·kᵢ/τ) / Σⱼ exp(qᵢ·kⱼ/τ) )

    Similarities are dot products: pass unit vectors for cosines.

    Args:
      queries: [batch, dim].
      keys: [batch, dim]; row i is the positive of query i.
      temperature: τ > 0. Traced: a sweep compiles once.
      where: rows that count; the others are neither queries, positives nor negatives.
      block_size: keys handled at a time. The value is that of the dense form; memory falls from
        O(batch²) to O(batch·block_size), in the backward pass too.
      axis_name: mapped axis whose devices hold the rest of the batch; keys are gathered across it,
        differentiably.

    Returns:
      [batch] in float32 or wider, 0 for rows removed by `where`. One row alone gives 0.

    Reference: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    2018, eq. 4.
    """
    dtype = accumulation_dtype(queries, keys)
    positive = jnp.sum(queries.astype(dtype) * keys.astype(dtype), axis=-1) / temperature
    rows = jnp.ones(queries.shape[:1], bool) if where is None else where
    columns = rows
    if axis_name is not None:
        keys, columns = jax.lax.all_gather((keys, columns), axis_name, tiled=True)
    if block_size is None:
        logits = dot(queries, keys, "id,jd->ij") / temperature
        total = _masked_logsumexp(logits, rows[:, None] & columns[None, :])
    else:
        total = _streamed_logsumexp(queries, keys, columns, positive, temperature, block_size)
    return jnp.where(rows, total - positive, 0)


def _masked_logsumexp(
    logits: Float[Array, "*lead key"], where: Bool[Array, "*lead key"]
) -> Float[Array, "*lead"]:
    """log Σ exp over the columns that count; rows without any give log(keys) and no gradient."""
    logits = jnp.where(where, logits, -jnp.inf)
    return jax.nn.logsumexp(jnp.where(where.any(-1, keepdims=True), logits, 0), axis=-1)


def _streamed_logsumexp(queries, keys, columns, positive, temperature, block_size):
    """`_masked_logsumexp` of queries·keysᵀ/τ, one block of keys at a time (online softmax)."""
    blocks = -(-keys.shape[0] // block_size)
    padding = blocks * block_size - keys.shape[0]
    keys = jnp.pad(keys, ((0, padding), (0, 0))).reshape(blocks, block_size, -1)
    columns = jnp.pad(columns, (0, padding)).reshape(blocks, block_size)

    @jax.checkpoint  # logits of a block are recomputed in the backward pass, never stored
    def add(carry, block):
        peak, total = carry
        block_keys, block_columns = block
        logits = dot(queries, block_keys, "id,jd->ij") / temperature
        logits = jnp.where(block_columns[None, :], logits, -jnp.inf)
        new_peak = jnp.maximum(peak, jax.lax.stop_gradient(logits.max(-1)))
        total = total * jnp.exp(peak - new_peak) + jnp.exp(logits - new_peak[:, None]).sum(-1)
        return (new_peak, total), None

    # The positive is among the keys, so it is a finite lower bound of the peak to start from.
    start = (jax.lax.stop_gradient(positive), jnp.zeros_like(positive))
    (peak, total), _ = jax.lax.scan(add, start, (keys, columns))
    return peak + jnp.log(jnp.where(total > 0, total, 1))


class FineCoarse(NamedTuple):
    """Losses of every ordered pair (query modality, key modality), per example."""

    fine: Float[Array, "modality modality batch"]
    coarse: Float[Array, "modality modality batch"]


@kernel(static=("cosine", "axis_name"))
def fine_coarse_info_nce(
    features: Float[Array, "modality batch time dim"],
    *,
    temperature: Scalar,
    mask: Bool[Array, "#modality batch #time #dim"] | None = None,
    where: Bool[Array, "modality batch"] | None = None,
    cosine: bool = False,
    axis_name: str | None = None,
) -> FineCoarse:
    """Masked InfoNCE within a sample over time (fine) and across samples (coarse).

    With z̄ = mask ⊙ z, for every ordered pair of modalities (m, n), m = n included:

        fineᵢ   = −1/T Σₜ log( exp(z̄ᵐᵢₜ·zⁿᵢₜ/τ) / Σₛ exp(z̄ᵐᵢₜ·zⁿᵢₛ/τ) )
        coarseᵢ = −log( exp(z̄ᵐᵢ·zⁿᵢ/τ) / Σⱼ exp(z̄ᵐᵢ·zⁿⱼ/τ) ),  z̄ᵐᵢ = 1/T Σₜ z̄ᵐᵢₜ, zⁿᵢ likewise

    Args:
      features: continuous features [modality, batch, time, dim].
      temperature: τ > 0, traced.
      mask: what is kept of the queries, broadcast over axes of size 1: [1, batch, time, 1] drops
        whole time steps, [1, batch, 1, dim] the same dimensions at every step; a full first axis
        draws a mask per modality.
      where: presence [modality, batch]. An absent modality is neither query nor key.
      cosine: compare directions instead of dot products; a zero vector then compares as 0.
      axis_name: mapped axis holding the rest of the batch; coarse keys are gathered across it.

    Returns:
      `FineCoarse`, each field [modality, modality, batch] in float32 or wider, 0 where either
      modality is absent. A query masked to zero gives log(time) or log(batch) and no gradient.

    Reference: MICU (Huang et al., ICCV 2025), eq. 4 and 5. The authors' code sums over pairs and
    compares cosines at τ = 0.1; the caller chooses.
    """
    features = features.astype(accumulation_dtype(features))
    queries = features if mask is None else jnp.where(mask, features, 0)
    present = jnp.ones(features.shape[:2], bool) if where is None else where
    direction = unit if cosine else (lambda vectors: vectors)

    logits = dot(direction(queries), direction(features), "mitd,nisd->mnits") / temperature
    own = jnp.diagonal(logits, axis1=-2, axis2=-1)
    fine = jnp.mean(jax.nn.logsumexp(logits, axis=-1) - own, axis=-1)

    query, key = direction(queries.mean(2)), direction(features.mean(2))
    own = dot(query, key, "mid,nid->mni") / temperature
    key_present = present
    if axis_name is not None:
        key, key_present = jax.lax.all_gather((key, present), axis_name, axis=1, tiled=True)
    logits = dot(query, key, "mid,njd->mnij") / temperature
    both = present[:, None] & present[None]
    coarse = _masked_logsumexp(logits, both[..., None] & key_present[None, :, None]) - own

    return FineCoarse(fine=jnp.where(both, fine, 0), coarse=jnp.where(both, coarse, 0))
