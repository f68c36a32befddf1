"""What every kernel shares: shape checking at trace time, jit, accumulation dtype, safe division."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from beartype import beartype
from jaxtyping import Array, Bool, Float, jaxtyped


def kernel(*, static: tuple[str, ...] = ()) -> Callable:
    """Makes a kernel of a function: its annotated shapes are checked while tracing, then it is jitted.

    `static` names the structural arguments; every other change of value reuses the compiled program.
    """

    def wrap(function: Callable) -> Callable:
        return jax.jit(jaxtyped(function, typechecker=beartype), static_argnames=static)

    return wrap


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """float32, or float64 where an input has it: half precision is read, never accumulated in."""
    return jnp.result_type(jnp.float32, *(a.dtype for a in arrays))


def dot(left: Array, right: Array, subscripts: str, precision: str | None = None) -> Array:
    """einsum of two arrays accumulated in `accumulation_dtype`, whatever the inputs' precision."""
    return jnp.einsum(
        subscripts,
        left,
        right,
        precision=precision,
        preferred_element_type=accumulation_dtype(left, right),
    )


def unit(vectors: Float[Array, "*lead dim"]) -> Float[Array, "*lead dim"]:
    """v / ‖v‖ in the accumulation dtype; the zero vector stays zero, with zero gradient."""
    vectors = vectors.astype(accumulation_dtype(vectors))
    # Scaling by the largest entry first keeps ‖v‖² from over- or underflowing.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0.0))
    nonzero = largest > 0
    scaled = vectors / jnp.where(nonzero, largest, 1)
    squared = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
    return jnp.where(nonzero, scaled * jax.lax.rsqrt(jnp.where(nonzero, squared, 1)), 0)


def masked_mean(
    values: Float[Array, "*shape"],
    where: Bool[Array, "*shape"] | None = None,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Σ where·values / Σ where, over all devices of `axis_name`; 0 when nothing is left.

    On N devices each one returns N·(its own sum) / (the count of all): the mean of these over the
    devices is the mean over the whole batch, and so `pmean` of their gradients is its gradient.
    """
    where = jnp.ones(values.shape, bool) if where is None else where
    total = jnp.sum(jnp.where(where, values, 0))
    count = jnp.sum(where, dtype=values.dtype)
    if axis_name is not None:
        total = total * jax.lax.axis_size(axis_name)
        count = jax.lax.psum(count, axis_name)
    return total / jnp.maximum(count, 1)
