"""What every kernel shares: shape checks while tracing, jit, accumulation dtype, cross-entropy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from beartype import beartype
from jaxtyping import Array, Bool, Float, Int, Real, jaxtyped

Scalar = float | int | Real[Array, ""]  # a traced Python int is an integer array


def kernel(*, static: tuple[str, ...] = ()) -> Callable:
    """Makes a kernel of a function: jitted, its annotated shapes checked while tracing.

    `static` names the structural arguments; any other change of value reuses the compiled program.
    """

    def wrap(function: Callable) -> Callable:
        return jax.jit(jaxtyped(function, typechecker=beartype), static_argnames=static)

    return wrap


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """float32, or float64 where an input has it: half precision is read, never accumulated in."""
    # Not `result_type`, which refuses to mix bfloat16 with float32 under strict promotion.
    wide = any(a.dtype == jnp.float64 for a in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def dot(left: Array, right: Array, subscripts: str, precision: str | None = None) -> Array:
    """einsum of two arrays accumulated in `accumulation_dtype`, whatever the inputs' precision."""
    return jnp.einsum(
        subscripts,
        left,
        right,
        precision=precision,
        preferred_element_type=accumulation_dtype(left, right),
    )


def cross_entropy(
    logits: Float[Array, "*lead query key"],
    target: Int[Array, "query"],
    where: Bool[Array, "*lead query key"] | None = None,
) -> Float[Array, "*lead query"]:
    """−log softmax(logits)[target] over the keys that count; a query without any has no gradient.

    The target must be one of the keys that count. Computed as log Σ exp(logit − target's logit):
    never negative, exactly 0 for one key, and small losses survive large logits.
    """
    # Selecting by comparison fuses with what follows; a gather would need a scatter backwards.
    chosen = target[:, None] == jnp.arange(logits.shape[-1])[None, :]
    chosen = jnp.expand_dims(chosen, tuple(range(logits.ndim - 2)))
    own = jnp.sum(jnp.where(chosen, logits, 0), axis=-1, keepdims=True)
    logits = jnp.where(chosen, 0, logits - own)  # x − x need not be 0 once the compiler fuses it
    if where is not None:
        logits = jnp.where(where, logits, -jnp.inf)
        logits = jnp.where(where.any(-1, keepdims=True), logits, 0)
    return jax.nn.logsumexp(logits, axis=-1)


@kernel()
def unit(vectors: Float[Array, "*lead dim"]) -> Float[Array, "*lead dim"]:
    """v / ‖v‖ in float32 or wider; the zero vector stays zero, with zero gradient."""
    vectors = vectors.astype(accumulation_dtype(vectors))
    # Scaling by the largest entry first keeps ‖v‖² from over- or underflowing.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0.0))
    nonzero = largest != 0  # true of NaN, which must not pass for a zero
    scaled = vectors / jnp.where(nonzero, largest, 1)
    squared = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
    return jnp.where(nonzero, scaled * jax.lax.rsqrt(jnp.where(nonzero, squared, 1)), 0)


@kernel(static=("axis_name",))
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
    values = values.astype(accumulation_dtype(values))
    where = jnp.ones(values.shape, bool) if where is None else where
    total = jnp.sum(jnp.where(where, values, 0))
    count = jnp.sum(where, dtype=values.dtype)
    if axis_name is not None:
        total = total * jax.lax.axis_size(axis_name)
        count = jax.lax.psum(count, axis_name)
    return total / jnp.maximum(count, 1)
