"""MOVER's transport-weighted volume: over all tuples, or over groups drawn from the plans."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from unirep_jax.losses._kernel import dot, kernel, unit
from unirep_jax.losses.multimarginal import MultimarginalPlan
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import NOTHING, tiled, untiled
from unirep_jax.losses.volume import gram_volume, volume_matrix

TOGETHER = 2**17  # entries of matrices over (j, l) handled at a time, which stay in the cache


class TransportGroups(NamedTuple):
    """Groups of examples, one of each modality, for every anchor.

    index: [batch, group, modality] places in the batch, the first modality's being the anchor;
    weight: [batch, group], with sum 1 for an anchor that has mass and 0 for one that has none.
    """

    index: Int[Array, "batch group modality"]  # type: ignore[assignment]
    weight: Float[Array, "batch group"]


@kernel(static=("count",))
def top_groups(plans: Float[Array, "other batch batch"], *, count: int = 1) -> TransportGroups:
    """All combinations of each anchor's `count` best partners in every other modality.

    Args:
      plans: from the anchor modality to each of the others.
      count: k' of the paper's top-k' matching; 1 is its hard matching.

    Returns:
      `TransportGroups` with count^other groups, each weighted by the product of its plan entries,
      normalised for each anchor; the weights carry the plans' gradient. Lowest index among equals.

    Reference: MOVER (You & Liu, CIKM 2025), sec. 2.2.
    """
    others, batch, _ = plans.shape
    if count > batch:
        raise ValueError(f"top_groups: count={count} of {batch} examples")
    best, partner = jax.lax.top_k(plans.astype(accumulation_dtype(plans)), count)
    total = best.sum(-1, keepdims=True)
    best = best / jnp.where(total != 0, total, 1)
    choice = np.indices((count,) * others).reshape(others, -1)  # [other, group]
    rows = jnp.broadcast_to(jnp.arange(batch, dtype=partner.dtype)[:, None], (batch, len(choice.T)))
    index = [partner[m][:, choice[m]] for m in range(others)]
    weight = jnp.stack([best[m][:, choice[m]] for m in range(others)])
    return TransportGroups(jnp.stack([rows, *index], axis=-1), jnp.prod(weight, axis=0))


@kernel(static=("count",))
def sample_groups(
    plans: Float[Array, "other batch batch"], *, key: Key[Array, ""], count: int
) -> TransportGroups:
    """`count` groups for each anchor, partners drawn independently from its rows of the plans.

    The mean volume over these groups is an unbiased estimate of that under the anchor plan of
    `transport_volume_loss`. No gradient flows to the plans.

    Args:
      plans: from the anchor modality to each of the others.
      key: randomness; the same on every device that shares the plans.
      count: draws for each anchor.

    Reference: MOVER (You & Liu, CIKM 2025), sec. 2.2, soft sampling.
    """
    others, batch, _ = plans.shape
    # In half precision a draw has 128 values, and a sum ends where its parts are lost in it.
    plans = jax.lax.stop_gradient(plans).astype(accumulation_dtype(plans))
    cumulative = jnp.cumsum(plans, axis=-1)
    total = jnp.sum(plans, axis=-1, keepdims=True)
    if batch == 0:
        index = jnp.zeros((0, count, others + 1), jnp.int32)
        return TransportGroups(index, jnp.zeros((0, count), plans.dtype))
    # Strictly below the total, so that a column without mass is never drawn.
    level = jax.random.uniform(key, (others, batch, count), plans.dtype)
    level = level * total * (1 - 2 * jnp.finfo(plans.dtype).eps)
    search = jax.vmap(jax.vmap(partial(jnp.searchsorted, side="right")))
    partner = jnp.minimum(search(cumulative, level), batch - 1).astype(jnp.int32)
    rows = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], (batch, count))
    mass = jnp.prod(total / jnp.where(total != 0, total, 1), axis=0)  # 1, 0, or NaN of NaN
    weight = jnp.broadcast_to(mass / count, (batch, count))
    return TransportGroups(jnp.stack([rows, *partner], axis=-1), weight)


@kernel(static=("axis_name",))
def transport_volume_loss(
    vectors: Float[Array, "modality batch dim"],
    matching: Float[Array, "pair whole whole"] | TransportGroups | MultimarginalPlan,
    *,
    axis_name: str | None = None,
) -> Float[Array, "batch"]:
    """Volume of the tuples (i, …) that each anchor i enters, weighted by how well they match.

        L = Σ_{i₁ … i_k} π_{i₁ … i_k} Vol(v¹_{i₁}, …, vᵏ_{i_k}) = mean of ℓᵢ over the anchors

    The plan over tuples is the product of the pairwise plans given, divided by its sum:

      π₁₂                     two modalities;
      B · π₁₂ᵢⱼ π₁₃ᵢₗ          three, from the anchor's plans: independent given the anchor, with
                              exact marginals (the sum is 1/B);
      π₁₂ᵢⱼ π₁₃ᵢₗ π₂₃ⱼₗ / Z    three, from the plans of all pairs.

    Of three modalities it may also be the `MultimarginalPlan` of the problem over tuples.

    Args:
      vectors: [modality, batch, dim], the first modality being the anchor. They are normalised
        here, as in eq. 2.
      matching: plans [pair, whole, whole] in the order 12, 13, 23, for all tuples of two or three
        modalities, an anchor at a time: O(batch²) memory, O(batch³) arithmetic for three; or
        groups, for any number of modalities. `whole` is the batch over all devices.
      axis_name: mapped axis whose devices hold the rest of the batch. Vectors are gathered across
        it, differentiably; plans or groups are those of the whole batch, the same on each device,
        and each device handles its own anchors.

    Returns:
      [batch] in float32 or wider; an anchor without mass has 0, and the mean is over the others.
      Vectors of examples without mass, and of groups of weight 0, may hold anything.
      In the sum over tuples, a volume that rounding hides is 0 with zero gradient, as in
      `volume_matrix`; those of the tuples (i, …, i) are from `gram_volume`, which resolves them.

    Raises:
      ValueError: the number of plans does not fit the number of modalities.

    Example:
      >>> vectors = jnp.stack([jnp.eye(2), jnp.eye(2)])
      >>> plans = jnp.full((1, 2, 2), 0.25)  # all pairs alike: half of the mass on right angles
      >>> print(transport_volume_loss(vectors, plans))
      [0.5 0.5]

    Reference: MOVER (You & Liu, CIKM 2025), eq. 8. The paper leaves the plan over tuples open.
    """
    vectors = vectors.astype(accumulation_dtype(vectors, _floats(matching)))
    batch = vectors.shape[1]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    if axis_name is not None:
        vectors = jax.lax.all_gather(vectors, axis_name, axis=1, tiled=True)
    own = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=batch)
    if isinstance(matching, TransportGroups):
        return _group_volumes(vectors, jax.tree.map(own, matching))
    place = first + jnp.arange(batch)
    if isinstance(matching, MultimarginalPlan):
        return _multimarginal_volumes(vectors, matching.log_factors, own, place)
    if (len(vectors), len(matching)) not in ((2, 1), (3, 2), (3, 3)):
        raise ValueError(
            f"{len(matching)} plans given for all tuples of {len(vectors)} modalities: two take 1, "
            "three take 2 or 3, and more are handled through groups"
        )
    matching = matching.astype(vectors.dtype)
    masses = [matching[0].sum(1), *(plan.sum(0) for plan in matching[: len(vectors) - 1])]
    vectors = unit(jnp.where((jnp.stack(masses) != 0)[..., None], vectors, 0))
    plans = [own(plan) for plan in matching[: len(vectors) - 1]]
    last_plan = matching[2] if len(matching) == 3 else None
    anchor, others = own(vectors[0]), vectors[1:]
    if len(others) == 1:
        negatives = place[:, None] != jnp.arange(others.shape[1])[None, :]
        volume = volume_matrix(anchor, others[0])
        sums = jnp.sum(jnp.where(negatives, plans[0] * volume, 0), axis=1)
    else:
        s, t = (dot(anchor, other, "id,jd->ij", precision="highest") for other in others)
        cross = dot(*others, "jd,ld->jl", precision="highest")  # type: ignore[call-arg, misc]
        sums = _tuple_sums((cross, s, t), (last_plan, *plans), place)

    positive = gram_volume(jnp.moveaxis(own(vectors, axis=1), 0, 1))
    for plan in plans if last_plan is None else [*plans, own(last_plan)]:
        positive *= plan[jnp.arange(batch), place]
    has_mass = jnp.all(matching[: len(vectors) - 1].sum(2) > 0, axis=0)
    total, anchors = _total(matching), jnp.sum(has_mass, dtype=vectors.dtype)
    return (sums + positive) * anchors / jnp.where(total > 0, total, 1)


def _floats(matching):
    if isinstance(matching, TransportGroups):
        return matching.weight
    return matching.log_factors if isinstance(matching, MultimarginalPlan) else matching


def _multimarginal_volumes(vectors, log_factors, own, place):
    """The sum over the tuples of each anchor, whose plan is made from logarithms in its turn."""
    if len(vectors) != 3:
        raise ValueError(f"a plan over tuples of three modalities given for {len(vectors)}")
    first, second, third = log_factors = log_factors.astype(vectors.dtype)
    some = first.max(1, initial=NOTHING) > NOTHING / 2  # has mass, in every modality alike
    vectors = unit(jnp.where(some[None, :, None], vectors, 0))
    anchor, others = own(vectors[0]), vectors[1:]
    s, t = (dot(anchor, other, "id,jd->ij", precision="highest") for other in others)
    cross = dot(others[0], others[1], "jd,ld->jl", precision="highest")
    even = jnp.ones((1, len(cross)), vectors.dtype)

    @jax.checkpoint  # or all plans would be kept for the backward pass, batch³ numbers
    def one(anchor):
        s, t, row, column, place = anchor
        plan = jnp.exp(third + row[:, None] + column[None, :])
        return _tuple_sums((cross, s[None], t[None]), (plan, even, even), place[None])[0]

    sums = jax.lax.map(one, (s, t, own(first), own(second), place))
    own_tuple = jnp.exp(jnp.sum(log_factors[:, place, place], axis=0))
    volume = gram_volume(jnp.moveaxis(own(vectors, axis=1), 0, 1))
    value = (sums + own_tuple * volume) * jnp.sum(some, dtype=vectors.dtype)
    return jnp.where(own(some), value, 0)


def _group_volumes(vectors, groups):
    """Σ weight · Vol over the groups of each anchor, one group of all anchors at a time."""
    modality = jnp.arange(len(vectors))[None, :]

    @jax.checkpoint
    def add(total, group):
        counts = group.weight != 0
        chosen = unit(jnp.where(counts[:, None, None], vectors[modality, group.index], 0))
        return total + jnp.where(counts, group.weight * gram_volume(chosen), 0), None

    start = jnp.zeros(groups.weight.shape[:1], vectors.dtype)
    by_group = TransportGroups(jnp.moveaxis(groups.index, 1, 0), groups.weight.T)
    return jax.lax.scan(add, start, by_group)[0]


def _total(plans):
    """Sum over all tuples of the product of the plans."""
    if len(plans) == 1:
        return jnp.sum(plans[0])
    if len(plans) == 2:
        return jnp.sum(plans[0].sum(1) * plans[1].sum(1))
    return jnp.sum(dot(plans[0], plans[2], "ij,jl->il", precision="highest") * plans[1])


@jax.custom_vjp
def _tuple_sums(cosines, plans, place):
    """Σⱼₗ π₁₂ᵢⱼ π₁₃ᵢₗ π₂₃ⱼₗ Volᵢⱼₗ over the tuples of each anchor i but (i, i, i).

    With s, t the cosines of anchor and others and x those of the others to one another,

        Vol² = (1−sᵢⱼ²)(1−tᵢₗ²) − (xⱼₗ − sᵢⱼtᵢₗ)²

    One anchor is one matrix over (j, l), in the backward pass too: everything else about it is
    matrix-vector products.

    Args:
      cosines: x [whole, whole], s [batch, whole], t [batch, whole].
      plans: π₂₃ [whole, whole] or None, π₁₂ [batch, whole], π₁₃ [batch, whole].
      place: [batch] places of the anchors in the whole batch.
    """
    return _tuple_sums_forward(cosines, plans, place)[0]


def _tuple_sums_forward(cosines, plans, place):
    (cross, s, t), (last_plan, first_plan, second_plan) = cosines, plans

    def one(anchor):
        s, t, first_plan, second_plan, place = anchor
        volume = jnp.sqrt(_squares(cross, s, t, place)[0])
        volume = volume if last_plan is None else volume * last_plan
        return jnp.sum(_product(volume, second_plan) * first_plan)

    anchors = (s, t, first_plan, second_plan, place)
    sums = jax.lax.map(jax.vmap(one), tiled(anchors, _together(cross)))
    return untiled(sums, len(place)), (cosines, plans, place)


def _together(cross):
    """How many anchors are handled at a time: one of a small batch is too little work."""
    return max(1, TOGETHER // max(1, cross.size))


def _squares(cross, s, t, place):
    """Vol² of an anchor's tuples, 0 where rounding hides it and for the anchor's own tuple."""
    a, b = jnp.maximum(1 - s * s, 0), jnp.maximum(1 - t * t, 0)
    apart = cross - s[:, None] * t[None, :]
    square = a[:, None] * b[None, :] - apart * apart
    own = place == jnp.arange(len(cross))
    hidden = 4 * jnp.finfo(square.dtype).eps * (a[:, None] + b[None, :])
    seen = ~(square <= hidden) & ~(own[:, None] & own[None, :])  # true of NaN
    return jnp.where(seen, square, 0), a, b, apart


def _tuple_sums_backward(saved, cotangent):
    (cross, s, t), (last_plan, first_plan, second_plan), place = saved
    anchors = tiled((s, t, first_plan, second_plan, place, cotangent), _together(cross))

    def by_cosines(anchor):
        s, t, first_plan, second_plan, place, scale = anchor
        square, a, b, apart = _squares(cross, s, t, place)
        weight = (scale * first_plan)[:, None] * second_plan[None, :]
        weight = weight if last_plan is None else weight * last_plan
        seen = square != 0
        slope = jnp.where(seen, weight * jax.lax.rsqrt(jnp.where(seen, square, 1)), 0)
        bend = slope * apart
        s_cotangent = _product(bend, t) - s * _product(slope, b)
        t_cotangent = _product(s, bend) - t * _product(a, slope)
        return -bend, (s_cotangent, t_cotangent)

    def by_plans(anchor):
        s, t, first_plan, second_plan, place, scale = anchor
        volume = scale * jnp.sqrt(_squares(cross, s, t, place)[0])
        first = volume if last_plan is None else volume * last_plan
        last = None if last_plan is None else volume * (first_plan[:, None] * second_plan[None, :])
        return last, (_product(first, second_plan), _product(first_plan, first))

    def summed(one, start):
        """The shared cotangent summed over the anchors, and the cotangents of each."""

        def add(total, tile):
            shared, own = jax.vmap(one)(tile)
            return jax.tree.map(lambda t, x: t + x.sum(0), total, shared), own

        shared, own = jax.lax.scan(add, start, anchors)
        return shared, jax.tree.map(lambda a: untiled(a, len(place)), own)

    # Two loops, so that the second is not compiled for plans without gradient.
    cross_cotangent, of_cosines = summed(by_cosines, jnp.zeros_like(cross))
    last = None if last_plan is None else jnp.zeros_like(last_plan)
    last_cotangent, of_plans = summed(by_plans, last)
    return (cross_cotangent, *of_cosines), (last_cotangent, *of_plans), None


_tuple_sums.defvjp(_tuple_sums_forward, _tuple_sums_backward)


def _product(left, right):
    return jnp.dot(left, right, precision="highest")
