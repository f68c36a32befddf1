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
    | network        | small decoders                     | `models.published`, `published=True`   |

`published` is also how the authors train it: features as they are; two passes of the encoders a
step with fresh dropout, the second reconstructed and committed, each moving the codebook; the
modality of a jigsaw piece drawn once a step; gradients clipped by module. docs/micu.md lists every
departure. The paper leaves the number of permutations open; 256 is a comment in the code.

Ours, and not the authors': `fine_pairs="timed"` compares steps of modalities that share their time
alone; `jigsaw_hidden` hides pieces, so that a jigsaw of few permutations is not solved at once.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.data.features import FeatureSet
from unirep_jax.data.shared_time import shared_time, timed_pairs
from unirep_jax.methods.batch import Shapes
from unirep_jax.methods.published import check_published, move_codebook
from unirep_jax.methods.puzzles import (
    draw_per_step,
    draw_per_token,
    hide_pieces,
    joined_puzzles,
    mixed_puzzles,
    rows_at_a_time,
)
from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms
from unirep_jax.models.codebook import authors_codebook
from unirep_jax.models.heads import JigsawHead
from unirep_jax.models.published import (
    PublishedNetwork,
    authors_head,
    authors_start,
    clipped_part,
)
from unirep_jax.models.published_weights import start_from
from unirep_jax.models.unified import UnifiedNetwork

# What else of a step is random, beside the purposes of `encode`.
STEP_DRAW, SECOND_PASS = 101, 102


