"""Kernels of MLA: a shared head that modalities train in turn, and their fusion by certainty."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Positive, dot, kernel, negative_entropy
from unirep_jax.losses.precision import accumulation_dtype


@kernel(static=("axis_name",))
def update_projector(
    projector: Float[Array, "dim dim"],
    features: Float[Array, "batch dim"],
    *,
    damping: Positive,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "dim dim"]:
    """Updates the projector P so that it removes the direction of a batch's mean feature.

        r = mean zᵢ,   k = P r,   P ← P − k kᵀ / (α + rᵀk),   P ← P / ‖P‖_F

    Recursive least squares: P, first the identity, comes to project away from the features that
    modalities have shown, so that the head keeps what it learned of one while it learns another.

    Args:
      projector: P [dim, dim], symmetric.
      features: of the modality whose turn it is, [batch, dim]; no gradient flows.
      damping: α > 0; the authors take 0.1^(1 + i/steps) at step i of an epoch.
      where: examples that count.
      axis_name: mapped axis over which the mean is taken.

    Returns:
      [dim, dim] in float32 or wider; unchanged if no example counts. Where ‖r‖²/α passes 10⁶,
      float32 leaves eigenvalues of some −0.01·‖P‖: bound the features, as a normalisation does.

    Reference: Zhang et al., "Multimodal Representation Learning by Alternating Unimodal
    Adaptation", CVPR 2024, with the norm of the authors' code. ≠ that code, which divides by a
    matrix, element by element.
    """
    dtype = accumulation_dtype(projector, features)
    features = jax.lax.stop_gradient(features.astype(dtype))
    projector = jax.lax.stop_gradient(projector.astype(dtype))
    rows = jnp.ones(features.shape[0], bool) if where is None else where
    sums = (jnp.sum(jnp.where(rows[:, None], features, 0), 0), jnp.sum(rows, dtype=dtype))
    total, count = sums if axis_name is None else jax.lax.psum(sums, axis_name)
    mean = total / jnp.maximum(count, 1)
    gain = dot(projector, mean, "ij,j->i", precision="highest")
    outer = gain[:, None] * gain[None, :]
    updated = projector - outer / (damping + jnp.sum(mean * gain))
    size = jnp.sqrt(jnp.sum(updated * updated))
    return jnp.where(count > 0, updated / jnp.where(size > 0, size, 1), projector)


@kernel()
def project_gradient(
    projector: Float[Array, "dim dim"], gradient: Float[Array, "dim output"]
) -> Float[Array, "dim output"]:
    """P G: the gradient of the head's kernel, before it is handed to the optimiser.

    [dim, output] in float32 or wider. ≠ the authors' code, which looks the kernel up by a name it
    does not have, and so never projects.

    Reference: Zhang et al., CVPR 2024.
    """
    dtype = accumulation_dtype(projector, gradient)
    return dot(projector.astype(dtype), gradient.astype(dtype), "ij,jo->io", precision="highest")


class CertaintyFusion(NamedTuple):
    """logits: [batch, class]; weights: [modality, batch], their sum over modalities 1."""

    logits: Float[Array, "batch class"]
    weights: Float[Array, "modality batch"]


@kernel()
def fuse_by_certainty(
    logits: Float[Array, "modality batch class"],
    where: Bool[Array, "modality batch"] | None = None,
) -> CertaintyFusion:
    """Sum of the modalities' logits, weighted for each example by how certain each modality is.

        Hₘ = entropy of softmax(lᵐ),   wₘ = exp(maxⱼ Hⱼ − Hₘ) / Σⱼ exp(maxᵢ Hᵢ − Hⱼ)
        l = Σₘ wₘ·lᵐ

    The weights are a softmax of −H.

    Args:
      logits: [modality, batch, class].
      where: presence [modality, batch]; an absent modality weighs 0.

    Returns:
      `CertaintyFusion` in float32 or wider; zeros where no modality is present.

    Reference: Zhang et al., CVPR 2024. ≠ the authors' code, whose softmax runs over the
    batch instead of the classes and gives one weight to all its examples.
    """
    logits = logits.astype(accumulation_dtype(logits))
    present = jnp.ones(logits.shape[:2], bool) if where is None else where
    logits = jnp.where(present[..., None], logits, 0)
    certainty = negative_entropy(logits)
    some = present.any(axis=0, keepdims=True)
    certainty = jnp.where(present, certainty, jnp.where(some, -jnp.inf, 0))
    weights = jnp.where(present, jax.nn.softmax(certainty, axis=0), 0)
    return CertaintyFusion(jnp.sum(weights[..., None] * logits, axis=0), weights)
