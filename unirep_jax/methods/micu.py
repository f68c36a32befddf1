"""MICU: a unified discrete codebook from masked contrast and a cross-modal jigsaw.

Huang et al., "Open-set Cross Modal Generalization via Multimodal Unified Representation",
ICCV 2025 (arXiv 2507.14935). Unlabelled, instance-paired modalities are encoded to [time, dim]
sequences, quantised with one codebook, and trained by eq. 8:

    L = λ₁ (L_fine + L_coarse) + λ₂ L_cujp + λ₃ L_recon + λ₄ L_commit,   λ = 1, 2, 1, 1

Two presets. `MICU.paper()` takes the equations as printed; `MICU.official()` what the authors' code
optimises, which differs in

    | term           | paper (eq.)                        | official code                          |
    |----------------|------------------------------------|----------------------------------------|
    | similarity     | dot product, τ = 1 (4, 5)          | cosine, τ = 0.1                        |
    | mask           | same dimensions at every step      | whole steps                            |
    | pairs (m, n)   | mean                               | sum over all ordered pairs             |
    | jigsaw         | λ₂ = 2 (8)                         | λ₂ = 1, 2 pieces, 2 permutations       |
    | reconstruction | from the code alone (7)            | code and modality-specific features    |
    | commitment     | own code, weight 1 (7)             | ½ own + ⅛ each other modality's code   |
    | codebook EMA   | once a step                        | twice a step                           |

≠ both: one encoder pass a step (the code runs two, with fresh dropout); text has the same temporal
encoder as the others instead of a bidirectional LSTM; maps are decoded by a low-rank decoder
instead of 109 M parameters of convolutions that no downstream task uses; restarted codes stay
restarted; the modality of a jigsaw piece is drawn per token instead of once a step. The paper
leaves the number of permutations open; 256 is a comment in the code.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms
from unirep_jax.models.heads import JigsawHead


@dataclasses.dataclass(frozen=True)
class MICU(CodebookMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them."""

    temperature: float = 1.0
    cosine: bool = False
    mask: str = "dimensions"  # "dimensions", "steps" or "none"
    mask_ratio: float = 0.3
    mask_shared: bool = True  # one mask for all modalities of an example
    sum_pairs: bool = False

    jigsaw: str = "cujp"  # "cujp" or "mmjp"
    pieces: int = 8  # O, into which the dim features of a modality are cut
    permutations: int = 256

    weight_fine: float = 1.0
    weight_coarse: float = 1.0
    weight_jigsaw: float = 2.0
    weight_reconstruction: float = 1.0
    weight_commitment: float = 1.0
    commitment_own: float = 1.0
    commitment_other: float = 0.0  # towards each other modality's code
    specific: bool = False  # type: ignore[misc]  # decode from code and modality-specific features
    ema_updates: int = 1

    @classmethod
    def paper(cls) -> "MICU":
        """The equations as printed."""
        return cls()

    @classmethod
    def official(cls) -> "MICU":
        """What the authors' released code optimises."""
        return cls(
            temperature=0.1, cosine=True, mask="steps", sum_pairs=True,
            pieces=2, permutations=2, weight_jigsaw=1.0,
            commitment_own=0.5, commitment_other=0.125, specific=True, ema_updates=2,
        )  # fmt: skip

    @classmethod
    def mmjp(cls) -> "MICU":
        """MMJP in MICU's place for the jigsaw: two pieces of every modality, time averaged.

        Dong et al., "Towards Multimodal Open-Set Domain Generalization and Adaptation through
        Self-supervision", ECCV 2024, whose number of permutations this is: "MMJP6" of figure 3.
        """
        return cls(jigsaw="mmjp", pieces=2, permutations=128)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("mask", ("dimensions", "steps", "none"))
        self.check("jigsaw", ("cujp", "mmjp"))
        if self.dim % self.pieces:
            raise ValueError(f"pieces={self.pieces} does not divide dim={self.dim}")
        orders = math.factorial(self.pieces)
        if self.jigsaw == "cujp" and self.permutations > orders:
            raise ValueError(
                f"permutations={self.permutations} of {self.pieces} pieces, which have {orders}"
            )

    cross_entropies: ClassVar[tuple[str, ...]] = ("fine", "coarse", "jigsaw")

    def inert(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> list[str]:
        """L_fine without two time steps to tell apart, a jigsaw without two orders."""
        lines = []
        if self.weight_fine and self.time == 1:
            lines.append("fine (sequences of one time step, nothing to tell apart)")
        length = self.pieces * (len(shapes) if self.jigsaw == "mmjp" else 1)
        if self.weight_jigsaw and min(self.permutations, math.factorial(length)) == 1:
            lines.append("jigsaw (one order of the pieces, nothing to tell apart)")
        return lines

    # -- modules -----------------------------------------------------------------------------

    def jigsaw_head(self, modalities: int) -> JigsawHead:
        lists = modalities if self.jigsaw == "mmjp" else 1
        return JigsawHead(inputs=self.dim * lists, classes=self.permutations)

    def init_heads(self, key: Key[Array, ""], modalities: int) -> dict:
        return {"jigsaw": self.jigsaw_head(modalities).init(key)["params"]}

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
        """Eq. 8 on this device's share of the batch; the state after the step; the terms to log.

        The mean over the devices of `axis_name` is the loss of the whole batch.
        """
        encoded = self.encode(params, state, batch, key, axis_name, purposes=("mask", "jigsaw"))
        z, mean, both = encoded.z, encoded.mean, encoded.both  # z: eq. 6
        contrast = losses.fine_coarse_info_nce(
            z, temperature=self.temperature, mask=self._mask(encoded.keys["mask"], z),
            where=encoded.present, cosine=self.cosine, axis_name=axis_name,
        )  # fmt: skip
        pairs = len(z) ** 2 if self.sum_pairs else 1
        terms = {
            "fine": pairs * mean(contrast.fine, both),  # eq. 4
            "coarse": pairs * mean(contrast.coarse, both),  # eq. 5
            "jigsaw": self._jigsaw(params, encoded),
            "reconstruction": self.reconstruction(params, encoded.quantized, encoded),
            "commitment": self.commitment(
                encoded, own=self.commitment_own, other=self.commitment_other
            ),
        }
        state, health = self.next_state(state, encoded, key, axis_name, updates=self.ema_updates)
        return self.weighted(terms), (state, terms | health)  # eq. 8

    def _mask(self, keys: Key[Array, "batch"], z: Array) -> Bool[Array, "m batch t d"] | None:
        """What is kept of the queries, drawn per example."""
        if self.mask == "none":
            return None
        modalities, _, time, dim = z.shape
        step, width = (1, dim) if self.mask == "dimensions" else (time, 1)
        shape = (1 if self.mask_shared else modalities, step, width)
        keep = lambda key: jax.random.bernoulli(key, 1 - self.mask_ratio, shape)
        return jax.vmap(keep, out_axes=1)(keys)

    def _jigsaw(self, params: dict, encoded: Encoded) -> Float[Array, ""]:
        """L_cujp on tokens whose pieces come from any modality, or MMJP on the pieces of all."""
        quantized, present, keys = encoded.quantized, encoded.present, encoded.keys["jigsaw"]
        modalities, batch, time, dim = quantized.shape
        pieces = quantized.reshape(modalities, batch, time, self.pieces, dim // self.pieces)
        if self.jigsaw == "mmjp":
            pieces = jnp.moveaxis(pieces.mean(2), 0, 1).reshape(batch, -1, dim // self.pieces)
            where = present.all(0)
        else:
            noise = jax.vmap(lambda k: jax.random.gumbel(k, (time, self.pieces, modalities)))(keys)
            allowed = present.T[:, None, None]  # [batch, 1, 1, modality]
            draw = jnp.argmax(jnp.where(allowed, noise, -jnp.inf), axis=-1)
            chosen = jax.nn.one_hot(draw, modalities, axis=0)[..., None]
            pieces = jnp.sum(chosen * pieces, axis=0).reshape(batch * time, self.pieces, -1)
            where = jnp.repeat(present.any(0), time)

        length = pieces.shape[1]
        ranks = losses.sample_ranks(0, self.permutations, length)  # the same in every run
        head = self.jigsaw_head(modalities).apply({"params": params["jigsaw"]})
        # Blocks of rows whose activations (8 MB) stay in a processor's cache.
        rows = max(2**21 // (512 * max(self.permutations, length**2)), 8)
        value = losses.jigsaw_loss(
            pieces, losses.permutations_from_ranks(ranks, length), block_size=rows, **head
        )
        return encoded.mean(value, where)
