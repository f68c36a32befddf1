"""Draws of latent variables through which gradients flow."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax.losses._kernel import accumulation_dtype, kernel

LOG_VARIANCE_LIMIT = 20.0  # standard deviations from 5·10⁻⁵ to 2·10⁴


@kernel()
def reparameterize(
    mean: Float[Array, "*lead dim"], log_variance: Float[Array, "*lead dim"], *, key: Key[Array, ""]
) -> Float[Array, "*lead dim"]:
    """A draw of the normal distribution as a differentiable function of its parameters.

        v = μ + exp(½ clip(log σ², ±20)) ε,   ε ∼ N(0, I)

    Args:
      mean, log_variance: [..., dim] of independent components. Beyond ±20 the log variance has no
        gradient, so that nothing overflows.
      key: of this draw.

    Returns:
      As `mean`, in float32 or wider.

    Reference: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4.
    """
    dtype = accumulation_dtype(mean, log_variance)
    spread = jnp.exp(
        jnp.clip(log_variance.astype(dtype), -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT) / 2
    )
    return mean.astype(dtype) + spread * jax.random.normal(key, mean.shape, dtype)
