"""Fusions: the token sequences of several modalities to one vector.

Every fusion works on ONE example; callers `jax.vmap` over the batch. All are called alike,
`fusion(tokens, mask)`: per modality tokens [position, dim] and a mask [position] of those that are
there, as token encoders return them. A modality that the example lacks has a mask without any True.
Masked tokens have no effect and no gradient, whatever they hold. An example without any token gives
zeros. The output follows the alphabet of the modalities, not their order in the dictionaries.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses.precision import accumulation_dtype

Tokens = dict[str, Float[Array, "position dim"]]
Masks = dict[str, Bool[Array, "position"]]
Fused = Float[Array, "features"]


def output_width(fusion: nn.Module, widths: Mapping[str, int]) -> int:
    """Features that a fusion makes of tokens of these widths, one per modality."""
    tokens = {m: jnp.zeros((1, width)) for m, width in widths.items()}
    mask = {m: jnp.ones(1, bool) for m in widths}
    return jax.eval_shape(fusion.init_with_output, jax.random.key(0), tokens, mask)[0].shape[-1]


class Single(nn.Module):
    """The mean token of one modality, as if there were no other."""

    modality: str

    @nn.compact
    def __call__(self, tokens: Tokens, mask: Masks) -> Fused:
        return _mean(*_usable(tokens, mask)[self.modality])


class Add(nn.Module):
    """Each modality's mean token projected to `width`, averaged over those that are present."""

    width: int = 512

    @nn.compact
    def __call__(self, tokens: Tokens, mask: Masks) -> Fused:
        total, count = 0.0, 0.0
        for modality, (x, there) in _usable(tokens, mask).items():
            some = there.any()
            projected = nn.Dense(self.width, name=modality)(_mean(x, there))
            total += jnp.where(some, projected, 0)
            count += some.astype(projected.dtype)
        return total / jnp.maximum(count, 1)


class Concat(nn.Module):
    """The modalities' mean tokens side by side, zeros for an absent one."""

    @nn.compact
    def __call__(self, tokens: Tokens, mask: Masks) -> Fused:
        usable = _usable(tokens, mask).values()
        return jnp.concatenate([_mean(x, there) for x, there in usable], axis=-1)


class CrossAttention(nn.Module):
    """Mutually enhanced fusion: each modality's tokens ask for what matters in each other one.

        z_ij = mean over the queries of softmax(W_Q z_i (W_K z_j)ᵀ / √d) W_V z_j · W_O,  i ≠ j

    With weights of their own for every ordered pair; all z_ij side by side, M·(M − 1)·width
    features. A pair left out by `pairs` keeps the mean token of its query modality, so that without
    any pair two modalities are fused as by `Concat`.

    An absent key modality gives zeros. An absent query modality asks nothing in particular: all
    tokens of the other one weigh the same, and what they say is not lost.

    Attributes:
      width: of the queries, and of each pair's output.
      heads: queries that attend on their own, each of dimension d = width / heads.
      kv_heads: keys and values, each shared by heads / kv_heads consecutive queries (grouped-query
        attention); None: as many as queries.
      residual: add the queries' tokens to what they receive and normalise, before the mean.
        ≠ eq. 1; needs tokens as wide as `width`.
      pairs: (query, key) modalities that attend; None: all.

    Reference: MRN, eq. 1; Ainslie et al., "GQA", EMNLP 2023.
    """

    width: int = 512
    heads: int = 8
    kv_heads: int | None = None
    residual: bool = False
    pairs: tuple[tuple[str, str], ...] | None = None

    @nn.compact
    def __call__(self, tokens: Tokens, mask: Masks) -> Fused:
        usable = _usable(tokens, mask)
        every = [(i, j) for i in usable for j in usable if i != j]
        pairs = every if self.pairs is None else [tuple(pair) for pair in self.pairs]
        if not every:
            raise ValueError(f"cross-attention needs two modalities, got {list(usable)}")
        if unknown := [pair for pair in pairs if pair not in every]:
            raise ValueError(f"{unknown[0]} is none of the pairs {every}")
        kv_heads = self.kv_heads or self.heads
        outputs = []
        for i, j in every:
            if (i, j) in pairs:
                attend = Attend(
                    self.width, self.heads, kv_heads, self.residual, name=f"{i}_from_{j}"
                )
                outputs.append(attend(*usable[i], *usable[j]))
            else:
                outputs.append(_mean(*usable[i]))
        return jnp.concatenate(outputs, axis=-1)


