"""How known an example looks beside the training examples: higher = more known, float64.

Each score compares features of a trained network with those of the known training examples, the
reference; no network is trained for them. What a classifier says by itself is scored by
`unirep_jax.metrics.known_scores`.
"""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from unirep_jax.metrics._checks import as_array
from unirep_jax.metrics.known_scores import energy, finite_matrix, unit_rows

_BLOCK = 1 << 24  # distances held at a time


def nearest_neighbour(
    features: Float[ArrayLike, "example dim"],
    reference: Float[ArrayLike, "other dim"],
    *,
    k: int = 50,
) -> Float[np.ndarray, "example"]:
    """Minus the distance to the k-th nearest reference, all vectors scaled to unit length.

        s = −‖z/‖z‖ − r₍ₖ₎/‖r₍ₖ₎‖‖

    Args:
      features: [example, dim], finite. A zero vector stays zero.
      reference: [other, dim], features of known training examples.
      k: which neighbour, from 1; the farthest where there are fewer.

    Returns:
      float64 [example], in [−2, 0].

    Raises:
      ValueError: empty or non-finite features, dimensions that differ, k below 1.

    Example:
      >>> nearest_neighbour([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [3.0, 0.0]], k=1)
      array([-0.   , -1.414])

    Reference: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
    """
    features, reference = _alike(features, reference)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    features, reference = unit_rows(features), unit_rows(reference)
    place, step = min(k, len(reference)) - 1, max(1, _BLOCK // len(reference))
    found = []
    for start in range(0, len(features), step):
        cosine = features[start : start + step] @ reference.T
        lengths = np.sum(features[start : start + step] ** 2, 1)[:, None] + np.sum(reference**2, 1)
        found.append(np.partition(lengths - 2 * cosine, place, axis=1)[:, place])
    return -np.sqrt(np.maximum(np.concatenate(found), 0))


def mahalanobis(
    features: Float[ArrayLike, "example dim"],
    reference: Float[ArrayLike, "other dim"],
    label: Int[ArrayLike, "other"],
) -> Float[np.ndarray, "example"]:
    """Minus the squared Mahalanobis distance to the nearest class mean.

        s = −min_c (z − μ_c)ᵀ Σ⁺ (z − μ_c),    Σ = 1/n Σᵢ (rᵢ − μ_yᵢ)(rᵢ − μ_yᵢ)ᵀ

    One covariance for all classes. Σ⁺ leaves out directions in which the reference does not vary.

    Args:
      features: [example, dim], finite.
      reference: [other, dim], features of known training examples.
      label: their classes, integers [other].

    Returns:
      float64 [example], at most 0.

    Raises:
      ValueError: empty or non-finite features, dimensions or lengths that differ.

    Reference: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks", NeurIPS 2018, eq. 1-2, without its input noise and its layers.
    """
    features, reference = _alike(features, reference)
    label = as_array("label", label)
    if label.shape != (len(reference),) or label.dtype.kind not in "iu":
        raise ValueError(
            f"label must be {len(reference)} integers, got {label.dtype} of shape {label.shape}"
        )
    _, number = np.unique(label, return_inverse=True)
    means = np.stack([reference[number == c].mean(0) for c in range(number.max() + 1)])
    within = reference - means[number]
    precision = np.linalg.pinv(within.T @ within / len(reference), hermitian=True)
    gaps = features[:, None] - means[None]
    return -np.einsum("ecd,df,ecf->ec", gaps, precision, gaps, optimize=True).min(1)


def virtual_logit(
    features: Float[ArrayLike, "example dim"],
    logits: Float[ArrayLike, "example class"],
    reference: Float[ArrayLike, "other dim"],
    reference_logits: Float[ArrayLike, "other class"],
    *,
    dim: int | None = None,
) -> Float[np.ndarray, "example"]:
    """ViM: energy less a virtual logit, the part of a feature that the reference does not explain.

        s = log Σₖ exp(lₖ) − α ‖z − o − P(z − o)‖,    α = Σᵢ maxₖ lₖ(rᵢ) / Σᵢ ‖rᵢ − o − P(rᵢ − o)‖

    P projects on the `dim` first principal directions of the reference, o is its mean. The
    softmax probability of the virtual logit, which the paper takes, falls as s rises.

    Args:
      features, logits: [example, dim] and [example, class], finite.
      reference, reference_logits: the same of known training examples.
      dim: of the principal space; half the features' by default.

    Returns:
      float64 [example]; the energy alone where the principal space leaves nothing of the reference.

    Raises:
      ValueError: empty or non-finite arguments, numbers of examples or dimensions that differ, a
        `dim` that is not within 0 … that of the features.

    Reference: Wang et al., "ViM: Out-of-Distribution with Virtual-Logit Matching", CVPR 2022. ≠
    there the origin is −W⁺b of the last layer, which a mixture of experts does not have.
    """
    features, reference = _alike(features, reference)
    known = finite_matrix("reference_logits", reference_logits)
    scores = energy(logits)
    for name, x, y in (("logits", scores, features), ("reference_logits", known, reference)):
        if len(x) != len(y):
            raise ValueError(f"{name} are of {len(x)} examples, their features of {len(y)}")
    width = features.shape[1]
    dim = width // 2 if dim is None else dim
    if not 0 <= dim <= width:
        raise ValueError(f"dim must be within 0 … {width}, got {dim}")
    origin = reference.mean(0)
    centred = reference - origin
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    rest = directions[:, : width - dim]
    norm = lambda x: np.linalg.norm((x - origin) @ rest, axis=1)
    left = norm(reference).sum()
    if left <= 1e-12 * max(1.0, np.linalg.norm(centred, axis=1).sum()):
        return scores
    return scores - known.max(1).sum() / left * norm(features)


def _alike(features, reference):
    features = finite_matrix("features", features)
    reference = finite_matrix("reference", reference)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features have {features.shape[1]} dimensions, reference {reference.shape[1]}"
        )
    return features, reference
