"""C-MCR: two contrastive spaces connected through the modality that they share.

Wang et al., "Connecting Multi-modal Contrastive Representations", NeurIPS 2023. Let the spaces be
those of CLIP (images, texts) and CLAP (sounds, texts). Of every text i there are four vectors, the
streams: its own in each space, t₁ and t₂, and what is most like it in each space's memory of the
other modality, v₁ and v₂ (eq. 2, `losses.soft_aggregate`, computed beforehand). With noise

    x̃ = (x + θ) / ‖x + θ‖,  θ ~ N(0, σ²)                                                 (eq. 3)

and one projector per space, x̂₁ = f₁(x̃₁), x̂₂ = f₂(x̃₂) (eq. 4), training minimises

    L_ttc(t̂₁, t̂₂) + L_avc(v̂₁, v̂₂) + λ/2 Σₛ mean ‖t̂ₛ − v̂ₛ‖₂                          (eq. 5-10)

of which the first two are symmetric InfoNCE over cosines. No pair of (image, sound) is ever seen.

What the paper leaves open, and what is taken: σ² is the variance of every entry, so in 512
dimensions the noise is longer than the signal; L_intra is between normalised projections, unsquared
as eq. 9 is printed (`intra_squared`: the squares that it is derived from; `intra_normalized`: the
projections before they are normalised); batch statistics are those of both streams of a space
together ("separate": of each alone, which closes the gap between modalities in training and leaves
it in use, where both share the running statistics).

`released()` is what the authors' checkpoint of CLIP and CLAP has: no ReLU at the end.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax import losses
from unirep_jax.data import FeatureSet
from unirep_jax.methods.batch import example_keys
from unirep_jax.methods.method import (
    Embedding,
    Encoded,
    EncodedMethod,
    Pretrain,
    RepresentationMethod,
    TrainedMethod,
)
from unirep_jax.methods.streams import AGGREGATES, encode_streams
from unirep_jax.models.initial import initialize
from unirep_jax.models.projectors import Projector

SPACES = ("first", "second")


@dataclasses.dataclass(frozen=True)
class CMCR(RepresentationMethod, TrainedMethod, EncodedMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them.

    first, second: the streams of each space, (shared modality, other modality). Where they are not
      in the data, they are made of raw modalities by the same names without _1, _2 (`streams`).
      (): what the names of the data's streams say, the shared modality being that of both spaces.
    consistency: eq. 2 ("softmax", of `consistency_temperature`), the most similar item of the
      memory ("argmax"), any ("random").
    """

    first: tuple[str, ...] = ("text_1", "image_1")
    second: tuple[str, ...] = ("text_2", "audio_2")

    dim: int = 512
    hidden: int = 1024  # 0: one linear map
    final_relu: bool = True
    batch_statistics: str = "joint"  # of both streams of a space; or "separate"

    noise_variance: float = 0.004
    renormalize: bool = True
    temperature_shared: float = 0.01
    temperature_other: float = 0.01
    weight_shared: float = 1.0  # of L_ttc
    weight_other: float = 1.0  # of L_avc
    weight_intra: float = 0.1
    intra: tuple[str, ...] = SPACES  # the spaces whose streams L_intra joins
    intra_normalized: bool = True
    intra_squared: bool = False
    block_size: int = 0  # of InfoNCE; 0: the whole matrix at once

    consistency: str = "softmax"
    consistency_temperature: float = 0.01

    @classmethod
    def ulip(cls) -> "CMCR":
        """Section 4.2: ULIP and CLIP, which share images."""
        first, second = ("image_1", "points_1"), ("image_2", "text_2")
        return cls(first, second, noise_variance=0.002, weight_intra=0.4)

    @classmethod
    def released(cls) -> "CMCR":
        """The architecture of the authors' checkpoint."""
        return cls(final_relu=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_statistics not in ("joint", "separate"):
            raise ValueError(
                f"batch_statistics={self.batch_statistics!r} is neither 'joint' nor 'separate'"
            )
        if self.consistency not in AGGREGATES:
            raise ValueError(f"consistency={self.consistency!r} is none of {', '.join(AGGREGATES)}")
        if not {*self.intra} <= {*SPACES}:
            raise ValueError(f"intra={self.intra} are not among {SPACES}")

        for space, streams in self.streams.items():
            if len(streams) not in (0, 2):
                raise ValueError(f"{space}={streams} are not the two streams of a space")

    # -- modules -----------------------------------------------------------------------------

    @property
    def streams(self) -> dict[str, tuple[str, ...]]:
        return {"first": self.first, "second": self.second}

    def of_streams(self, names: Iterable[str]) -> "CMCR":
        """The method with the roles that the names of four streams say, where it has none.

        Raises:
          ValueError: the names are not SHARED_1, OTHER_1, SHARED_2 and OTHER_2.
        """
        if self.first and self.second:
            return self
        sides = [{m[:-2] for m in names if m.endswith(end)} for end in ("_1", "_2")]
        shared = sides[0] & sides[1]
        if [len(side) for side in (shared, *sides)] != [1, 2, 2]:
            expected = "SHARED_1, OTHER_1, SHARED_2, OTHER_2"
            raise ValueError(f"streams {', '.join(names)} are not {expected}; name method.first")
        (both,), (one,), (two,) = shared, sides[0] - shared, sides[1] - shared
        first, second = (f"{both}_1", f"{one}_1"), (f"{both}_2", f"{two}_2")
        return dataclasses.replace(self, first=first, second=second)

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> "CMCR":
        """The method for these embeddings.

        Raises:
          ValueError: a stream is not there or not of vectors, or those of a space differ in length.
        """
        method = self.of_streams(shapes)
        for space, (shared, other) in method.streams.items():
            for m in (shared, other):
                if m not in shapes:
                    raise ValueError(f"{space}: stream {m!r} is none of {', '.join(shapes)}")
                if len(shapes[m]) != 1:
                    raise ValueError(f"{space}: {m} has examples of {shapes[m]}, not vectors")
            if shapes[shared] != shapes[other]:
                raise ValueError(
                    f"{space}: {shared} has {shapes[shared][0]} dimensions, "
                    f"{other} {shapes[other][0]}"
                )
        return method

    def encoded(self, data: FeatureSet, pretrain: Pretrain, seed: int) -> Encoded:
        """The four streams: as they are in the data, or made of three raw modalities.

        Raises:
          ValueError: as `encode_streams`.
        """
        if not (self.first and self.second):
            return self.of_streams(data.modalities).encoded(data, pretrain, seed)
        names = (*self.first, *self.second)
        if {*names} <= {*data.modalities}:
            streams = dataclasses.replace(data, features={m: data.features[m] for m in names})
            return Encoded(streams, {m: ((None, m),) for m in names})
        raw = (
            (self.first[0].removesuffix("_1"), self.first[1].removesuffix("_1")),
            (self.second[0].removesuffix("_2"), self.second[1].removesuffix("_2")),
        )
        aggregate = AGGREGATES[self.consistency](self.consistency_temperature)
        return encode_streams(data, pretrain, seed, spaces=raw, aggregate=aggregate)

    def projector(self, axis_name: str | None = None) -> Projector:
        return Projector(self.dim, self.hidden, self.final_relu, axis_name)

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the running batch statistics. Embeddings are taken as they are."""
        params, running = {}, {}
        for place, (space, (shared, _)) in enumerate(self.streams.items()):
            own, example = jax.random.fold_in(key, place), jnp.zeros((2, *shapes[shared]))
            variables = initialize(self.projector(), own, example, train=True)
            params[space], running[space] = variables["params"], variables["batch_stats"]
        return params, {"batch_stats": running}

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
        """Eq. 10 on this device's share of the batch; the new batch statistics; the terms."""
        features = self._complete(batch["features"], key, axis_name)  # eq. 3
        projected, running = {}, {}
        for space, streams in self.streams.items():  # eq. 4
            pair = [features[m] for m in streams]
            projected[space], running[space] = self._project(
                params[space], state["batch_stats"][space], pair, axis_name
            )
        normalized = {space: [*map(losses.unit, pair)] for space, pair in projected.items()}
        (shared_1, other_1), (shared_2, other_2) = normalized.values()
        info_nce = lambda x, y, temperature: losses.symmetric_info_nce(
            x, y, temperature=temperature, block_size=self.block_size or None, axis_name=axis_name
        ).mean()
        terms, loss = {}, 0.0
        if self.weight_shared:
            terms["shared"] = info_nce(shared_1, shared_2, self.temperature_shared)  # eq. 5
            loss += self.weight_shared * terms["shared"]
        if self.weight_other:
            terms["other"] = info_nce(other_1, other_2, self.temperature_other)  # eq. 6
            loss += self.weight_other * terms["other"]
        # Eq. 9, also without weight: what is left of the gap between modalities is worth knowing.
        gaps = {s: losses.pair_distance(*normalized[s]).mean() for s in SPACES}
        terms |= {f"gap_{space}": gap for space, gap in gaps.items()}
        if self.intra_squared or not self.intra_normalized:
            pairs = normalized if self.intra_normalized else projected
            distance = partial(losses.pair_distance, squared=self.intra_squared)
            gaps = {space: distance(*pairs[space]).mean() for space in SPACES}
        loss += self.weight_intra / 2 * sum((gaps[space] for space in self.intra), jnp.float32(0))
        return loss, ({"batch_stats": running}, terms)

    def _complete(self, features, key, axis_name) -> dict[str, Float[Array, "batch dim"]]:
        """Eq. 3: noise, for every example and stream its own, and back to the sphere."""
        features = {m: features[m].astype(jnp.float32) for m in (*self.first, *self.second)}
        if self.noise_variance:
            count = len(features[self.first[0]])
            keys = example_keys(key, count, tuple(features), axis_name)
            draw = jax.vmap(jax.random.normal, in_axes=(0, None))
            deviation = self.noise_variance**0.5
            features = {m: x + deviation * draw(keys[m], x.shape[1:]) for m, x in features.items()}
        if self.renormalize:
            features = {m: losses.unit(x) for m, x in features.items()}
        return features

    def _project(self, params, running, pair, axis_name):
        """Both streams of a space projected, and its running statistics after them."""
        apply = lambda running, x: self.projector(axis_name).apply(
            {"params": params, "batch_stats": running}, x, train=True, mutable=["batch_stats"]
        )
        if self.batch_statistics == "joint":
            both, updated = apply(running, jnp.concatenate(pair))
            projected = jnp.split(both, 2)
        else:
            first, updated = apply(running, pair[0])
            second, updated = apply(updated["batch_stats"], pair[1])
            projected = first, second
        return projected, updated["batch_stats"]

    # -- readout -----------------------------------------------------------------------------

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch dim"]
    ) -> Embedding:
        """Unit vectors in the common space of a stream's embeddings, without noise."""
        space = next(s for s, streams in self.streams.items() if modality in streams)
        variables = {"params": params[space], "batch_stats": state["batch_stats"][space]}
        features = losses.unit(features.astype(jnp.float32))
        return Embedding.of_vectors(
            losses.unit(self.projector().apply(variables, features, train=False))
        )
