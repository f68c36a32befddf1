"""MICU and DCID with the weights that their authors released: nothing is learned.

Huang et al., "Open-set Cross Modal Generalization via Multimodal Unified Representation",
ICCV 2025; Xia et al., "Achieving Cross Modal Generalization with Multimodal Unified
Representation", NeurIPS 2023. Both have the same encoders, codebook and names. What is computed is
what the authors evaluate: features as they are, encoded without dropout, each step replaced by the
nearest code.

≠ float32 instead of float64: a step that lies as far from one code as from another may fall to
either. ≠ the authors train their probes on sequences with dropout in them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax import losses
from unirep_jax.data.features import FeatureSet
from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.losses import CodebookState
from unirep_jax.methods.method import Embedding, RepresentationMethod, SolvedMethod, unit_mean
from unirep_jax.models.released import ReleasedEncoder
from unirep_jax.models.released_weights import check_weights, load_weights


@dataclasses.dataclass(frozen=True)
class Released(RepresentationMethod, SolvedMethod):
    """A file of weights and how its codebook is read.

    weights: safetensors, made by `python -m unirep_jax.convert`; zero_first_code: code 0 is the
    zero vector, which the authors' evaluation of MICU makes it and their training does not.
    """

    weights: str = ""
    zero_first_code: bool = False

    @classmethod
    def micu(cls, weights: str = "") -> Self:
        """As the authors' code evaluates MICU."""
        return cls(weights, zero_first_code=True)

    @classmethod
    def dcid(cls, weights: str = "") -> Self:
        """As the authors' code evaluates DCID."""
        return cls(weights)

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method itself.

        Raises:
          ValueError: the features are not those that the weights are for, or the file is not one of
            such weights.
        """
        for m, shape in shapes.items():
            if m not in SHAPES:
                raise ValueError(f"released weights have no {m!r}, only {', '.join(SHAPES)}")
            if shape[1:] != SHAPES[m][1:]:
                expected = ", ".join(map(str, SHAPES[m][1:]))
                raise ValueError(f"{m}: released weights take [time, {expected}], not {shape}")
        if not self.weights:
            raise ValueError("method.weights names no file")
        check_weights(self.weights)
        return self

    def solve(self, training_set: FeatureSet) -> tuple[dict, dict]:
        """What the file holds, whatever the data: parameters of all modalities, the codebook."""
        params, codebook = load_weights(self.weights)
        codebook = {name: jnp.asarray(array) for name, array in codebook.items()}
        codebook["age"] = codebook["age"].astype(jnp.int32)
        if self.zero_first_code:
            codebook["codebook"] = codebook["codebook"].at[0].set(0)
        return jax.tree.map(jnp.asarray, params), {"codebook": CodebookState(**codebook)}

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """The quantised sequence of one modality, its mean as a unit vector, and its codes."""
        z = self.encode(params, modality, features)
        codebook = self.codebook(state)
        indices = losses.nearest_code(z, codebook)
        sequence = codebook[indices]
        return Embedding(sequence, unit_mean(sequence), indices)

    def codebook(self, state: dict) -> Float[Array, "code dim"]:
        """The codes of all modalities."""
        return state["codebook"].codebook

    def encode(
        self, params: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Float[Array, "batch time dim"]:
        """The sequence before it is quantised."""
        encoder = ReleasedEncoder(modality)
        with jax.default_matmul_precision("highest"):  # coarser products choose other codes
            return jax.vmap(lambda x: encoder.apply({"params": params[modality]}, x))(
                features.astype(jnp.float32)
            )
