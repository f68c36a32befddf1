"""What methods with one codebook for all modalities share: network, quantisation, readout.

MICU and its baselines differ in their losses. Encoders, decoders, codebook and augmentation are
here, so that a table compares the losses alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses
from unirep_jax.data.features import FeatureSet
from unirep_jax.methods.batch import Shapes, example_keys, shapes_of, standardize
from unirep_jax.methods.linear_start import begin_at_cca, check_linear_start
from unirep_jax.methods.method import Embedding, RepresentationMethod, StartedMethod, unit_mean
from unirep_jax.models.augmentation import augment
from unirep_jax.models.codebook import code_statistics, init_codebook, update_codebook
from unirep_jax.models.encoders import common_time
from unirep_jax.models.initial import initialize
from unirep_jax.models.unified import UnifiedNetwork

Terms = dict[str, Float[Array, ""]]


class Encoded(NamedTuple):
    """A batch on its way to the losses, modalities in alphabetical order (JAX's of dictionaries).

    inputs: augmented features; both: whether an example has both modalities of a pair; z:
    continuous sequences; codes: nearest to them, at `indices`; quantized: the codes, with the
    gradient of z; keys: per purpose one for each example; mean: over the examples of all devices.
    """

    inputs: dict[str, Float[Array, "batch ..."]]
    present: Bool[Array, "modality batch"]
    both: Bool[Array, "modality modality batch"]
    z: Float[Array, "modality batch time dim"]
    indices: Int[Array, "modality batch time"]
    codes: Float[Array, "modality batch time dim"]
    quantized: Float[Array, "modality batch time dim"]
    keys: dict[str, Key[Array, "batch"]]
    mean: partial


def ordered_pairs(modalities: int) -> list[tuple[int, int]]:
    """(m, n) of different modalities, both ways round."""
    return [(m, n) for m in range(modalities) for n in range(modalities) if m != n]


@dataclasses.dataclass(frozen=True)
class CodebookMethod(RepresentationMethod, StartedMethod):
    """The hyper-parameters that all have, and what follows from them. Methods add `loss`."""

    dim: int = 256
    codes: int = 400
    time: int = 0  # steps of the unified sequence; 0: that of the shortest modality
    temporal: str = "transformer"
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    decay: float = 0.99
    patience: int = 300

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

    linear_start: bool = False  # begin at linear CCA (`methods.linear_start`)

    specific: ClassVar[bool] = False  # whether there are modality-specific features

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("temporal", ("transformer", "convolution"))

    def check(self, field: str, allowed: tuple[str, ...]) -> None:
        """Refuses any other value of a setting."""
        if getattr(self, field) not in allowed:
            raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method for these features (shape of one example per modality), `time` settled."""
        if self.linear_start:
            check_linear_start(shapes)
        return dataclasses.replace(self, time=self.time or common_time(shapes))

    def network(self, shapes: Shapes) -> UnifiedNetwork:
        return UnifiedNetwork(
            shapes,
            self.dim,
            self.time,
            self.temporal,
            self.layers,
            self.heads,
            self.dropout,
            self.specific,
            self.linear_start,
        )

    def init_heads(self, key: Key[Array, ""], modalities: int) -> dict:
        """Parameters beside those of the network."""
        return {}

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
            "network": initialize(network, network_key, example)["params"],
            **self.init_heads(head_key, len(shapes)),
        }
        state = {
            "codebook": self.init_codebook(code_key),
            "statistics": jax.tree.map(jnp.asarray, statistics),
        }
        return params, state

    def init_codebook(self, key: Key[Array, ""]) -> losses.CodebookState:
        """The codes before the first step."""
        return init_codebook(key, self.codes, self.dim, patience=self.patience)

    def start(self, training_set: FeatureSet) -> Callable[[dict], dict]:
        """Nothing is changed, or with `linear_start` what is linear begins at CCA."""
        if not self.linear_start:
            return lambda params: params
        begin = begin_at_cca(training_set, self.dim)
        return lambda params: params | {"network": begin(params["network"])}

    # -- what losses are made of -------------------------------------------------------------

    def encode(
        self,
        params: dict,
        state: dict,
        batch: dict,
        key: Key[Array, ""],
        axis_name: str | None,
        *,
        purposes: tuple[str, ...] = (),
    ) -> Encoded:
        """The batch augmented, encoded and quantised; keys for these purposes beside."""
        present = jnp.stack([batch["present"][m] for m in sorted(batch["present"])])
        purposes = ("augment", "dropout", *purposes)
        keys = example_keys(key, present.shape[1], purposes, axis_name)
        inputs = self.inputs(batch["features"], state)
        network = self.network(shapes_of(inputs))

        def one(x, augment_key, dropout_key):
            x = augment(x, augment_key, noise=self.noise, gain=self.gain, warp=self.warp)
            rngs = {"dropout": dropout_key}
            variables = {"params": params["network"]}
            return x, network.apply(variables, x, train=True, method="encode", rngs=rngs)

        inputs, z = jax.vmap(one, out_axes=(0, 1))(inputs, keys["augment"], keys["dropout"])
        z = self.project(z)
        codebook = state["codebook"].codebook
        indices = losses.nearest_code(jax.lax.stop_gradient(z), codebook)
        codes = codebook[indices]
        quantized = losses.straight_through(z, codes)
        both = present[:, None] & present[None]
        mean = partial(losses.masked_mean, axis_name=axis_name)
        return Encoded(inputs, present, both, z, indices, codes, quantized, keys, mean)

    def inputs(self, features: Mapping[str, Array], state: dict) -> dict[str, Array]:
        """What the network reads of features: every channel with mean 0 and deviation 1."""
        return standardize(features, state["statistics"])

    def project(self, z: Float[Array, "*lead dim"]) -> Float[Array, "*lead dim"]:
        """What is done to sequences before they look for codes: nothing."""
        return z

    def reconstruction(
        self, params: dict, codes: Float[Array, "modality batch time dim"], encoded: Encoded
    ) -> Float[Array, ""]:
        """Σ over modalities of the mean squared error of their features decoded from these codes.

        Examples that lack the modality do not count.
        """
        error = self.decoding_error(params, codes, encoded)
        return sum(encoded.mean(e, p) for e, p in zip(error, encoded.present, strict=True))

    def decoding_error(
        self, params: dict, codes: Float[Array, "modality batch time dim"], encoded: Encoded
    ) -> Float[Array, "modality batch"]:
        """Mean squared error of every example's features, each modality decoded from its codes."""
        network = self.network(shapes_of(encoded.inputs))
        variables = {"params": params["network"]}
        decode = lambda code, x: network.apply(variables, code, x, method="reconstruction_error")
        return jax.vmap(decode, in_axes=(1, 0), out_axes=1)(codes, encoded.inputs)

    def commitment(self, encoded: Encoded, *, own: float, other: float) -> Float[Array, ""]:
        """Σ over modalities of the distance to their own code and, where weighted, the others'."""
        total = jnp.zeros(())
        for m in range(len(encoded.z)):
            for n in range(len(encoded.z)):
                weight = own if m == n else other
                if weight:
                    distance = losses.commitment_loss(encoded.z[m], encoded.codes[n]).mean(-1)
                    total += weight * encoded.mean(distance, encoded.both[m, n])
        return total

    def matching(self, state: dict, encoded: Encoded, axis_name: str | None) -> Float[Array, ""]:
        """½ Σ over pairs of modalities of CMCM's loss, the mean of its two directions."""
        logs = losses.log_code_distribution(encoded.z, state["codebook"].codebook)
        value = losses.code_matching_loss(logs, where=encoded.present, axis_name=axis_name)
        means = [encoded.mean(value[p], encoded.both[p]) for p in ordered_pairs(len(encoded.z))]
        return sum(means, jnp.zeros(())) / 4

    def weighted(self, terms: Terms) -> Float[Array, ""]:
        """Σ of the terms, each times the setting `weight_<term>`."""
        return sum(getattr(self, f"weight_{name}") * value for name, value in terms.items())

    def next_state(
        self,
        state: dict,
        encoded: Encoded,
        key: Key[Array, ""],
        axis_name: str | None,
        *,
        share: float = 0.5,
    ) -> tuple[dict, Terms]:
        """The state with the codebook moved by this batch, and the health of the codebook.

        share: of the other modalities in what a code moves to.
        """
        codebook = update_codebook(
            state["codebook"],
            encoded.z,
            encoded.indices,
            encoded.present,
            key=jax.random.fold_in(key, len(encoded.keys)),
            decay=self.decay,
            share=share,
            patience=self.patience,
            axis_name=axis_name,
        )
        return state | {"codebook": codebook}, self.health(encoded, axis_name)

    def health(self, encoded: Encoded, axis_name: str | None) -> Terms:
        """How the batch used the codebook."""
        return code_statistics(
            encoded.indices,
            encoded.present,
            self.codes,
            names=tuple(encoded.inputs),
            axis_name=axis_name,
        )

    # -- readout -----------------------------------------------------------------------------

    def continuous(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Float[Array, "batch time dim"]:
        """The sequence of one modality before it is quantised."""
        inputs = {modality: features}
        network = self.network(shapes_of(inputs))
        inputs = self.inputs(inputs, state)
        encode = lambda x: network.apply(
            {"params": params["network"]}, x, train=False, method="encode"
        )
        return self.project(jax.vmap(encode, out_axes=1)(inputs)[0])

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """The quantised sequence of one modality, its mean as a unit vector, and its codes."""
        z = self.continuous(params, state, modality, features)
        codebook = self.codebook(state)
        indices = losses.nearest_code(z, codebook)
        sequence = codebook[indices]
        return Embedding(sequence, unit_mean(sequence), indices)

    def codebook(self, state: dict) -> Float[Array, "code dim"]:
        """The codes of all modalities."""
        return state["codebook"].codebook


@dataclasses.dataclass(frozen=True)
class BeforeCodes(RepresentationMethod):
    """A trained method with a codebook, read before it quantises: what the codes cost."""

    method: CodebookMethod

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method as it was trained. Raises ValueError: as its own `for_data`."""
        return dataclasses.replace(self, method=self.method.for_data(shapes, classes))

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """The continuous sequence of one modality and its mean as a unit vector."""
        z = self.method.continuous(params, state, modality, features)
        return Embedding(z, unit_mean(z))