class Attend(nn.Module):
    """One pair of `CrossAttention`: the mean of what the queries receive, [width]."""

    width: int
    heads: int
    kv_heads: int
    residual: bool

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "query dim"],
        query_mask: Bool[Array, "query"],
        key: Float[Array, "key other"],
        key_mask: Bool[Array, "key"],
    ) -> Fused:
        if self.width % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"heads={self.heads} must divide width={self.width}, kv_heads={self.kv_heads} heads"
            )
        size = self.width // self.heads
        share = self.heads // self.kv_heads
        w_query = self._kernel("query", 1, query.shape[-1], self.kv_heads, share, size)
        w_key = self._kernel("key", 1, key.shape[-1], self.kv_heads, size)
        w_value = self._kernel("value", 1, key.shape[-1], self.kv_heads, size)
        w_out = self._kernel("out", 3, self.kv_heads, share, size, self.width)

        # A softmax over nothing is NaN, value and gradient: an absent modality attends to, and is
        # attended by, all its (zero) tokens, and the last line replaces what comes of absent keys.
        rows = query_mask | ~query_mask.any()
        columns = key_mask | ~key_mask.any()
        queries = jnp.einsum("qd,dgrh->qgrh", query, w_query)
        keys = jnp.einsum("kd,dgh->kgh", key, w_key)
        scores = jnp.einsum("qgrh,kgh->grqk", queries, keys) / size**0.5
        scores = jnp.where(columns[None, None, None], scores, -jnp.inf)
        weights = nn.softmax(scores, axis=-1)
        if not self.residual:
            # What follows is linear: the mean over the queries may come first. The product with
            # the values, left to its best order, then costs a part of projecting every token.
            weights = jnp.einsum("q,grqk->grk", _share(rows, weights.dtype), weights)[:, :, None]
        received = jnp.einsum("grqk,kd,dgh->qgrh", weights, key, w_value)
        out = jnp.einsum("qgrh,grhe->qe", received, w_out)
        out = _mean(nn.LayerNorm()(query + out), rows) if self.residual else out[0]
        return jnp.where(key_mask.any(), out, 0)

    def _kernel(self, name: str, inputs: int, *shape: int) -> Float[Array, "..."]:
        """A weight matrix whose first `inputs` axes are summed over."""
        axes = tuple(range(len(shape)))
        init = nn.initializers.lecun_normal(in_axis=axes[:inputs], out_axis=axes[inputs:])
        return self.param(name, init, shape)


def _usable(tokens: Tokens, mask: Masks) -> dict[str, tuple[Array, Array]]:
    """Per modality, alphabetically: tokens, zero where there are none, and where there are some."""
    if tokens.keys() != mask.keys():
        raise ValueError(f"tokens of {sorted(tokens)}, masks of {sorted(mask)}")
    # In the order of the alphabet, so that the same modalities give the same parameters in whatever
    # order a batch names them.
    usable = {}
    for name in sorted(tokens):
        x = tokens[name].astype(accumulation_dtype(tokens[name]))
        usable[name] = jnp.where(mask[name][:, None], x, 0), mask[name]
    return usable


def _share(there: Bool[Array, "position"], dtype: jnp.dtype) -> Float[Array, "position"]:
    """1 / count at what is there."""
    weight = there.astype(dtype)
    return weight / jnp.maximum(weight.sum(), 1)


def _mean(x: Float[Array, "position dim"], there: Bool[Array, "position"]) -> Fused:
    """Mean over the positions that are there; zeros where none is."""
    return _share(there, x.dtype) @ x
