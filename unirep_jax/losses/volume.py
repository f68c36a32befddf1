"""Volume kernels: of a group of vectors, of every anchor with every group, and InfoNCE on them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import Positive, Share, dot, kernel, unit
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import negative_sums, tiled, untiled


@kernel()
def gram_volume(vectors: Float[Array, "*lead modality dim"]) -> Float[Array, "*lead"]:
    """Volume of the parallelotope that the vectors of each group span.

        Vol = √det(VᵀV),  V = [v¹ … vᵏ]

    Computed as a product of heights by Gram–Schmidt on differences of near vectors (up to sign),
    which leave the volume as it is. √det loses every digit where vectors agree to 10⁻⁴; this keeps
    full relative precision there, and its gradient, the volume of the facet opposite to each vector
    along the vector's normal, is never longer than the product of the other norms.

    Args:
      vectors: [..., modality, dim], any number of modalities. Unit vectors give volumes in [0, 1].

    Returns:
      [...] in float32 or wider. Vectors that coincide within the machine precision, opposite and
      otherwise dependent ones, a zero vector, and more vectors than dimensions give 0 with a finite
      gradient, which is zero where vectors coincide.

    Example:
      >>> right_angles = jnp.eye(3)
      >>> in_one_plane = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
      >>> print(gram_volume(jnp.stack([right_angles, in_one_plane])))
      [1. 0.]

    Reference: MOVER (You & Liu, CIKM 2025), eq. 6-7; Cicchetti et al., "Gramian Multimodal
    Representation Learning and Alignment", 2024. ≠ both: no determinant is formed.
    """
    return _basis(jnp.unstack(vectors, axis=-2))[0]


def _basis(vectors):
    """Volume, and orthonormal basis of the span, of each group: a list of one array a modality."""
    vectors = [v.astype(accumulation_dtype(v)) for v in vectors]
    volume, basis = jnp.ones(vectors[0].shape[:-1], vectors[0].dtype), []
    for m, vector in enumerate(vectors):
        length, direction = _height(vector, vectors[:m], basis)
        volume, basis = volume * length, [*basis, direction]
    return volume, basis


def _height(vector, earlier, basis):
    """Length and direction of what a vector adds to the span of earlier ones, which has that basis.

    Of the vector only its difference from the nearest earlier one is used (v or −v, which span
    alike). The height is the same, and where the two almost agree the difference is exact.
    """
    side = vector
    if earlier:
        fixed = jax.lax.stop_gradient(vector)
        inner = [_inner(fixed - other, fixed - other) for other in jax.lax.stop_gradient(earlier)]
        outer = [_inner(fixed + other, fixed + other) for other in jax.lax.stop_gradient(earlier)]
        nearest = jnp.argmin(jnp.stack([*inner, *outer]), axis=0)
        for m, other in enumerate(earlier):
            sign = jnp.where(nearest == m, 1, jnp.where(nearest == m + len(earlier), -1, 0))
            side -= sign[..., None].astype(side.dtype) * other
    height = side
    for direction in basis:
        height -= _inner(direction, height)[..., None] * direction
    # What rounding left along the basis; its derivative is in the first pass already.
    rest, fixed_basis = jax.lax.stop_gradient((height, basis))
    for direction in fixed_basis:
        rest -= _inner(direction, rest)[..., None] * direction
    # What is left of a dependent vector is rounding error: nothing, not a direction at random. Even
    # v − v may leave some, where the compiler fuses it with what computes v.
    eps = jnp.finfo(side.dtype).eps
    limit = jnp.maximum((8 * eps) ** 2 * _inner(side, side), eps**2 * _inner(vector, vector))
    resolved = ~(_inner(rest, rest) <= limit)[..., None]  # true of NaN, which is no volume of 0
    height = jnp.where(resolved, rest + (height - jax.lax.stop_gradient(height)), 0)
    direction = unit(height)
    return _inner(height, direction), direction


def _inner(x, y):
    return jnp.sum(x * y, axis=-1)


@kernel(static=("height", "block_size"))
def volume_matrix(
    anchors: Float[Array, "anchor dim"],
    *others: Float[Array, "group dim"],
    height: bool = False,
    block_size: int | None = None,
) -> Float[Array, "anchor group"]:
    """Volume of every anchor with every group, a group being one row of each of the others.

        Volᵢⱼ = baseⱼ · √(‖aᵢ‖² − Σₘ (aᵢ·qⱼᵐ)²)

    with qⱼ an orthonormal basis of group j and baseⱼ its volume: one matrix product for each of the
    others, where the determinants need a Gram matrix for each of the anchor·group entries.

    Args:
      anchors: [anchor, dim].
      others: one array [group, dim] for each further modality; equal rows form a group.
      height: leave the base out, and so score by the sine of the angle between the anchor and the
        group's span. The base is common to a column: a group that agrees with itself is near to
        every anchor by volume (a hub), but not by height.
      block_size: anchors handled at a time, which bounds the intermediate memory.

    Returns:
      [anchor, group] in float32 or wider. Heights below 2√ε‖a‖ (7·10⁻⁴ in float32) are beyond what
      the formula resolves and are 0, with zero gradient; `gram_volume` resolves them.

    Raises:
      ValueError: there are no others.

    Example:
      >>> text, video = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
      >>> print(volume_matrix(text, video))  # of two vectors: the sine between them
      [[0.  0.8]
       [1.  0.6]]

    Reference: MOVER (You & Liu, CIKM 2025), eq. 7, between anchors and groups as in eq. 9.
    """
    anchors, base, basis = _anchors_and_bases(anchors, others)
    if height:
        base = jnp.ones_like(base)  # what is dependent has no direction in the basis
    if block_size is None:
        return _volumes(anchors, (base, basis))
    compute = jax.checkpoint(lambda rows: _volumes(rows, (base, basis)))
    return untiled(jax.lax.map(compute, tiled(anchors, block_size)), anchors.shape[0])


def _anchors_and_bases(anchors, others):
    """All in the widest precision among them."""
    if not others:
        raise ValueError("a volume needs at least one modality besides the anchors")
    dtype = accumulation_dtype(anchors, *others)
    return anchors.astype(dtype), *_basis([v.astype(dtype) for v in others])


def _volumes(anchors, columns):
    """`volume_matrix` from its bases: base [group] and basis, a list of [group, dim]."""
    base, basis = columns
    square = _inner(anchors, anchors)[:, None]
    rest = square
    # One subtraction for each direction of the basis, which is orthonormal: no determinant of an
    # [anchor, group, modality, modality] tensor has to be formed.
    for direction in basis:
        rest = rest - dot(anchors, direction, "id,jd->ij", precision="highest") ** 2
    resolved = ~(rest <= 4 * jnp.finfo(rest.dtype).eps * square)  # true of NaN
    return base[None, :] * jnp.where(resolved, jnp.sqrt(jnp.where(resolved, rest, 1)), 0)


class VolumeInfoNCE(NamedTuple):
    """Losses of both directions, per example."""

    anchor_to_group: Float[Array, "batch"]
    group_to_anchor: Float[Array, "batch"]


def _like(compared, axis_name):
    """How many examples count: in all, or of each example's number, as `negative_sums` has them."""
    if compared.dtype == bool:
        count = jnp.sum(compared)
        return count if axis_name is None else jax.lax.psum(count, axis_name)
    whole = compared
    if axis_name is not None:
        whole = jax.lax.all_gather(compared, axis_name, tiled=True)
    ordered = jnp.sort(whole)
    last, first = (jnp.searchsorted(ordered, compared, side=side) for side in ("right", "left"))
    return last - first


