"""Mixture-of-experts kernels: noisy top-k gates, and the loss that keeps all experts in use."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax.losses._kernel import NonNegative, kernel
from unirep_jax.losses.precision import accumulation_dtype


class Gates(NamedTuple):
    """Gate weights of the experts for each example.

    gates: [batch, expert], their sum 1, all but `count` of them exactly 0;
    load: [batch, expert], the probability that fresh noise would choose the expert.
    """

    gates: Float[Array, "batch expert"]
    load: Float[Array, "batch expert"]


@kernel(static=("count",))
def noisy_top_k_gates(
    logits: Float[Array, "batch expert"],
    noise_logits: Float[Array, "batch expert"],
    *,
    key: Key[Array, "batch"] | None,
    count: int,
    noise_epsilon: NonNegative = 1e-2,
) -> Gates:
    """Softmax over the `count` largest of noisy logits, and how likely each expert is among them.

        σ = softplus(noise_logits) + ε,   s = logits + η·σ,  η ~ N(0, 1)
        gates = softmax over the K largest of s, 0 elsewhere
        load_e = Φ( (logits_e − the K-th largest of s without s_e) / σ_e )

    The choice itself has no gradient; the gates and the thresholds in the load do.

    Args:
      logits: [batch, expert], the clean gate.
      noise_logits: [batch, expert], softplus of which scales the noise.
      key: one key per example [batch], so that the draw does not depend on how examples are spread
        over devices; None for no noise, as in evaluation. Then the gates are those of the clean
        logits, and the load is 1 for the chosen experts and 0 for the others (its limit as the
        noise vanishes), without gradient.
      count: K, from 1 to the number of experts.
      noise_epsilon: ε ≥ 0, the least noise; it keeps the load's gradient below 0.4/ε.

    Returns:
      `Gates`, in float32 or wider. Equal logits are taken in order of their index. With K equal to
      the number of experts every load is 1, without gradient. Noise whose scale underflows (ε = 0
      only) counts as noise of the machine precision.

    Raises:
      ValueError: count is not in [1, number of experts].

    Example:
      >>> logits = jnp.array([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0]])
      >>> print(noisy_top_k_gates(logits, jnp.zeros((2, 3)), key=None, count=2).gates)
      [[0.731 0.269 0.   ]
       [0.    0.731 0.269]]
      >>> keys = jax.random.split(jax.random.key(0), 2)  # one an example
      >>> print(noisy_top_k_gates(logits, jnp.zeros((2, 3)), key=keys, count=3).load)
      [[1. 1. 1.]
       [1. 1. 1.]]

    Reference: Shazeer et al., "Outrageously Large Neural Networks", ICLR 2017, eq. 3-5 and 8-9,
    there without ε; MRN ("Towards Multimodal Open Set Recognition", 2024), eq. 2.
    ≠ a widespread port, which compares the logits with thresholds that went through a softmax.
    """
    if key is None:
        _check_count(count, logits.shape[1])
        logits = logits.astype(accumulation_dtype(logits, noise_logits))
        chosen, _ = _choose(logits, count)
        return Gates(_softmax_over(chosen, logits), chosen.astype(logits.dtype))
    dtype = accumulation_dtype(logits, noise_logits)
    noise = jax.vmap(lambda k: jax.random.normal(k, logits.shape[1:], dtype))(key)
    return top_k_gates(logits, noise_logits, noise, count=count, noise_epsilon=noise_epsilon)


@kernel(static=("count",))
def top_k_gates(
    logits: Float[Array, "batch expert"],
    noise_logits: Float[Array, "batch expert"],
    noise: Float[Array, "batch expert"],
    *,
    count: int,
    noise_epsilon: NonNegative = 1e-2,
) -> Gates:
    """`noisy_top_k_gates` with the standard normal noise η given: no randomness of its own."""
    experts = logits.shape[1]
    _check_count(count, experts)
    dtype = accumulation_dtype(logits, noise_logits, noise)
    logits = logits.astype(dtype)
    # Finer noise than the logits resolve would only overflow in the quotient below.
    scale = jnp.maximum(
        jax.nn.softplus(noise_logits.astype(dtype)) + noise_epsilon, jnp.finfo(dtype).eps
    )
    noisy = logits + noise.astype(dtype) * scale
    chosen, (last_in, first_out) = _choose(noisy, count)
    gates = _softmax_over(chosen, noisy)
    if count == experts:
        return Gates(gates, jnp.ones_like(gates))
    # Without s_e, the K-th largest is the first one left out if e was chosen.
    threshold = jnp.where(chosen, first_out, last_in)
    return Gates(gates, jax.scipy.special.ndtr((logits - threshold) / scale))


@kernel(static=("axis_name",))
def load_balance_loss(
    gates: Float[Array, "batch expert"],
    load: Float[Array, "batch expert"],
    *,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """How unevenly a batch uses the experts, by weight and by number of examples.

        ℓ = CV²(Σᵢ gatesᵢ) + CV²(Σᵢ loadᵢ),   CV²(x) = Var(x) / mean(x)²

    A property of the whole batch, hence one number: 0 when all experts are used alike, at most
    2·(E − 1), when one expert is used alone.

    Args:
      gates: [batch, expert] of `noisy_top_k_gates`.
      load: [batch, expert] likewise.
      where: examples that count.
      axis_name: mapped axis over which the sums are taken. Every device gets the same value; the
        mean over the devices of its gradients is the gradient.

    Returns:
      [] in float32 or wider. One expert, or no example that counts: 0, with zero gradient.

    Reference: Shazeer et al., ICLR 2017, eq. 6, 7 and 11; MRN, eq. 3. The variance is that of the
    population. ≠ a widespread port: its sample variance is E/(E − 1) times that.
    """
    dtype = accumulation_dtype(gates, load)
    rows = jnp.ones(gates.shape[0], bool) if where is None else where
    totals = [
        jnp.sum(jnp.where(rows[:, None], values.astype(dtype), 0), axis=0)
        for values in (gates, load)
    ]
    if axis_name is not None:
        totals = jax.lax.psum(totals, axis_name)
    return _squared_variation(totals[0]) + _squared_variation(totals[1])


def _check_count(count, experts):
    if not 1 <= count <= experts:
        raise ValueError(f"count must be from 1 to the {experts} experts, got {count}")


def _choose(scores, count):
    """Mask of the `count` largest, and the last one in and the first one out, each [batch, 1].

    When all are in, the first one out is the last one in.
    """
    experts = scores.shape[1]
    _, order = jax.lax.top_k(jax.lax.stop_gradient(scores), min(count + 1, experts))
    place = (
        order[..., None] == jnp.arange(experts, dtype=order.dtype)[None, None, :]
    )  # [batch, rank, expert]

    def at(rank):  # by comparison: a gather would need a scatter backwards
        return jnp.sum(jnp.where(place[:, rank], scores, 0), axis=-1, keepdims=True)

    return jnp.any(place[:, :count], axis=1), (at(count - 1), at(-1))


def _softmax_over(chosen, scores):
    return jax.nn.softmax(jnp.where(chosen, scores, -jnp.inf), axis=-1)


def _squared_variation(totals):
    """Var(x) / mean(x)² from shares of the sum, whose squares neither over- nor underflow."""
    total = jnp.sum(totals)
    used = total != 0  # true of NaN
    share = totals / jnp.where(used, total, 1)
    even = 1 / totals.shape[0]
    return jnp.where(used, totals.shape[0] * jnp.sum((share - even) ** 2), 0)
