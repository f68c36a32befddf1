"""CMCM: examples matched by their embeddings and by the codes that they choose.

Liu et al., "Cross-Modal Discrete Representation Learning", 2021, as a baseline of MICU:

    L = L_contrast + λ₁ L_matching + λ₂ L_commit

L_contrast compares examples over modalities, each embedded as the mean over time of its continuous
and its quantised sequence; L_matching compares their distributions over the shared codebook, which
is a plain moving average of every modality's own features. For `warm_start` steps only the
continuous sequences are trained, while the codebook follows them; then codes join.

How MICU's authors adapted it is not published. Our reading, ≠ the original: InfoNCE of cosines for
its masked margin softmax, with the encoders of MICU; nothing is reconstructed, as there.
"""

import dataclasses
from itertools import combinations
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax import losses
from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms


@dataclasses.dataclass(frozen=True)
class CMCM(CodebookMethod):
    """Hyper-parameters and the functions made of them."""

    temperature: float = 0.1
    warm_start: int = 0  # steps before codes are used

    weight_contrast: float = 1.0
    weight_matching: float = 1.0
    weight_commitment: float = 1.0

    def init(self, key, shapes, statistics) -> tuple[dict, dict]:
        params, state = super().init(key, shapes, statistics)
        return params, state | {"step": jnp.int32(0)}

    cross_entropies: ClassVar[tuple[str, ...]] = ("contrast",)

    # -- loss --------------------------------------------------------------------------------

    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, Terms]]:
        """The loss on this device's share of the batch; the state after it; the terms to log."""
        encoded = self.encode(params, state, batch, key, axis_name)
        begun = (state["step"] >= self.warm_start).astype(jnp.float32)
        terms = {
            "contrast": self._contrast(encoded, begun, axis_name),
            "matching": begun * self.matching(state, encoded, axis_name),
            "commitment": begun * self.commitment(encoded, own=1.0, other=0.0),
        }
        state, health = self.next_state(state, encoded, key, axis_name, share=0.0)
        return self.weighted(terms), (state | {"step": state["step"] + 1}, terms | health)

    def _contrast(
        self, encoded: Encoded, begun: Float[Array, ""], axis_name: str | None
    ) -> Float[Array, ""]:
        """Mean over pairs of modalities of the symmetric InfoNCE of their embeddings."""
        embedding = losses.unit(jnp.mean(encoded.z + begun * encoded.quantized, axis=2))
        pairs = list(combinations(range(len(embedding)), 2))
        total = jnp.zeros(())
        for m, n in pairs:
            value = losses.symmetric_info_nce(
                embedding[m],
                embedding[n],
                temperature=self.temperature,
                where=encoded.both[m, n],
                axis_name=axis_name,
            )
            total += encoded.mean(value, encoded.both[m, n])
        return total / max(len(pairs), 1)
