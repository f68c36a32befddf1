"""Distance of paired vectors, with a gradient everywhere."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.losses._kernel import kernel
from unirep_jax.losses.precision import accumulation_dtype


@kernel()
def pair_distance(
    x: Float[Array, "batch dim"], y: Float[Array, "batch dim"]
) -> Float[Array, "batch"]:
    """Euclidean distance of each pair.

        dᵢ = ‖xᵢ − yᵢ‖₂

    Taken from the difference, so vectors that almost coincide keep their digits, and scaled by its
    largest entry, so no square over- or underflows. Where x and y coincide, the distance and its
    gradient are 0.

    Args:
      x, y: [batch, dim].

    Returns:
      [batch] in float32 or wider. Its gradient has norm 1, but where x = y.

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 9, of which it is each term.
    """
    dtype = accumulation_dtype(x, y)
    difference = x.astype(dtype) - y.astype(dtype)
    largest = jnp.max(jnp.abs(difference), axis=-1, initial=0.0)
    largest = jax.lax.stop_gradient(largest)  # the distance does not depend on the scale
    apart = largest != 0  # true of NaN, which must not pass for no distance
    scaled = difference / jnp.where(apart, largest, 1)[:, None]
    squared = jnp.sum(scaled * scaled, axis=-1)
    return jnp.where(apart, largest * jnp.sqrt(jnp.where(apart, squared, 1)), 0)
