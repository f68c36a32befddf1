"""Zero-shot retrieval: a network trained on one data set embeds another, and nothing is fitted."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax import losses
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.probe import Representation


def mean_codes(
    codebook: Float[Array, "code dim"], indices: Int[Array, "example time"]
) -> Float[np.ndarray, "example dim"]:
    """The mean code vector of each example, scaled to length 1; zero where the codes cancel."""
    return np.asarray(losses.unit(jnp.mean(jnp.asarray(codebook)[indices], axis=1)))


def code_retrieval(
    representation: Representation, feature_set, *, captions: str = ""
) -> Iterator[dict[str, Any]]:
    """Recalls and ranks of every search between modalities, by their mean codes.

    Text to video and text to audio of CMG and MICU. Two examples with the same codes are tied, and
    ties count in expectation (`evaluation.retrieval`). The authors' script is not public; that they
    average codes over time, and compare cosines, is our reading.

    Args:
      representation: codes of every example, from a network that has been trained elsewhere.
      feature_set: the retrieval set, all of whose test examples are searched.
      captions: a modality of which an item (`feature_set.group`) has several examples.

    Yields:
      What `retrieval.directions` does.

    Reference: Huang et al., "Open-set Cross Modal Generalization via Multimodal Unified
    Representation", ICCV 2025 (zero-shot cross-modal retrieval).
    """
    embeddings = {m: mean_codes(representation.codebook, representation.indices[m])
                  for m in feature_set.modalities}  # fmt: skip
    return retrieval.directions(embeddings, feature_set, captions=captions)
