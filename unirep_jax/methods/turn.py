"""TURN: every modality reconstructed from its own codes and from those of the others.

Zhao et al., "Towards Effective Multi-modal Interchanges in Zero-resource Sounding Object
Localization", NeurIPS 2022, as a baseline of MICU, which says of it that it "enhances mutual
information via self-cross-reconstruction". With e the codes of a shared codebook, x the features
and D the decoders,

    L = Σₘ ‖Dₘ(eₘ) − xₘ‖² + λ₁ Σ_{m≠n} ‖Dₘ(eₙ) − xₘ‖² + λ₂ L_commit

The authors' code is not public, so this is our reading of that sentence, in the style of TURN:
codes alone are decoded, for whatever could bypass them would spare the codes from agreeing; the
codebook is a plain moving average of every modality's own features.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms


@dataclasses.dataclass(frozen=True)
class TURN(CodebookMethod):
    """Hyper-parameters and the functions made of them."""

    weight_reconstruction: float = 1.0
    weight_cross: float = 1.0
    weight_commitment: float = 1.0

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
        terms = {
            "reconstruction": self.reconstruction(params, encoded.quantized, encoded),
            "cross": self._cross(params, encoded),
            "commitment": self.commitment(encoded, own=1.0, other=0.0),
        }
        state, health = self.next_state(state, encoded, key, axis_name, share=0.0)
        return self.weighted(terms), (state, terms | health)

    def _cross(self, params: dict, encoded: Encoded) -> Float[Array, ""]:
        """Σ over ordered pairs of the error of one modality decoded from another's codes."""
        total = jnp.zeros(())
        for turn in range(1, len(encoded.z)):  # modality m from the codes of modality m − turn
            codes = jnp.roll(encoded.quantized, turn, axis=0)
            where = encoded.present & jnp.roll(encoded.present, turn, axis=0)
            error = self.decoding_error(params, codes, encoded)
            total += sum(encoded.mean(e, w) for e, w in zip(error, where, strict=True))
        return total