@dataclasses.dataclass(frozen=True)
class MICU(CodebookMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them."""

    temperature: float = 1.0
    cosine: bool = False
    mask: str = "dimensions"  # "dimensions", "steps" or "none"
    mask_ratio: float = 0.3
    mask_shared: bool = True  # one mask for all modalities of an example
    sum_pairs: bool = False

    fine_pairs: str = "all"  # "all", or "timed": of modalities that share their time
    timed: tuple[tuple[str, str], ...] = ()  # these pairs; by default measured

    jigsaw: str = "cujp"  # "cujp" or "mmjp"
    pieces: int = 8  # O, into which the dim features of a modality are cut
    permutations: int = 256
    jigsaw_hidden: float = 0.0  # share of the pieces that the classifier does not see

    weight_fine: float = 1.0
    weight_coarse: float = 1.0
    weight_jigsaw: float = 2.0
    weight_reconstruction: float = 1.0
    weight_commitment: float = 1.0
    commitment_own: float = 1.0
    commitment_other: float = 0.0  # towards each other modality's code
    specific: bool = False  # type: ignore[misc]  # decode from code and modality-specific features

    published: bool = False  # network, codebook and step of the authors' code
    weights: str = ""  # a file of released weights, from which a published network starts

    @classmethod
    def paper(cls) -> "MICU":
        """The equations as printed."""
        return cls()

    @classmethod
    def official(cls) -> "MICU":
        """What the authors' released code optimises."""
        return cls(
            temperature=0.1,
            cosine=True,
            mask="steps",
            sum_pairs=True,
            pieces=2,
            permutations=2,
            weight_jigsaw=1.0,
            commitment_own=0.5,
            commitment_other=0.125,
            specific=True,
            published=True,
        )

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
        self.check("fine_pairs", ("all", "timed"))
        if self.dim % self.pieces:
            raise ValueError(f"pieces={self.pieces} does not divide dim={self.dim}")
        if self.published and self.linear_start:
            raise ValueError("method.linear_start=True: a published network has no linear path")
        if self.weights and not self.published:
            raise ValueError("method.weights are those of a published network: published=False")
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

    # -- data --------------------------------------------------------------------------------

    def for_examples(self, training_set: FeatureSet) -> Self:
        """The method, the pairs of modalities that share their time measured where it needs them.

        Raises:
          ValueError: `timed` names what is no pair of the modalities.
        """
        for pair in self.timed:
            if len(pair) != 2 or not {*pair} <= {*training_set.modalities}:
                names = ", ".join(training_set.modalities)
                raise ValueError(f"method.timed: {pair!r} is no pair of {names}")
        if self.fine_pairs == "all" or self.timed:
            return self
        return dataclasses.replace(self, timed=timed_pairs(shared_time(training_set)))

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method for these features. Raises ValueError: as `check_published`."""
        if self.published:
            check_published(self, shapes, self.weights)
        return super().for_data(shapes, classes)

    @property
    def part_of(self) -> Callable[[tuple[str, ...]], str] | None:
        """The authors' modules, each clipped on its own."""
        return clipped_part if self.published else None

    def inputs(self, features: Mapping[str, Array], state: dict) -> dict[str, Array]:
        """Features as they are where the authors' network reads them."""
        if not self.published:
            return super().inputs(features, state)
        return {m: x.astype(jnp.float32) for m, x in features.items()}

    # -- modules -----------------------------------------------------------------------------

    def network(self, shapes: Shapes) -> UnifiedNetwork | PublishedNetwork:  # type: ignore[override]
        if not self.published:
            return super().network(shapes)
        return PublishedNetwork(shapes, self.dim, self.time, self.layers, self.heads, self.dropout)

    def init(self, key, shapes, statistics) -> tuple[dict, dict]:
        params, state = super().init(key, shapes, statistics)
        if self.published:
            key = jax.random.fold_in(key, 1)
            params["network"] = authors_start(key, params["network"])
        if self.weights:
            network, codebook = start_from(self.weights, params["network"])
            params, state = params | {"network": network}, state | {"codebook": codebook}
        return params, state

    def init_codebook(self, key: Key[Array, ""]) -> losses.CodebookState:
        if not self.published:
            return super().init_codebook(key)
        return authors_codebook(key, self.codes, self.dim)

    def jigsaw_head(self, modalities: int) -> JigsawHead:
        lists = modalities if self.jigsaw == "mmjp" else 1
        return JigsawHead(inputs=self.dim * lists, classes=self.permutations)

    def init_heads(self, key: Key[Array, ""], modalities: int) -> dict:
        head = self.jigsaw_head(modalities).init(key)["params"]
        return {"jigsaw": authors_head(key, head) if self.published else head}

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
            z,
            temperature=self.temperature,
            mask=self._mask(encoded.keys["mask"], z),
            where=encoded.present,
            cosine=self.cosine,
            axis_name=axis_name,
        )
        pairs = len(z) ** 2 if self.sum_pairs else 1
        timed = both & self._timed(tuple(encoded.inputs))[..., None]
        terms = {
            "fine": pairs * mean(contrast.fine, timed),  # eq. 4
            "coarse": pairs * mean(contrast.coarse, both),  # eq. 5
            "jigsaw": self._jigsaw(params, encoded, key),
        }
        state, health = self.next_state(state, encoded, key, axis_name)
        if self.published:  # a second pass, with dropout of its own, from the moved codebook
            key = jax.random.fold_in(key, SECOND_PASS)
            encoded = self.encode(params, state, batch, key, axis_name)
            state, health = self.next_state(state, encoded, key, axis_name)
        terms |= {
            "reconstruction": self.reconstruction(params, encoded.quantized, encoded),
            "commitment": self.commitment(
                encoded, own=self.commitment_own, other=self.commitment_other
            ),
        }
        return self.weighted(terms), (state, terms | health)  # eq. 8

    def _timed(self, names: tuple[str, ...]) -> Bool[Array, "m m"]:
        """Of which pairs of modalities steps are compared; each with itself always."""
        everything = self.fine_pairs == "all"
        pairs = {frozenset(pair) for pair in self.timed}
        chosen = [[everything or m == n or {m, n} in pairs for n in names] for m in names]
        return jnp.array(chosen)

    def _mask(self, keys: Key[Array, "batch"], z: Array) -> Bool[Array, "m batch t d"] | None:
        """What is kept of the queries, drawn per example."""
        if self.mask == "none":
            return None
        modalities, _, time, dim = z.shape
        step, width = (1, dim) if self.mask == "dimensions" else (time, 1)
        shape = (1 if self.mask_shared else modalities, step, width)
        keep = lambda key: jax.random.bernoulli(key, 1 - self.mask_ratio, shape)
        return jax.vmap(keep, out_axes=1)(keys)

    def next_state(
        self, state: dict, encoded: Encoded, key: Key[Array, ""], axis_name: str | None, **settings
    ) -> tuple[dict, Terms]:
        if not self.published:
            return super().next_state(state, encoded, key, axis_name, **settings)
        codebook = move_codebook(
            state["codebook"],
            encoded,
            key,
            decay=self.decay,
            patience=self.patience,
            axis_name=axis_name,
        )
        return state | {"codebook": codebook}, self.health(encoded, axis_name)

    def _jigsaw(self, params: dict, encoded: Encoded, key: Key[Array, ""]) -> Float[Array, ""]:
        """L_cujp on tokens whose pieces come from any modality, or MMJP on the pieces of all."""
        quantized, present, keys = encoded.quantized, encoded.present, encoded.keys["jigsaw"]
        if self.jigsaw == "mmjp":
            puzzles = joined_puzzles(quantized, present, self.pieces)
        elif self.published:
            key = jax.random.fold_in(key, STEP_DRAW)
            draw = draw_per_step(key, present, quantized.shape[2], self.pieces)
            puzzles = mixed_puzzles(quantized, draw)
        else:
            draw = draw_per_token(keys, present, quantized.shape[2], self.pieces)
            puzzles = mixed_puzzles(quantized, draw)
        if self.jigsaw_hidden:
            puzzles = hide_pieces(keys, puzzles, self.jigsaw_hidden)

        length = puzzles.pieces.shape[1]
        ranks = losses.sample_ranks(0, self.permutations, length)  # the same in every run
        module = self.jigsaw_head(len(quantized))
        head = module.apply({"params": params["jigsaw"]})
        rows = rows_at_a_time(self.permutations, length, module.hidden)
        value = losses.jigsaw_loss(
            puzzles.pieces, losses.permutations_from_ranks(ranks, length), block_size=rows, **head
        )
        return encoded.mean(value, puzzles.where)
