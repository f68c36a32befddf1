"""Soft code assignments: distribution of a sequence over a codebook, and losses that match it."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Positive, cross_entropy, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype


@kernel()
def log_code_distribution(
    features: Float[Array, "*lead time dim"],
    codebook: Float[Array, "code dim"],
    *,
    temperature: Positive = 1.0,
) -> Float[Array, "*lead code"]:
    """Log-probability with which a sequence chooses each code, softly and by distance.

        log P(e | z) = log 1/T Σₜ softmax_e( −‖zₜ − e‖ / τ )

    The mean over time is taken of probabilities but computed from their logarithms, so that no code
    has probability 0. Distances come from matrix products about the codebook's mean.

    Args:
      features: z [..., time, dim].
      codebook: [code, dim].
      temperature: τ > 0, traced.

    Returns:
      [..., code] in float32 or wider. One code alone gives 0. A feature on its code has no gradient
      through that distance, which has a kink there.

    Reference: CMCM (Liu et al., "Cross-Modal Discrete Representation Learning", 2021), sec. 2.3.
    ≠ DCID's code, which adds 1e-10 inside the logarithm.
    """
    if features.shape[-2] == 0:
        raise ValueError(f"log_code_distribution: features of shape {features.shape} have no time")
    dtype = accumulation_dtype(features, codebook)
    lead = tuple(range(features.ndim - 1))
    codebook = codebook.astype(dtype)
    origin = jax.lax.stop_gradient(jnp.mean(codebook, axis=0))
    features, codebook = (
        features.astype(dtype) - jnp.expand_dims(origin, lead),
        (codebook - origin[None]),
    )
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    square += jnp.expand_dims(jnp.sum(codebook**2, axis=-1), lead)
    square -= 2 * dot(features, codebook, "...d,kd->...k", precision="highest")
    apart = ~(square <= 0)  # true of NaN
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
    logs = jax.nn.log_softmax(-distance / temperature, axis=-1)
    return jax.nn.logsumexp(logs, axis=-2) - math.log(features.shape[-2])


@kernel(static=("axis_name",))
def code_matching_loss(
    log_distributions: Float[Array, "modality batch code"],
    *,
    where: Bool[Array, "modality batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "modality modality batch"]:
    """InfoNCE between the code distributions of two modalities, for all ordered pairs.

        Sᵢⱼ = Σ_e Pᵐᵢ(e) log Pⁿⱼ(e) + Pⁿⱼ(e) log Pᵐᵢ(e),   ℓᵢ = −log( exp Sᵢᵢ / Σⱼ exp Sᵢⱼ )

    S is minus the symmetric cross-entropy of two distributions.

    Args:
      log_distributions: log P [modality, batch, code], of `log_code_distribution`.
      where: presence [modality, batch]. An absent modality is neither query nor key.
      axis_name: mapped axis holding the rest of the batch; keys are gathered across it.

    Returns:
      [query modality, key modality, batch] in float32 or wider, 0 where either is absent. One
      example alone gives 0; one code alone, or equal distributions, the log of the batch.

    Reference: CMCM (Liu et al., 2021), sec. 2.3. ≠ DCID's code, which shifts S by its minimum (that
    overflows once S spans 88) and adds 1e-5 to the denominator.
    """
    _, batch, _ = log_distributions.shape
    logs = log_distributions.astype(accumulation_dtype(log_distributions))
    present = jnp.ones(logs.shape[:2], bool) if where is None else where
    logs = jnp.where(present[..., None], logs, 0)
    both = present[:, None] & present[None]
    keys, key_present, own = logs, present, jnp.arange(batch)
    if axis_name is not None:
        keys, key_present = jax.lax.all_gather((logs, present), axis_name, axis=1, tiled=True)
        own = own + jax.lax.axis_index(axis_name) * batch
    scores = dot(jnp.exp(logs), keys, "mic,njc->mnij") + dot(logs, jnp.exp(keys), "mic,njc->mnij")
    value = cross_entropy(scores, own, both[..., None] & key_present[None, :, None])
    return jnp.where(both, value, 0)


@kernel()
def code_prediction_loss(
    features: Float[Array, "*lead dim"],
    codebook: Float[Array, "code dim"],
    assignment: Float[Array, "*lead code"],
    *,
    temperature: Positive,
) -> Float[Array, "*lead"]:
    """Cross-entropy of the codes that a feature predicts to the codes that it was assigned.

        ℓ = −Σ_e a(e) log softmax_e( z·e / τ )

    Similarities are dot products: pass unit vectors for cosines. The assignment is a constant; a
    row of zeros gives 0 and no gradient.

    Reference: CODIS (Duan et al., CVPR 2022), as its abstract has it; Caron et al., "Unsupervised
    Learning of Visual Features by Contrasting Cluster Assignments", 2020, eq. 2.
    """
    dtype = accumulation_dtype(features, codebook, assignment)
    logits = dot(features, codebook, "...d,kd->...k").astype(dtype) / temperature
    logs = jax.nn.log_softmax(logits, axis=-1)
    assignment = jax.lax.stop_gradient(assignment).astype(dtype)
    return -jnp.sum(assignment * logs, axis=-1)
