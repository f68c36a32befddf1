"""What every method does with a batch before its loss: one key per example, standardised features.

A batch holds {"features": {modality: [batch, ...]}, "present": {modality: bool [batch]}}.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def shapes_of(features: Mapping[str, Array]) -> Shapes:
    """Per modality the shape of one example, from a batch."""
    return tuple((m, tuple(x.shape[1:])) for m, x in features.items())


def example_keys(
    key: Key[Array, ""], batch: int, purposes: tuple[str, ...], axis_name: str | None
) -> dict[str, Key[Array, "batch"]]:
    """For each purpose one key per example, which depends on its place in the whole batch only.

    So a batch draws the same numbers on one device as spread over many.
    """
    place = jnp.arange(batch)
    if axis_name is not None:
        place += jax.lax.axis_index(axis_name) * batch
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return {p: fold(jax.random.fold_in(key, i), place) for i, p in enumerate(purposes)}


def standardize(
    features: Mapping[str, Float[Array, "batch ..."]],
    statistics: Mapping[str, tuple[Float[Array, "channels"], Float[Array, "channels"]]],
) -> dict[str, Float[Array, "batch ..."]]:
    """(x − mean) / std per channel, the last axis; word ids have no statistics, and stay."""
    result = {}
    for m, x in features.items():
        if m not in statistics:
            result[m] = x
            continue
        mean, std = (s.reshape((1,) * (x.ndim - 1) + (-1,)) for s in statistics[m])
        result[m] = (x.astype(jnp.float32) - mean) / std
    return result
