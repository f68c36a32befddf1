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
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses
from unirep_jax.methods.batch import Shapes, example_keys, shapes_of, standardize
from unirep_jax.models.augmentation import augment
from unirep_jax.models.codebook import code_statistics, init_codebook, update_codebook
from unirep_jax.models.encoders import common_time
from unirep_jax.models.heads import JigsawHead
from unirep_jax.models.unified import UnifiedNetwork


@dataclasses.dataclass(frozen=True)
class MICU:
    """Hyper-parameters (the paper's where it states them) and the functions made of them."""

    dim: int = 256
    codes: int = 400
    time: int = 0  # steps of the unified sequence; 0: that of the shortest modality
    temporal: str = "transformer"
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

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
    specific: bool = False  # decode from code and modality-specific features

    decay: float = 0.99
    ema_updates: int = 1
    patience: int = 300

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

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

    def __post_init__(self) -> None:
        choices = {
            "temporal": ("transformer", "convolution"),
            "mask": ("dimensions", "steps", "none"),
            "jigsaw": ("cujp", "mmjp"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")
        if self.dim % self.pieces:
            raise ValueError(f"pieces={self.pieces} does not divide dim={self.dim}")

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> "MICU":
        """The method for these features (shape of one example per modality), `time` settled."""
        return dataclasses.replace(self, time=self.time or common_time(shapes))

    def network(self, shapes: Shapes) -> UnifiedNetwork:
        return UnifiedNetwork(
            shapes, self.dim, self.time, self.temporal, self.layers, self.heads, self.dropout,
            self.specific,
        )  # fmt: skip

    def jigsaw_head(self, modalities: int) -> JigsawHead:
        lists = modalities if self.jigsaw == "mmjp" else 1
        return JigsawHead(inputs=self.dim * lists, classes=self.permutations)

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes: codebook and feature statistics.

        Args:
          key: randomness.
          shapes: per modality the shape of one example.
          statistics: per modality (mean, std), each [channels], of the training features.
        """
        network_key, head_key, code_key = jax.random.split(key, 3)
        example = {m: jnp.zeros(shape) for m, shape in shapes.items()}
        network = self.network(tuple(shapes.items()))
        params = {
            "network": jax.jit(network.init)(network_key, example)["params"],
            "jigsaw": self.jigsaw_head(len(shapes)).init(head_key)["params"],
        }
        state = {
            "codebook": init_codebook(code_key, self.codes, self.dim, patience=self.patience),
            "statistics": jax.tree.map(jnp.asarray, statistics),
        }
        return params, state

    # -- loss --------------------------------------------------------------------------------

    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Float[Array, ""]]]]:
        """Eq. 8 on this device's share of the batch; the state after the step; the terms to log.

        The mean over the devices of `axis_name` is the loss of the whole batch. Modalities take
        their turns in alphabetical order, in which JAX keeps dictionaries.
        """
        present = jnp.stack([batch["present"][m] for m in sorted(batch["present"])])
        purposes = ("augment", "dropout", "mask", "jigsaw")
        keys = example_keys(key, present.shape[1], purposes, axis_name)

        inputs = standardize(batch["features"], state["statistics"])
        inputs, z = self._encode(params, inputs, keys)
        codebook = state["codebook"]
        indices = losses.nearest_code(jax.lax.stop_gradient(z), codebook.codebook)
        codes = codebook.codebook[indices]  # eq. 6
        quantized = losses.straight_through(z, codes)

        mean = partial(losses.masked_mean, axis_name=axis_name)
        both = present[:, None] & present[None]
        contrast = losses.fine_coarse_info_nce(
            z, temperature=self.temperature, mask=self._mask(keys["mask"], z), where=present,
            cosine=self.cosine, axis_name=axis_name,
        )  # fmt: skip
        pairs = present.shape[0] ** 2 if self.sum_pairs else 1
        terms = {
            "fine": pairs * mean(contrast.fine, both),  # eq. 4
            "coarse": pairs * mean(contrast.coarse, both),  # eq. 5
            "jigsaw": self._jigsaw(params, quantized, present, keys["jigsaw"], mean),
            "reconstruction": self._reconstruction(params, quantized, inputs, present, mean),
            "commitment": self._commitment(z, codes, both, mean),
        }
        # Eq. 8
        loss = sum(getattr(self, f"weight_{name}") * value for name, value in terms.items())

        codebook = update_codebook(
            codebook, z, indices, present, key=jax.random.fold_in(key, len(purposes)),
            decay=self.decay, updates=self.ema_updates, patience=self.patience, axis_name=axis_name,
        )  # fmt: skip
        statistics = code_statistics(
            indices, present, self.codes, names=tuple(inputs), axis_name=axis_name
        )
        return loss, (state | {"codebook": codebook}, terms | statistics)

    def _encode(self, params, inputs, keys):
        """Augmented inputs and their continuous sequences [modality, batch, time, dim]."""
        network = self.network(shapes_of(inputs))

        def one(x, augment_key, dropout_key):
            x = augment(x, augment_key, noise=self.noise, gain=self.gain, warp=self.warp)
            rngs = {"dropout": dropout_key}
            variables = {"params": params["network"]}
            return x, network.apply(variables, x, train=True, method="encode", rngs=rngs)

        return jax.vmap(one, out_axes=(0, 1))(inputs, keys["augment"], keys["dropout"])

    def _mask(self, keys: Key[Array, "batch"], z: Array) -> Bool[Array, "m batch t d"] | None:
        """What is kept of the queries, drawn per example."""
        if self.mask == "none":
            return None
        modalities, _, time, dim = z.shape
        step, width = (1, dim) if self.mask == "dimensions" else (time, 1)
        shape = (1 if self.mask_shared else modalities, step, width)
        keep = lambda key: jax.random.bernoulli(key, 1 - self.mask_ratio, shape)
        return jax.vmap(keep, out_axes=1)(keys)

    def _jigsaw(self, params, quantized, present, keys, mean) -> Float[Array, ""]:
        """L_cujp on tokens whose pieces come from any modality, or MMJP on the pieces of all."""
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
        return mean(value, where)

    def _reconstruction(self, params, quantized, inputs, present, mean) -> Float[Array, ""]:
        """Σ over modalities of the mean squared error decoded from the code."""
        network = self.network(shapes_of(inputs))
        error = jax.vmap(
            lambda code, x: network.apply(
                {"params": params["network"]}, code, x, method="reconstruction_error"
            ),
            in_axes=(1, 0), out_axes=1,
        )(quantized, inputs)  # fmt: skip
        return sum(mean(e, p) for e, p in zip(error, present, strict=True))

    def _commitment(self, z, codes, both, mean) -> Float[Array, ""]:
        """Σ over modalities of the distance to their own code and, where weighted, the others'."""
        total = jnp.zeros(())
        for m in range(z.shape[0]):
            for n in range(z.shape[0]):
                weight = self.commitment_own if m == n else self.commitment_other
                if weight:
                    distance = losses.commitment_loss(z[m], codes[n]).mean(-1)
                    total += weight * mean(distance, both[m, n])
        return total

    # -- readout -----------------------------------------------------------------------------

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> tuple[Float[Array, "batch time dim"], Int[Array, "batch time"]]:
        """The quantised sequence of one modality, and its codes. No dropout, no augmentation."""
        inputs = {modality: features}
        network = self.network(shapes_of(inputs))
        inputs = standardize(inputs, state["statistics"])
        encode = lambda x: network.apply(
            {"params": params["network"]}, x, train=False, method="encode"
        )
        z = jax.vmap(encode, out_axes=1)(inputs)[0]
        codebook = state["codebook"].codebook
        indices = losses.nearest_code(z, codebook)
        return codebook[indices], indices
