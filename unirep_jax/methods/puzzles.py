"""What jigsaws are made of: pieces of features, drawn from one modality or another, or from all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

CACHE_ENTRIES, ACCELERATOR_ENTRIES = 2**21, 2**27  # of float32: 8 MB, 512 MB


class Puzzles(NamedTuple):
    """Rows of pieces in their right order, and which rows count; rows of an example are adjacent.

    A row is a token of CUJP, an example of MMJP.
    """

    pieces: Float[Array, "row piece width"]
    where: Bool[Array, "row"]


class Draw(NamedTuple):
    """The modality of every piece, and which examples have all that were drawn for them."""

    modality: Int[Array, "batch time piece"]
    whole: Bool[Array, "batch"]


def draw_per_token(
    keys: Key[Array, "batch"], present: Bool[Array, "modality batch"], time: int, pieces: int
) -> Draw:
    """A modality that the example has, for every piece of every token."""
    shape = (time, pieces, len(present))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
    allowed = present.T[:, None, None]  # [batch, 1, 1, modality]
    return Draw(jnp.argmax(jnp.where(allowed, noise, -jnp.inf), axis=-1), present.any(0))


def draw_per_step(
    key: Key[Array, ""], present: Bool[Array, "modality batch"], time: int, pieces: int
) -> Draw:
    """One modality for every piece, the same for the whole batch, as in the authors' code."""
    chosen = jax.random.randint(key, (pieces,), 0, len(present))
    modality = jnp.broadcast_to(chosen, (present.shape[1], time, pieces))
    return Draw(modality, present[chosen].all(0))


def mixed_puzzles(features: Float[Array, "modality batch time dim"], draw: Draw) -> Puzzles:
    """CUJP: every token is one feature, whose pieces come from the modalities drawn."""
    modalities, batch, time, dim = features.shape
    count = draw.modality.shape[-1]
    pieces = features.reshape(modalities, batch, time, count, dim // count)
    chosen = jax.nn.one_hot(draw.modality, modalities, axis=0)[..., None]
    pieces = jnp.sum(chosen * pieces, axis=0).reshape(batch * time, count, -1)
    return Puzzles(pieces, jnp.repeat(draw.whole, time))


def joined_puzzles(
    features: Float[Array, "modality batch time dim"],
    present: Bool[Array, "modality batch"],
    pieces: int,
) -> Puzzles:
    """MMJP: every example is the pieces of all its modalities, averaged over time."""
    modalities, batch, _, dim = features.shape
    mean = features.reshape(modalities, batch, -1, pieces, dim // pieces).mean(2)
    return Puzzles(jnp.moveaxis(mean, 0, 1).reshape(batch, -1, dim // pieces), present.all(0))


def hide_pieces(keys: Key[Array, "batch"], puzzles: Puzzles, share: float) -> Puzzles:
    """The puzzles with this share of their pieces replaced by zeros, drawn for every row."""
    rows, count, _ = puzzles.pieces.shape
    shape = (rows // len(keys), count)
    draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1), 1 - share, shape)
    shown = jax.vmap(draw)(keys).reshape(rows, count)
    return puzzles._replace(pieces=jnp.where(shown[..., None], puzzles.pieces, 0))


def rows_at_a_time(permutations: int, pieces: int, hidden: int) -> int:
    """Rows of the jigsaw's loss at a time: activations stay in a processor's cache.

    An accelerator has no such cache, and small blocks one after the other leave it idle: there
    blocks have 64 times as many rows.
    """
    entries = CACHE_ENTRIES if jax.default_backend() == "cpu" else ACCELERATOR_ENTRIES
    return max(entries // (hidden * max(permutations, pieces**2)), 8)
