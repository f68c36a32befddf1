"""Distance of paired vectors, with a gradient everywhere."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.losses._kernel import kernel
from unirep_jax.losses.precision import accumulation_dtype


@kernel(static=("squared",))
def pair_distance(
    x: Float[Array, "batch dim"], y: Float[Array, "batch dim"], *, squared: bool = False
) -> Float[Array, "batch"]:
    """Euclidean distance of each pair, or its square.

        dᵢ = ‖xᵢ − yᵢ‖₂   or   ‖xᵢ − yᵢ‖₂²

    Taken from the difference, so vectors that almost coincide keep their digits, and scaled by its
    largest entry, so no square over- or underflows. Where x and y coincide, the distance and its
    gradient are 0.

    Args:
      x, y: [batch, dim].
      squared: the square, whose gradient 2(x − y) grows with the distance; nothing is scaled.

    Returns:
      [batch] in float32 or wider. The gradient of the distance has norm 1, but where x = y.

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 9, of which it is each term as printed, and
    eq. 7 and 8, from which that is derived, the squares.
    """
    dtype = accumulation_dtype(x, y)
    difference = x.astype(dtype) - y.astype(dtype)
    if squared:
        return jnp.sum(difference * difference, axis=-1)
    largest = jnp.max(jnp.abs(difference), axis=-1, initial=0.0)
    largest = jax.lax.stop_gradient(largest)  # the distance does not depend on the scale
    apart = largest != 0  # true of NaN, which must not pass for no distance
    scaled = difference / jnp.where(apart, largest, 1)[:, None]
    squared = jnp.sum(scaled * scaled, axis=-1)
    return jnp.where(apart, largest * jnp.sqrt(jnp.where(apart, squared, 1)), 0)
