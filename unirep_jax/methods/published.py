"""What MICU with the authors' network does in its own way: what it refuses, how codes move."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array, Key

from unirep_jax.losses import CodebookState
from unirep_jax.methods.unified import CodebookMethod, Encoded
from unirep_jax.models.codebook import authors_update
from unirep_jax.models.published import ORDER, SMALLEST_MAP, WORDS
from unirep_jax.models.published_weights import check_start


def check_published(
    method: CodebookMethod, shapes: Mapping[str, tuple[int, ...]], weights: str
) -> None:
    """Whether the authors' network reads these features and can start from the weights.

    Raises:
      ValueError: maps are too small for its convolutions, or as `check_start`.
    """
    for m, shape in shapes.items():
        if len(shape) == 4 and min(shape[1:3]) < SMALLEST_MAP:
            raise ValueError(f"{m} {shape}: published=True needs maps of 5 × 5 or more")
    if weights:
        check_start(weights, shapes, dim=method.dim, codes=method.codes, layers=method.layers)


def move_codebook(
    codebook: CodebookState,
    encoded: Encoded,
    key: Key[Array, ""],
    *,
    decay: float,
    patience: int,
    axis_name: str | None,
) -> CodebookState:
    """The codebook after one pass: audio moves it first, then video, text and any other."""
    names = [*encoded.inputs]
    place = lambda m: (ORDER.index(names[m]) if names[m] in ORDER else len(ORDER), names[m])
    order = np.array(sorted(range(len(names)), key=place))
    return authors_update(
        codebook,
        encoded.z[order],
        encoded.indices[order],
        encoded.present[order],
        key=jax.random.fold_in(key, len(encoded.keys)),
        decay=decay,
        patience=patience,
        counted=np.array([names[m] != WORDS for m in order]),
        axis_name=axis_name,
    )
