"""Vectors of the tokens of texts, as MICU's and DCID's authors keep them."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unirep_jax.data.files import read_text, split_lines
from unirep_jax.data.limits import TEXT_BYTES
from unirep_jax.data.published_shapes import SECONDS


def kept_tokens(
    vectors: Float[np.ndarray, "token dim"],
    ids: Sequence[int],
    kept: Collection[int] | None = None,
    *,
    count: int = SECONDS,
) -> Float[np.ndarray, "count dim"]:
    """The vectors of the first `count` tokens that are in the list, zeros after the last, float32.

    Args:
      vectors: of every token of a text, without those that begin and end it.
      ids: of the tokens, in the language model's vocabulary.
      kept: ids that count; the authors' list has 1,046. None for all.

    Raises:
      ValueError: there are not as many ids as vectors.
    """
    if len(ids) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors of {len(ids)} tokens")
    chosen = [i for i, token in enumerate(ids) if kept is None or int(token) in kept][:count]
    made = np.zeros((count, vectors.shape[1]), np.float32)
    made[: len(chosen)] = vectors[chosen]
    return made


def read_token_list(path: str | Path) -> frozenset[int]:
    """Token ids, one a line.

    Raises:
      ValueError: a line is no whole number.
    """
    lines = [line.strip() for line in split_lines(read_text(Path(path), TEXT_BYTES))]
    wrong = [line for line in lines if line and not line.isdecimal()]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]!r:.60} is no token id")
    return frozenset(int(line) for line in lines if line)
