"""The precision that kernels, and the networks between them, compute in."""

import jax.numpy as jnp
from jaxtyping import Array


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """float32, or float64 where an input has it: half precision is read, never accumulated in."""
    # Not `result_type`, which refuses to mix bfloat16 with float32 under strict promotion.
    wide = any(a.dtype == jnp.float64 for a in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)
