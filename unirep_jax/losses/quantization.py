"""Vector quantisation kernels: nearest code, commitment, EMA codebook, restart of dead codes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax.losses._kernel import NonNegative, Share, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype


class CodebookState(NamedTuple):
    """A codebook and what its moving averages need.

    codebook: [code, dim]; count: [code] EMA of how many features chose each code;
    weight: [code, dim] EMA of the sum of those features; age: [code] updates since last chosen.
    """

    codebook: Float[Array, "code dim"]
    count: Float[Array, "code"]  # type: ignore[assignment]
    weight: Float[Array, "code dim"]
    age: Int[Array, "code"]


@kernel()
def nearest_code(
    z: Float[Array, "*lead dim"], codebook: Float[Array, "code dim"]
) -> Int[Array, "*lead"]:
    """Index of the code nearest to each feature, the lowest index among equals.

        l = argminⱼ ‖z − eⱼ‖²

    Computed as argminⱼ ½‖eⱼ‖² − z·eⱼ at full matrix precision: on TPU the default precision would
    change decisions. The codebook's mean is the origin: without that, features far from zero
    would lose in ‖e‖² the digits that tell the codes apart. Codes are equal when their computed
    distances are; two copies of a code may differ by that rounding. Not differentiable.

    Example:
      >>> codebook = jnp.array([[0.0, 0.0], [1.0, 0.0]])
      >>> print(nearest_code(jnp.array([[0.9, 0.2], [0.1, -0.3]]), codebook))
      [1 0]

    Reference: MICU (Huang et al., ICCV 2025), eq. 6.
    """
    dtype = accumulation_dtype(z, codebook)
    lead = tuple(range(z.ndim - 1))
    codebook = codebook.astype(dtype)
    origin = jnp.mean(codebook, axis=0)
    z, codebook = z.astype(dtype) - jnp.expand_dims(origin, lead), codebook - origin[None]
    half_norm = 0.5 * jnp.sum(codebook * codebook, axis=-1)
    similarity = dot(z, codebook, "...d,kd->...k", precision="highest")
    score = jnp.expand_dims(half_norm, lead) - similarity
    return jnp.argmin(score, axis=-1).astype(jnp.int32)


@kernel()
def straight_through(
    z: Float[Array, "*shape"], code: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """The code in the forward pass, the identity of z in the backward pass: z + sg(e − z).

    The result has z's dtype.

    Example:
      >>> loss = lambda z: straight_through(z, jnp.array([1.0, 0.0])) @ jnp.array([2.0, 3.0])
      >>> value, gradient = jax.value_and_grad(loss)(jnp.array([0.9, 0.2]))
      >>> print(value, gradient)
      2.0 [2. 3.]
    """
    # Written so that the value is exactly the code, with no rounding of z − z.
    return jax.lax.stop_gradient(code).astype(z.dtype) + (z - jax.lax.stop_gradient(z))


@kernel()
def commitment_loss(
    z: Float[Array, "*lead dim"], code: Float[Array, "*lead dim"]
) -> Float[Array, "*lead"]:
    """Mean squared distance of each feature to its code, which receives no gradient.

        ℓ = 1/D ‖z − sg[e]‖²

    Reference: MICU (Huang et al., ICCV 2025), eq. 7; van den Oord et al., "Neural Discrete
    Representation Learning", 2017, eq. 3, without its factor β.
    """
    dtype = accumulation_dtype(z, code)
    square = (z.astype(dtype) - jax.lax.stop_gradient(code).astype(dtype)) ** 2
    return jnp.sum(square, axis=-1) / max(z.shape[-1], 1)


@kernel(static=("axis_name",))
def ema_codebook_update(
    state: CodebookState,
    z: Float[Array, "modality token dim"],
    indices: Int[Array, "modality token"],
    *,
    decay: Share = 0.99,
    epsilon: NonNegative = 1e-5,
    share: Share = 0.5,
    where: Bool[Array, "modality token"] | None = None,
    axis_name: str | None = None,
) -> CodebookState:
    """Multi-modal exponential moving average of a shared codebook, one modality after another.

    For each modality m in order, with Rᵐ the one-hot choices and n the other modalities:

        N ← γN + (1−γ) Σ Rᵐ,   M = ΣN,   N ← (N + ε) / (M + Kε) · M
        W ← γW + (1−γ) Rᵐᵀ ( (1−s) zᵐ + s mean_{n≠m} zⁿ ),   E ← W / N

    so that a code moves towards what all modalities say at the same token (tokens are aligned over
    modalities). One modality alone uses its own features whole.

    Args:
      state: the codebook before the update, from which `indices` were found.
      z: features [modality, token, dim]; no gradient flows.
      indices: chosen codes [modality, token].
      decay: γ. The factor over one call is γ to the number of modalities.
      epsilon: ε of the Laplace smoothing.
      share: s, of the other modalities. 0 is the plain moving average of a shared codebook.
      where: presence [modality, token]. Absent features choose nothing and enter no mean; their
        share goes to the modality's own features when all others are absent. A modality
        without any present token makes no step: the result is that of the other modalities.
      axis_name: mapped axis over which the sums are taken.

    Returns:
      The new state; `age` is 0 for codes chosen by any modality and one more for the others.

    Example:
      >>> codebook = jnp.array([[0.0], [4.0]])
      >>> age = jnp.zeros(2, jnp.int32)
      >>> state = CodebookState(codebook, count=jnp.ones(2), weight=codebook, age=age)
      >>> z = jnp.array([[[1.0]], [[3.0]]])  # two modalities say 1 and 3 of the same token
      >>> state = ema_codebook_update(state, z, jnp.array([[0], [0]]), decay=0.5)
      >>> print(state.codebook.ravel(), state.age)
      [1.5 4. ] [0 1]

    Reference: DCID (Xia et al., NeurIPS 2023), eq. 9-10, as MICU uses it: share ½.
    """
    dtype = accumulation_dtype(z, state.codebook, state.count, state.weight)
    present = jnp.ones(indices.shape, bool) if where is None else where
    z = jnp.where(present[..., None], jax.lax.stop_gradient(z).astype(dtype), 0)

    # A sum over all modalities minus one's own is that of the others, in time linear in modalities.
    weights = present.astype(dtype)[..., None]
    others = jnp.sum(weights, axis=0, keepdims=True) - weights
    other_sum = jnp.sum(z, axis=0, keepdims=True) - z
    target = jnp.where(others > 0, (1 - share) * z + share * other_sum / jnp.maximum(others, 1), z)

    num_codes = state.codebook.shape[0]
    chosen = jnp.where(present, indices, num_codes)  # out of range: dropped by segment_sum
    counts = jax.vmap(lambda i, x: jax.ops.segment_sum(x, i, num_codes))(chosen, weights[..., 0])
    sums = jax.vmap(lambda i, x: jax.ops.segment_sum(x, i, num_codes))(chosen, target)
    if axis_name is not None:
        counts, sums = jax.lax.psum((counts, sums), axis_name)

    # One after another, as in the paper: each modality smooths the counts that the one before left,
    # so that a single update with their sum would give another codebook.
    def update(carry, modality):
        count, weight = carry
        new_count, new_sum = modality
        seen = jnp.sum(new_count) > 0
        new_count = decay * count + (1 - decay) * new_count
        total = jnp.sum(new_count)
        smooth = total / jnp.where(seen, total + num_codes * epsilon, 1)
        count = jnp.where(seen, (new_count + epsilon) * smooth, count)
        weight = jnp.where(seen, decay * weight + (1 - decay) * new_sum, weight)
        return (count, weight), None

    start = (state.count.astype(dtype), state.weight.astype(dtype))
    (count, weight), _ = jax.lax.scan(update, start, (counts, sums))
    # No feature seen at all (an empty update of an empty state) leaves the codebook as it is.
    alive = count[:, None] > 0
    before = state.codebook.astype(dtype)
    codebook = jnp.where(alive, weight / jnp.where(alive, count[:, None], 1), before)
    age = jnp.where(jnp.sum(counts, axis=0) > 0, 0, state.age + 1)
    return CodebookState(codebook, count, weight, age)


@kernel(static=("axis_name",))
def restart_dead_codes(
    state: CodebookState,
    z: Float[Array, "modality batch time dim"],
    *,
    key: Key[Array, ""],
    patience: int | Int[Array, ""],
    where: Bool[Array, "modality batch"] | None = None,
    axis_name: str | None = None,
) -> CodebookState:
    """Moves each code unused for more than `patience` updates onto a random feature of the batch.

    The moving averages move with it (count 1, weight = the feature), so the next update keeps the
    restart. ≠ the authors' code, which writes the code alone: its next update undoes that.

    Args:
      state: the codebook after `ema_codebook_update`.
      z: features of the batch [modality, batch, time, dim].
      key: randomness; the same on every device of `axis_name`.
      patience: updates a code may stay unused.
      where: presence [modality, batch]; a code that drew an absent feature waits for another call.
      axis_name: mapped axis holding the rest of the batch; draws are over the whole batch.
    """
    modalities, batch, time, _ = z.shape
    if batch * time == 0:  # nothing to restart onto
        return state
    present = jnp.ones((modalities, batch), bool) if where is None else where
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    shape = state.age.shape
    # Every device draws the same places of the whole batch, since the key is the same on all.
    keys = jax.random.split(key, 3)
    modality = jax.random.randint(keys[0], shape, 0, modalities)
    example = jax.random.randint(keys[1], shape, 0, batch * devices) - first
    step = jax.random.randint(keys[2], shape, 0, time)

    # Each device offers the drawn rows that it holds; the sum over devices is the draw.
    local = jnp.clip(example, 0, batch - 1)
    held = (example == local) & present[modality, local]
    drawn = jnp.where(held[:, None], z[modality, local, step].astype(state.codebook.dtype), 0)
    if axis_name is not None:
        drawn, holders = jax.lax.psum((drawn, held.astype(jnp.int32)), axis_name)
        held = holders > 0
    # Count and weight restart, too: the quotient of the old ones is the old code, to which the next
    # update would return.
    restart = (state.age > patience) & held
    return CodebookState(
        codebook=jnp.where(restart[:, None], jax.lax.stop_gradient(drawn), state.codebook),
        count=jnp.where(restart, 1, state.count),
        weight=jnp.where(
            restart[:, None], jax.lax.stop_gradient(drawn).astype(state.weight.dtype), state.weight
        ),
        age=jnp.where(restart, 0, state.age),
    )


@kernel()
def perplexity(counts: Float[Array, "*lead code"]) -> Float[Array, "*lead"]:
    """exp of the entropy of code usage: between 1 (one code) and the codebook size (all alike).

    No usage at all gives 1.

    Example:
      >>> print(perplexity(jnp.array([[5.0, 5.0, 0.0], [9.0, 0.0, 0.0]])))
      [2. 1.]
    """
    counts = counts.astype(accumulation_dtype(counts))
    total = jnp.sum(counts, axis=-1, keepdims=True)
    share = counts / jnp.where(total > 0, total, 1)
    logs = jnp.log(jnp.where(share > 0, share, 1))
    return jnp.exp(-jnp.sum(share * logs, axis=-1))