@kernel(static=("negatives_only", "block_size", "axis_name"))
def volume_info_nce(
    anchors: Float[Array, "batch dim"],
    *others: Float[Array, "batch dim"],
    temperature: Positive,
    label_smoothing: Share = 0.0,
    negatives_only: bool = False,
    where: Bool[Array, "batch"] | None = None,
    composition: Int[Array, "batch"] | None = None,
    block_size: int | None = None,
    axis_name: str | None = None,
) -> VolumeInfoNCE:
    """InfoNCE of each anchor against its own group, and of each group against its own anchor.

        lᵢⱼ = −Volᵢⱼ/τ,   anchor_to_groupᵢ = −log( exp lᵢᵢ / Σⱼ exp lᵢⱼ ),
                          group_to_anchorᵢ = −log( exp lᵢᵢ / Σⱼ exp lⱼᵢ )

    The volumes of positives are found as `gram_volume` does, exact where they collapse, which is
    the optimum; those of negatives as `volume_matrix` does.

    Args:
      anchors: [batch, dim]; unit vectors, as are the others.
      others: one array [batch, dim] for each further modality.
      temperature: τ > 0. Traced, and differentiable.
      label_smoothing: α; the target is 1−α on the positive plus α spread evenly over all, itself
        included.
      negatives_only: leave the positive out of the denominator, as eq. 9 is printed. The loss is
        then not bounded below.
      where: examples that count; the others are neither positives nor negatives.
      composition: a number of at least 0 that says which members each group has. Volumes of unlike
        numbers of vectors are no measure of agreement between them (the more, the smaller), so an
        example is compared with those of its own composition alone; by default all are of one.
      block_size: anchors handled at a time; memory falls from O(batch²) to
        O(batch·(modality·dim + block_size)), in the backward pass too.
      axis_name: mapped axis whose devices hold the rest of the batch; groups are gathered across
        it, differentiably, and anchors stay where they are.

    Returns:
      `VolumeInfoNCE`, each field [batch] in float32 or wider, 0 for examples removed by `where`.
      One example alone, also of its composition, gives 0.

    Raises:
      ValueError: there are no others.

    Example:
      >>> loss = volume_info_nce(jnp.eye(3), jnp.eye(3), temperature=0.5)
      >>> print(loss.anchor_to_group, loss.group_to_anchor)
      [0.24 0.24 0.24] [0.24 0.24 0.24]

    Reference: MOVER (You & Liu, CIKM 2025), eq. 9-10, with the positive in the denominator;
    Cicchetti et al., "Gramian Multimodal Representation Learning and Alignment", 2024, both
    directions. ≠ the latter's code, which stops the gradient of each direction's gathered side.
    """
    where = jnp.ones(anchors.shape[:1], bool) if where is None else where
    anchors, *others = (jnp.where(where[:, None], v, 0) for v in (anchors, *others))
    anchors, base, basis = _anchors_and_bases(anchors, others)
    others = [v.astype(base.dtype) for v in others]
    positive = -base * _height(anchors, others, basis)[0] / temperature
    compared = where if composition is None else jnp.where(where, 1 + composition, 0)
    negative = negative_sums(
        _volumes,
        anchors,
        (-base / temperature, basis),
        compared,
        block_size=block_size,
        axis_name=axis_name,
    )
    count = _like(compared, axis_name).astype(positive.dtype)

    def loss(logsumexp, total):
        # −log softmax of the positive is softplus(logsumexp of the negatives − positive), which
        # keeps its digits where the positive is far ahead.
        margin = logsumexp - positive
        value = margin if negatives_only else jax.nn.softplus(margin)
        value += label_smoothing * (positive - (total + positive) / jnp.maximum(count, 1))
        return jnp.where(where & (count > 1), value, 0)

    return VolumeInfoNCE(
        anchor_to_group=loss(negative.row_logsumexp, negative.row_sum),
        group_to_anchor=loss(negative.column_logsumexp, negative.column_sum),
    )
