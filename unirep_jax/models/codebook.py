"""A shared EMA codebook: initialisation, update and usage statistics."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses
from unirep_jax.losses import CodebookState


def init_codebook(key: Key[Array, ""], codes: int, dim: int, *, patience: int) -> CodebookState:
    """Codes uniform in ±1/codes; those unused by the first batch then move onto its features."""
    codebook = jax.random.uniform(key, (codes, dim), minval=-1 / codes, maxval=1 / codes)
    age = jnp.full(codes, patience + 1, jnp.int32)  # past its patience before the first step
    # Buffers are donated to the step one by one, so the weight must be an array of its own.
    return CodebookState(codebook, jnp.zeros(codes), jnp.array(codebook), age)


def authors_codebook(key: Key[Array, ""], codes: int, dim: int) -> CodebookState:
    """As the authors' code starts: no code is past its patience before the first step."""
    codebook = jax.random.uniform(key, (codes, dim), minval=-1 / codes, maxval=1 / codes)
    return CodebookState(
        codebook, jnp.zeros(codes), jnp.array(codebook), jnp.full(codes, -1, jnp.int32)
    )


def authors_update(
    state: CodebookState,
    z: Float[Array, "modality batch time dim"],
    indices: Int[Array, "modality batch time"],
    present: Bool[Array, "modality batch"],
    *,
    key: Key[Array, ""],
    decay: float,
    patience: int,
    counted: Bool[np.ndarray, "modality"],
    axis_name: str | None,
) -> CodebookState:
    """One moving-average update and restarts as in the authors' code of MICU.

    A code past its patience becomes a copy of a random one used in the last hundred updates, less
    1/1024. Its moving averages stay as they were, so that the next update takes the restart back
    unless the code was chosen meanwhile.

    Args:
      z, indices, present: modalities in the order in which they move the codebook.
      counted: whose choices count as use of a code; the authors forget text.
    """
    z, modalities = jax.lax.stop_gradient(z), len(z)
    moved = losses.ema_codebook_update(
        state,
        z.reshape(modalities, -1, z.shape[-1]),
        indices.reshape(modalities, -1),
        decay=decay,
        where=jnp.repeat(present, z.shape[2], axis=1),
        axis_name=axis_name,
    )
    used = code_counts(indices, present, len(state.age))[np.flatnonzero(counted)].sum(0)
    used = used if axis_name is None else jax.lax.psum(used, axis_name)
    age = jnp.where(used > 0, 0, state.age + 1)
    active = (age >= 0) & (age < 100)
    drawn = jax.random.categorical(key, jnp.where(active, 0.0, -jnp.inf), shape=age.shape)
    restart = (age > patience) & active.any()
    codebook = jnp.where(restart[:, None], moved.codebook[drawn] - 1 / 1024, moved.codebook)
    return moved._replace(codebook=codebook, age=jnp.where(restart, 0, age))


def update_codebook(
    state: CodebookState,
    z: Float[Array, "modality batch time dim"],
    indices: Int[Array, "modality batch time"],
    present: Bool[Array, "modality batch"],
    *,
    key: Key[Array, ""],
    decay: float,
    patience: int,
    share: float = 0.5,
    axis_name: str | None,
) -> CodebookState:
    """A moving-average update with one step's features, then restarts of dead codes.

    `share`: of the other modalities at the same token in what a code moves to.
    """
    # The codebook follows the features by averages alone: no gradient passes through the update.
    z = jax.lax.stop_gradient(z)
    modalities, _, time, dim = z.shape
    state = losses.ema_codebook_update(
        state,
        z.reshape(modalities, -1, dim),
        indices.reshape(modalities, -1),
        decay=decay,
        share=share,
        where=jnp.repeat(present, time, axis=1),
        axis_name=axis_name,
    )
    return losses.restart_dead_codes(
        state, z, key=key, patience=patience, where=present, axis_name=axis_name
    )


def code_counts(
    indices: Int[Array, "modality batch time"], present: Bool[Array, "modality batch"], codes: int
) -> Float[Array, "modality code"]:
    """How often each modality chose each code."""
    weight = jnp.repeat(present, indices.shape[2], axis=1).astype(jnp.float32)
    flat = indices.reshape(indices.shape[0], -1)
    return jax.vmap(lambda w, i: jax.ops.segment_sum(w, i, codes))(weight, flat)


def code_statistics(
    indices: Int[Array, "modality batch time"],
    present: Bool[Array, "modality batch"],
    codes: int,
    *,
    names: tuple[str, ...],
    axis_name: str | None,
) -> dict[str, Float[Array, ""]]:
    """Health of the codebook over one batch.

    `perplexity/<modality>`: effective number of codes it uses. `codes_used`: share of all codes
    chosen by any modality. `agreement`: share of tokens for which all modalities choose one code.
    """
    # Summed over devices before the entropy: perplexity of a sum is not a mean of perplexities.
    counts = code_counts(indices, present, codes)
    same = jnp.all(indices == indices[:1], axis=0)
    whole = jnp.broadcast_to(present.all(0)[:, None], same.shape)
    agreement = losses.masked_mean(same.astype(jnp.float32), whole, axis_name=axis_name)
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    statistics = {
        f"perplexity/{name}": value
        for name, value in zip(names, losses.perplexity(counts), strict=True)
    }
    statistics["codes_used"] = jnp.mean((counts.sum(0) > 0).astype(jnp.float32))
    return statistics | {"agreement": agreement}
