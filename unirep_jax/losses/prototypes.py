"""Prototype and reciprocal-point kernels: GCPL, RPL and ARPL, one learnable point per class.

All three compare a feature z with the point c_k of each class by the mean squared difference

    d²_k = ‖z − c_k‖² / dim

and add to the cross-entropy a term that bounds the space the known classes take. The features may
be those of any network; points and radius are learned with it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import (
    Positive,
    Scalar,
    cross_entropy,
    dot,
    kernel,
    negative_entropy,
)
from unirep_jax.losses.precision import accumulation_dtype


@kernel()
def gcpl_logits(
    features: Float[Array, "batch dim"], points: Float[Array, "class dim"]
) -> Float[Array, "batch class"]:
    """−d²: a feature belongs to the class whose prototype is near.

    Reference: Yang et al., "Robust Classification with Convolutional Prototype Learning", CVPR
    2018, with the mean in place of the sum over dimensions, as the authors of ARPL have it.
    """
    return -_mean_squares(features, points)


@kernel()
def rpl_logits(
    features: Float[Array, "batch dim"], points: Float[Array, "class dim"]
) -> Float[Array, "batch class"]:
    """+d²: a feature belongs to the class whose reciprocal point is far.

    Reference: Chen et al., "Learning Open Set Network with Discriminative Reciprocal Points", ECCV
    2020.
    """
    return _mean_squares(features, points)


@kernel()
def arpl_logits(
    features: Float[Array, "batch dim"], points: Float[Array, "class dim"]
) -> Float[Array, "batch class"]:
    """d² − z·c: far from the reciprocal point, and in another direction.

    Reference: Chen et al., "Adversarial Reciprocal Points Learning for Open Set Recognition", TPAMI
    2022.
    """
    dtype = accumulation_dtype(features, points)
    products = dot(features.astype(dtype), points.astype(dtype), "id,kd->ik", precision="highest")
    return _mean_squares(features, points) - products


@kernel()
def gcpl_loss(
    features: Float[Array, "batch dim"],
    points: Float[Array, "class dim"],
    labels: Int[Array, "batch"],
    *,
    temperature: Positive = 1.0,
    weight: Scalar = 0.1,
    where: Bool[Array, "batch"] | None = None,
) -> Float[Array, "batch"]:
    """Cross-entropy of −d², and a pull of each feature to its prototype.

        ℓᵢ = −log softmax(−d²/τ)[y] + ½·w·d²_y

    Args:
      features: [batch, dim].
      points: prototypes [class, dim].
      labels: [batch], in [0, class).
      temperature: τ > 0.
      weight: w of the pull.
      where: examples that count.

    Returns:
      [batch] in float32 or wider, 0 for removed examples. One class: the pull alone.

    Reference: Yang et al., CVPR 2018, with the ½ and the weight of the code of ARPL.
    """
    rows, features, labels = _kept(features, labels, where)
    distances = _mean_squares(features, points)
    loss = cross_entropy(-distances / temperature, labels) + 0.5 * weight * _at(distances, labels)
    return jnp.where(rows, loss, 0)


@kernel()
def rpl_loss(
    features: Float[Array, "batch dim"],
    points: Float[Array, "class dim"],
    radius: Scalar,
    labels: Int[Array, "batch"],
    *,
    temperature: Positive = 1.0,
    weight: Scalar = 0.1,
    where: Bool[Array, "batch"] | None = None,
) -> Float[Array, "batch"]:
    """Cross-entropy of d², and a pull of each feature to a learned distance from its point.

        ℓᵢ = −log softmax(d²/τ)[y] + w·(d²_y − R)²

    Args:
      features, labels, temperature, where: as `gcpl_loss`.
      points: reciprocal points [class, dim].
      radius: R, a learned scalar that starts at 0.
      weight: w of the pull.

    Returns:
      [batch] in float32 or wider, 0 for removed examples. One class: the pull alone.

    Reference: Chen et al., ECCV 2020. ≠ the authors' code with several points per
    class, which pulls to a point of another class: here a class has one.
    """
    rows, features, labels = _kept(features, labels, where)
    distances = _mean_squares(features, points)
    pull = (_at(distances, labels) - jnp.asarray(radius, distances.dtype)) ** 2
    loss = cross_entropy(distances / temperature, labels) + weight * pull
    return jnp.where(rows, loss, 0)


@kernel()
def arpl_loss(
    features: Float[Array, "batch dim"],
    points: Float[Array, "class dim"],
    radius: Scalar,
    labels: Int[Array, "batch"],
    *,
    temperature: Positive = 1.0,
    weight: Scalar = 0.1,
    where: Bool[Array, "batch"] | None = None,
) -> Float[Array, "batch"]:
    """Cross-entropy of d² − z·c, and a margin that keeps features within a learned distance.

        ℓᵢ = −log softmax((d² − z·c)/τ)[y] + w·max(0, d²_y − R + 1)

    Args:
      features, labels, temperature, where: as `gcpl_loss`.
      points: reciprocal points [class, dim].
      radius: R, a learned scalar that starts at 0.
      weight: w of the margin.

    Returns:
      [batch] in float32 or wider, 0 for removed examples. One class: the margin alone, without
      gradient from d²_y = R − 1 inwards.

    Example:
      >>> features, points = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0], [1.0, 1.0]])
      >>> print(arpl_logits(features, points))
      [[ 2.5 -2.5]]
      >>> print(arpl_loss(features, points, 0.0, jnp.array([0])))
      [0.357]

    Reference: Chen et al., TPAMI 2022, with the margin of 1 of the authors' code.
    """
    rows, features, labels = _kept(features, labels, where)
    distance = _at(_mean_squares(features, points), labels)
    excess = jax.nn.relu(distance - jnp.asarray(radius, distance.dtype) + 1)
    loss = cross_entropy(arpl_logits(features, points) / temperature, labels) + weight * excess
    return jnp.where(rows, loss, 0)


@kernel()
def reciprocal_entropy(
    features: Float[Array, "batch dim"], points: Float[Array, "class dim"]
) -> Float[Array, "batch"]:
    """Entropy of softmax(d²) in nats: near log(classes) for a feature that is of no class.

    ARPL's confusing samples are generated features that make F = exp(−mean entropy) small; both
    the generator and the classifier add 0.1·F to their losses.

    Reference: Chen et al., TPAMI 2022 (confusing samples).
    """
    return -negative_entropy(_mean_squares(features, points))


def _mean_squares(features, points):
    """‖z − c‖²/dim of every feature and point, by one matrix product."""
    dtype = accumulation_dtype(features, points)
    points = points.astype(dtype)
    # About the mean of the points: far from zero, norms would swallow the differences.
    origin = jax.lax.stop_gradient(jnp.mean(points, axis=0, keepdims=True))
    z, c = features.astype(dtype) - origin, points - origin
    product = dot(z, c, "id,kd->ik", precision="highest")
    norms = jnp.sum(z * z, axis=-1)[:, None] + jnp.sum(c * c, axis=-1)[None, :]
    return (norms - 2 * product) / max(features.shape[-1], 1)


def _at(values, labels):
    """values[i, labelsᵢ], by comparison: a gather would need a scatter backwards."""
    own = labels[:, None] == jnp.arange(values.shape[1], dtype=labels.dtype)[None, :]
    return jnp.sum(jnp.where(own, values, 0), axis=-1)


def _kept(features, labels, where):
    """Rows that count, and the inputs with zeros for the others, which may hold NaN."""
    rows = jnp.ones(labels.shape, bool) if where is None else where
    return rows, jnp.where(rows[:, None], features, 0), jnp.where(rows, labels, 0)
