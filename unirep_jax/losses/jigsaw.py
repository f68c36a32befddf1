"""Permutation-jigsaw kernels: unranking permutations, and the loss of classifying them."""

import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax.losses._kernel import cross_entropy, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype


def permutations_from_ranks(
    ranks: Sequence[int] | np.ndarray | Int[Array, "class"], length: int
) -> Int[Array, "class piece"]:
    """The permutations of 0 … length−1 at the given places of lexicographic order.

    Unranking through the factorial number system: nothing is enumerated, so any length is as cheap
    as another. Rank r gives the r-th tuple of `itertools.permutations(range(length))`.

    Args:
      ranks: [class] integers in [0, length!). Python integers have no upper bound; a JAX array
        (also a traced one) must fit its dtype, which for int32 means length ≤ 12.
      length: number of pieces.

    Returns:
      int32 [class, length].

    Raises:
      ValueError: a concrete rank lies outside [0, length!), or a JAX array cannot hold such ranks.

    Example:
      >>> print(permutations_from_ranks([0, 5], 3))
      [[0 1 2]
       [2 1 0]]
    """
    if isinstance(ranks, jax.Array):
        if math.factorial(length) - 1 > jnp.iinfo(ranks.dtype).max:
            raise ValueError(
                f"ranks of {length} pieces reach {length}! − 1, beyond {ranks.dtype}: "
                "pass them as Python integers"
            )
        if not isinstance(ranks, jax.core.Tracer):
            _check_ranks([int(r) for r in ranks], length)
        digits, rest = [], ranks
        for base in range(1, length + 1):
            digits.append(rest % base)
            rest = rest // base
        if not digits:
            return jnp.zeros((len(ranks), 0), jnp.int32)
        return _permutations_from_digits(jnp.stack(digits[::-1], axis=-1).astype(jnp.int32))
    ranks = [operator.index(r) for r in ranks]  # a float is no rank
    _check_ranks(ranks, length)
    table = np.zeros((len(ranks), length), np.int32)
    for row, rank in enumerate(ranks):
        for base in range(1, length + 1):
            rank, table[row, length - base] = divmod(rank, base)
    return _permutations_from_digits(jnp.asarray(table))


def _check_ranks(ranks: list[int], length: int) -> None:
    outside = [r for r in ranks if not 0 <= r < math.factorial(length)]
    if outside:
        raise ValueError(
            f"rank {outside[0]} is not in [0, {length}!) = [0, {math.factorial(length)})"
        )


@jax.jit
def _permutations_from_digits(digits: Int[Array, "class piece"]) -> Int[Array, "class piece"]:
    """Lehmer code to permutation: digit i counts the later entries smaller than entry i."""
    length = digits.shape[-1]
    result = digits
    for i in range(length - 2, -1, -1):  # entries after i make room for entry i
        later = result[:, i + 1 :]
        passed = (later >= result[:, i : i + 1]).astype(later.dtype)
        result = result.at[:, i + 1 :].set(later + passed)
    return result


def sample_ranks(seed: int, count: int, length: int) -> list[int]:
    """`count` different ranks of permutations of `length` pieces, the same for the same seed.

    Raises:
      ValueError: there are fewer than `count` permutations.

    Example:
      >>> sorted(sample_ranks(0, 6, 3))
      [0, 1, 2, 3, 4, 5]
    """
    total = math.factorial(length)
    if count > total:
        raise ValueError(f"{count} permutations of {length} pieces asked for, only {total} exist")
    generator = np.random.default_rng(seed)
    ranks: dict[int, None] = {}  # a set that keeps the order of drawing
    size = (total.bit_length() + 7) // 8 + 8  # 64 spare bits: no visible modulo bias
    while len(ranks) < count:
        ranks[int.from_bytes(generator.bytes(size), "little") % total] = None
    return list(ranks)


