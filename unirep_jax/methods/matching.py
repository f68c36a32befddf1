"""Matching modalities by transport: plans between all of them, and what is done with a plan.

Vectors are [modality, batch, dim], presence is [modality, batch]; plans are of the whole batch over
all devices, [pair, whole, whole], pairs in the order 01, 02, ... 12, ... of the modalities.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax import losses

Vectors = Float[Array, "modality batch dim"]
Plans = Float[Array, "pair whole whole"]


def stand_in(vectors: Vectors, present: Bool[Array, "modality batch"]) -> Vectors:
    """[modality, batch, dim + modality]: what is absent is a unit vector normal to all others.

    The volume of a group with stand-ins is that of the rest of it.
    """
    count = len(vectors)
    normal = jnp.broadcast_to(jnp.eye(count)[:, None], (*present.shape, count))
    here = present[..., None]
    return jnp.concatenate([jnp.where(here, vectors, 0), jnp.where(here, 0, normal)], axis=-1)


def whole_batch(vectors: Vectors, present: Bool[Array, "modality batch"], axis_name: str | None):
    """Both from all devices of `axis_name`."""
    if axis_name is None:
        return vectors, present
    gather = partial(jax.lax.all_gather, axis_name=axis_name, axis=1, tiled=True)
    return gather(vectors), gather(present)


def pair_plans(
    vectors: Vectors,
    present: Bool[Array, "modality batch"],
    *,
    epsilon: float,
    iterations: int,
    gradient: str,
    axis_name: str | None,
) -> Plans:
    """Eq. 4-5 of MOVER between all pairs of modalities.

    Absent examples have no mass. Where nobody has a modality its stand-ins take part, so that the
    volume of a tuple is that of its other members.
    """
    vectors, present = whole_batch(vectors, present, axis_name)
    weights = present | ~present.any(1, keepdims=True)
    pairs = itertools.combinations(range(len(vectors)), 2)
    row, column = (jnp.array(side) for side in zip(*pairs, strict=True))
    return losses.sinkhorn_plan(
        vectors[row], vectors[column], epsilon=epsilon, marginals=(weights[row], weights[column]),
        iterations=iterations, gradient=gradient,
    ).plan  # fmt: skip


def ordered(plans: Plans, order: list[int], count: int, *, anchor_only: bool) -> Plans:
    """Plans between some of `count` modalities in their order; or from the first of them alone."""
    place = {pair: i for i, pair in enumerate(itertools.combinations(range(count), 2))}
    pairs = itertools.combinations(order, 2)
    chosen = itertools.islice(pairs, len(order) - 1 if anchor_only else None)
    return jnp.stack([plans[place[p, q]] if p < q else plans[place[q, p]].T for p, q in chosen])


def matched(vectors: Vectors, plans: Plans, axis_name: str | None) -> list[Array]:
    """Of every modality but the first, the most probable partner of each own anchor, [batch, dim].

    `plans` are from the first modality to each other one: MOVER's hard matching.
    """
    own = _own_rows(plans, vectors.shape[1], axis_name)
    if axis_name is not None:
        vectors = jax.lax.all_gather(vectors, axis_name, axis=1, tiled=True)
    return [v[jnp.argmax(plan, axis=1)] for v, plan in zip(vectors[1:], own, strict=True)]


def transport_cost(vectors: Vectors, plan: Plans, axis_name: str | None) -> Float[Array, "batch"]:
    """Σⱼ πᵢⱼ ‖xᵢ − yⱼ‖² of each own row i of two modalities, times how many rows have mass.

    Its mean over rows with mass is ⟨π, C⟩.
    """
    own = _own_rows(plan, vectors.shape[1], axis_name)[0]
    x, y = vectors
    if axis_name is not None:
        y = jax.lax.all_gather(y, axis_name, tiled=True)
    cost = 2 - 2 * jnp.einsum("id,jd->ij", x, y, precision="highest")
    return jnp.sum(own * cost, axis=1) * jnp.sum(plan[0].sum(1) > 0, dtype=cost.dtype)


def mass_on_pairs(plans: Plans) -> Float[Array, ""]:
    """How much of the plans' mass lies on true pairs; chance is 1/batch."""
    mass, diagonal = jnp.sum(plans), jnp.sum(jnp.diagonal(plans, axis1=1, axis2=2))
    return jax.lax.stop_gradient(diagonal / jnp.where(mass > 0, mass, 1))


def _own_rows(plans: Plans, batch: int, axis_name: str | None) -> Array:
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    return jax.lax.dynamic_slice_in_dim(plans, first, batch, axis=1)
