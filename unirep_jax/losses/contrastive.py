"""Contrastive kernels: InfoNCE, and MICU's fine-coarse masked InfoNCE over all modality pairs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Positive, cross_entropy, dot, kernel, unit
from unirep_jax.losses.precision import accumulation_dtype


@kernel(static=("block_size", "axis_name"))
def info_nce(
    queries: Float[Array, "batch dim"],
    keys: Float[Array, "batch dim"],
    *,
    temperature: Positive,
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

    Example:
      >>> audio, video = jnp.eye(3), jnp.eye(3)
      >>> print(info_nce(audio, video, temperature=1.0))
      [0.551 0.551 0.551]
      >>> present = jnp.array([True, True, False])
      >>> print(info_nce(audio, video, temperature=1.0, where=present))
      [0.313 0.313 0.   ]

    Reference: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    2018, eq. 4.
    """
    batch = queries.shape[0]
    rows = jnp.ones(batch, bool) if where is None else where
    # Removed rows may hold anything, also NaN, which a zero cotangent would not stop.
    queries, keys = (jnp.where(rows[:, None], vectors, 0) for vectors in (queries, keys))
    columns, own = rows, jnp.arange(batch)
    if axis_name is not None:
        keys, columns = jax.lax.all_gather((keys, columns), axis_name, tiled=True)
        own = own + jax.lax.axis_index(axis_name) * batch
    if block_size is None:
        logits = dot(queries, keys, "id,jd->ij") / temperature
        loss = cross_entropy(logits, own, rows[:, None] & columns[None, :])
    else:
        loss = _streamed_cross_entropy(queries, keys, own, columns, temperature, block_size)
    return jnp.where(rows, loss, 0)


def _streamed_cross_entropy(queries, keys, own, columns, temperature, block_size):
    """`cross_entropy` of queries·keysᵀ/τ, one block of keys at a time (online softmax)."""
    block_size = max(1, min(block_size, keys.shape[0]))
    blocks = -(-keys.shape[0] // block_size)
    padding = blocks * block_size - keys.shape[0]
    places = jnp.arange(blocks * block_size).reshape(blocks, block_size)
    keys = jnp.pad(keys, ((0, padding), (0, 0))).reshape(blocks, block_size, keys.shape[1])
    columns = jnp.pad(columns, (0, padding)).reshape(blocks, block_size)

    @jax.checkpoint  # logits of a block are recomputed in the backward pass, never stored
    def add(carry, block):
        peak, total, positive = carry
        block_keys, block_columns, place = block
        logits = dot(queries, block_keys, "id,jd->ij") / temperature
        # The positive is read from these logits: a second product would round differently.
        positive += jnp.sum(jnp.where(own[:, None] == place[None, :], logits, 0), axis=-1)
        logits = jnp.where(block_columns[None, :], logits, -jnp.inf)
        new_peak = jnp.maximum(peak, jax.lax.stop_gradient(logits.max(-1)))
        total = total * jnp.exp(peak - new_peak) + jnp.exp(logits - new_peak[:, None]).sum(-1)
        return (new_peak, total, positive), None

    zeros = jnp.zeros(queries.shape[0], accumulation_dtype(queries, keys))
    start = (jnp.full_like(zeros, jnp.finfo(zeros.dtype).min), zeros, zeros)
    (peak, total, positive), _ = jax.lax.scan(add, start, (keys, columns, places))
    return (peak - positive) + jnp.log(jnp.where(total > 0, total, 1))


class FineCoarse(NamedTuple):
    """Losses of every ordered pair (query modality, key modality), per example."""

    fine: Float[Array, "modality modality batch"]
    coarse: Float[Array, "modality modality batch"]


@kernel(static=("cosine", "axis_name"))
def fine_coarse_info_nce(
    features: Float[Array, "modality batch time dim"],
    *,
    temperature: Positive,
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
      modality is absent. A query masked to zero gives log(time) or log(batch) and no gradient;
      sequences without steps count as zero vectors.

    Example:
      >>> features = jnp.ones((3, 2, 4, 8))  # modality, batch, time, dim
      >>> loss = fine_coarse_info_nce(features, temperature=0.1, cosine=True)
      >>> print(loss.fine.shape, loss.fine[0, 1], loss.coarse[0, 1])  # log 4, log 2
      (3, 3, 2) [1.386 1.386] [0.693 0.693]

    Reference: MICU (Huang et al., ICCV 2025), eq. 4 and 5. The authors' code sums over pairs and
    compares cosines at τ = 0.1; the caller chooses.
    """
    features = features.astype(accumulation_dtype(features))
    _, batch, time, _ = features.shape
    present = jnp.ones(features.shape[:2], bool) if where is None else where
    features = jnp.where(present[..., None, None], features, 0)  # absent ones may hold NaN
    queries = features if mask is None else jnp.where(mask, features, 0)
    both = present[:, None] & present[None]
    direction = unit if cosine else (lambda vectors: vectors)

    logits = dot(direction(queries), direction(features), "mitd,nisd->mnits") / temperature
    fine = jnp.sum(cross_entropy(logits, jnp.arange(time)), axis=-1) / max(time, 1)

    mean = lambda sequences: sequences.sum(2) / max(time, 1)
    query, key = direction(mean(queries)), direction(mean(features))
    own, key_present = jnp.arange(batch), present
    if axis_name is not None:
        key, key_present = jax.lax.all_gather((key, present), axis_name, axis=1, tiled=True)
        own = own + jax.lax.axis_index(axis_name) * batch
    logits = dot(query, key, "mid,njd->mnij") / temperature
    coarse = cross_entropy(logits, own, both[..., None] & key_present[None, :, None])

    return FineCoarse(fine=jnp.where(both, fine, 0), coarse=jnp.where(both, coarse, 0))