@kernel(static=("block_size",))
def jigsaw_loss(
    pieces: Float[Array, "batch piece width"],
    permutations: Int[Array, "class piece"],
    *,
    hidden_kernel: Float[Array, "input hidden"],
    hidden_bias: Float[Array, "hidden"],
    output_kernel: Float[Array, "hidden class"],
    output_bias: Float[Array, "class"],
    block_size: int | None = None,
) -> Float[Array, "batch"]:
    """Cross-entropy of a two-layer classifier that must name the permutation of the pieces.

    Every permutation is applied to every row; with ẽᶜ the pieces in the order of permutation c,

        ℓᵢ = 1/P Σ_c −log softmax( W₂ ReLU(W₁ ẽᶜᵢ + b₁) + b₂ )[c]

    W₁ is linear in the pieces, so its product with each piece at each position is computed once
    ([piece, piece, hidden] per row) and a permutation is a selection from that table: at 8 pieces
    a quarter of the arithmetic of multiplying every permuted row, and nothing is ever permuted.

    Args:
      pieces: [batch, piece, width].
      permutations: [class, piece]; position p of permutation c holds piece `permutations[c, p]`.
      hidden_kernel: [piece·width, hidden], the kernel of a dense layer over concatenated pieces.
      hidden_bias, output_kernel, output_bias: the rest of the classifier.
      block_size: rows at a time; memory falls from O(batch·class·hidden) to O(block·class·hidden),
        in the backward pass too.

    Returns:
      [batch], in float32 or wider. One permutation alone gives 0.

    Example:
      >>> pieces = jax.random.normal(jax.random.key(0), (4, 3, 2))  # four rows of three pieces
      >>> loss = jigsaw_loss(
      ...     pieces,
      ...     permutations_from_ranks([0, 5], 3),
      ...     hidden_kernel=jnp.zeros((6, 8)),
      ...     hidden_bias=jnp.zeros(8),
      ...     output_kernel=jnp.zeros((8, 2)),
      ...     output_bias=jnp.zeros(2),
      ... )
      >>> print(loss)  # log 2: a classifier of zeros guesses
      [0.693 0.693 0.693 0.693]

    Reference: MICU (Huang et al., ICCV 2025), sec. 3.3; with the pieces of all modalities in one
    list it is the loss of MMJP (Dong et al., 2024).
    """
    batch, length, width = pieces.shape
    classes, hidden_size = output_kernel.shape[1], output_kernel.shape[0]
    dtype = accumulation_dtype(pieces, hidden_kernel, hidden_bias, output_kernel, output_bias)
    kernel_at = hidden_kernel.astype(dtype).reshape(length, width, hidden_size)
    kernel_2 = output_kernel.astype(dtype)
    bias_1, bias_2 = (bias.astype(dtype)[None] for bias in (hidden_bias, output_bias))
    select = jax.nn.one_hot(permutations, length, dtype=dtype)  # [class, position, piece]
    select = select.reshape(classes, length * length)

    def loss(rows: Float[Array, "block piece width"]) -> Float[Array, "block"]:
        # Rows stay behind the selected axis throughout: every product is one large matrix product.
        block = rows.shape[0]
        rows = jnp.swapaxes(rows.astype(dtype), 0, 1).reshape(length * block, width)
        table = jnp.stack([dot(rows, kernel_at[p], "xw,wh->xh") for p in range(length)])
        hidden = dot(select, table.reshape(length * length, block * hidden_size), "cs,sx->cx")
        hidden = jax.nn.relu(hidden.reshape(classes * block, hidden_size) + bias_1)
        logits = (dot(hidden, kernel_2, "xh,hk->xk") + bias_2).reshape(classes, block, classes)
        target = jnp.broadcast_to(jnp.arange(classes)[:, None], (classes, block))
        return jnp.mean(jax.vmap(cross_entropy)(logits, target), axis=0)

    if block_size is None or block_size >= batch:
        return loss(pieces)
    block_size = max(1, block_size)
    blocks = -(-batch // block_size)
    padded = jnp.pad(pieces, ((0, blocks * block_size - batch), (0, 0), (0, 0)))
    blocked = padded.reshape(blocks, block_size, length, width)
    return jax.lax.map(jax.checkpoint(loss), blocked).reshape(-1)[:batch]
