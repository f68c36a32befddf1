"""The network of MICU and DCID as their authors train it: LSTM for words, convolutions for maps.

Every module works on ONE example; callers `jax.vmap` over the batch. Written from the description
of the layers; at the published shapes it has the authors' numbers of parameters.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax.models.encoders import Encoder, reconstruction_target
from unirep_jax.models.text import BiLSTM

Inputs = dict[str, Float[Array, "..."]]
WORDS = "text"  # the modality whose sequences pass an LSTM first
ORDER = ("audio", "video", WORDS)  # in which the codebook takes them
SMALLEST_MAP = 5  # two convolutions of 3 × 3 without padding


class PublishedNetwork(nn.Module):
    """Features to sequences [modality, time, dim] and, with what is particular to each, back.

    It is called as `UnifiedNetwork` is. Sequences named "text" pass a bidirectional LSTM, whose
    states take their place everywhere, also as what is reconstructed (their gradient included).

    Attributes:
      shapes: (modality, shape of one example) of the modalities that calls may name.
      dim, time, layers, heads, dropout: of every `Encoder`.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    dim: int
    time: int
    layers: int
    heads: int
    dropout: float

    def setup(self) -> None:
        shapes = dict(self.shapes)
        if is_words(WORDS, shapes.get(WORDS, ())):
            self.words = WordStates(self.dim // 2)
        self.encoders = {
            m: Encoder(
                self.dim,
                self.time,
                "transformer",
                self.layers,
                self.heads,
                self.dropout,
                broadcast_dropout=False,
            )
            for m in shapes
        }
        maps = {m: len(shape) == 4 for m, shape in shapes.items()}
        self.specifics = {m: MapFeatures() if maps[m] else StepFeatures(self.dim) for m in shapes}
        self.decoders = {
            m: MapDecoder(self.dim) if maps[m] else StepDecoder(self.dim) for m in shapes
        }

    def encode(self, inputs: Inputs, *, train: bool) -> Float[Array, "modality time dim"]:
        inputs = self._read(inputs)
        return jnp.stack([self.encoders[m](x, train=train) for m, x in inputs.items()])

    def reconstruction_error(
        self, codes: Float[Array, "modality time dim"], inputs: Inputs
    ) -> Float[Array, "modality"]:
        """Mean squared error of each modality decoded from its codes and its own features."""
        errors = []
        for code, (m, x) in zip(codes, self._read(inputs).items(), strict=True):
            target = reconstruction_target(x, self.time)
            decoded = self.decoders[m](code, self.specifics[m](target), target.shape[-1])
            errors.append(jnp.mean((decoded - target) ** 2))
        return jnp.stack(errors)

    def __call__(self, inputs: Inputs) -> Float[Array, "modality"]:
        return self.reconstruction_error(self.encode(inputs, train=False), inputs)

    def _read(self, inputs: Inputs) -> Inputs:
        """Words as the states of the LSTM, everything else as it is."""
        return {m: self.words(x) if is_words(m, x.shape) else x for m, x in inputs.items()}


def is_words(modality: str, shape: tuple[int, ...]) -> bool:
    """Whether features of this shape pass the LSTM."""
    return modality == WORDS and len(shape) == 2


class WordStates(nn.Module):
    """Two layers of an LSTM in both directions over all steps, zeros after the last word too."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "time channel"]) -> Float[Array, "time dim"]:
        everywhere = jnp.ones(len(x), bool)
        for _ in range(2):
            x = BiLSTM(self.hidden, recurrent_bias=True)(x, everywhere)
        return x


class StepFeatures(nn.Module):
    """What is particular to a sequence: one layer per step."""

    dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "time channel"]) -> Float[Array, "time dim"]:
        return nn.relu(nn.Dense(self.dim)(x))


class StepDecoder(nn.Module):
    """A code and specific features back to the step of a sequence."""

    dim: int

    @nn.compact
    def __call__(
        self, code: Float[Array, "time dim"], specific: Float[Array, "time dim"], channels: int
    ) -> Float[Array, "time channel"]:
        code = nn.Dense(self.dim)(code)
        return nn.Dense(channels)(jnp.concatenate([code, specific], axis=-1))


class Residual(nn.Module):
    """y = ReLU(a + W₁ ReLU(W₃ a)), a = ReLU(x): the skip is rectified, too; no biases."""

    @nn.compact
    def __call__(self, x: Float[Array, "time height width channel"]) -> Float[Array, "..."]:
        x, width = nn.relu(x), x.shape[-1]
        hidden = nn.relu(nn.Conv(width, (3, 3), padding=1, use_bias=False)(x))
        return nn.relu(x + nn.Conv(width, (1, 1), use_bias=False)(hidden))


class MapFeatures(nn.Module):
    """What is particular to maps: [time, h, w, c] to [time, h − 4, w − 4, 4 c]."""

    @nn.compact
    def __call__(self, x: Float[Array, "time height width channel"]) -> Float[Array, "..."]:
        channels = x.shape[-1]
        for width in (2 * channels, 4 * channels):
            x = nn.relu(nn.Conv(width, (3, 3), padding="VALID")(x))
        return Residual()(nn.Conv(4 * channels, (1, 1))(x))


class MapDecoder(nn.Module):
    """A code at every position, joined with the specific features, back to maps."""

    dim: int

    @nn.compact
    def __call__(
        self,
        code: Float[Array, "time dim"],
        specific: Float[Array, "time height width channel"],
        channels: int,
    ) -> Float[Array, "..."]:
        code = nn.Dense(self.dim)(code)[:, None, None]
        code = jnp.broadcast_to(code, (*specific.shape[:3], self.dim))
        x = jnp.concatenate([code, specific], axis=-1)
        x = Residual()(nn.ConvTranspose(2 * channels, (3, 3), padding="VALID")(x))
        x = nn.relu(nn.ConvTranspose(channels, (3, 3), padding="VALID")(x))
        return nn.ConvTranspose(channels, (1, 1))(x)


def clipped_part(path: tuple[str, ...]) -> str:
    """Of which of the authors' modules a parameter is: each is clipped alone, "" not at all."""
    if path[0] != "network":
        return ""  # the jigsaw's classifier
    kind = path[1].partition("_")[0]
    return {"words": "lstm", "decoders": "decoder"}.get(kind, "encoder")


# -- where training starts -------------------------------------------------------------------------


def authors_start(key: Key[Array, ""], params: dict) -> dict:
    """The parameters drawn anew as PyTorch, whose defaults the authors take, draws them.

    Matrices, convolutions and their biases are uniform in ±1/√inputs, LSTMs in ±1/√hidden,
    projections of attention by Glorot's rule, their biases 0. All layers of an encoder start as
    copies of one.
    """
    made = {}
    for place, (name, node) in enumerate(params.items()):
        own = jax.random.fold_in(key, place)
        first = name.replace("TransformerBlock_", "")
        if first != name and first != "0":
            made[name] = jax.tree.map(jnp.array, made["TransformerBlock_0"])
        elif not isinstance(node, dict):
            raise ValueError(f"a parameter outside of a layer: {name}")
        elif rule := _rule(name, node):
            made[name] = rule(own, node)
        else:
            made[name] = authors_start(own, node)
    return made


def authors_head(key: Key[Array, ""], head: dict) -> dict:
    """A classifier of two layers, flat, as `JigsawHead` has it, drawn in the same way."""
    drawn = {}
    for place, layer in enumerate(("hidden", "output")):
        names = (f"{layer}_kernel", f"{layer}_bias")
        bound = head[names[0]].shape[0] ** -0.5
        own = jax.random.fold_in(key, place + 1)
        drawn |= uniform_layer(own, {name: head[name] for name in names}, bound)
    return drawn


def uniform_layer(key: Key[Array, ""], layer: dict, bound: float) -> dict:
    """All arrays of a layer uniform in ± bound."""
    keys = jax.random.split(key, len(layer))
    return {
        name: jax.random.uniform(k, x.shape, minval=-bound, maxval=bound)
        for k, (name, x) in zip(keys, layer.items(), strict=True)
    }


def _rule(name: str, node: dict) -> Callable[[Array, dict], dict] | None:
    """How a layer is drawn; None of what holds layers."""
    if "scale" in node:  # a norm
        return lambda key, node: node
    if "recurrent" in node:
        return _lstm
    if "kernel" not in node:
        return None
    if name in ("query", "key", "value"):
        return _attention
    if name == "out":
        return lambda key, node: _linear(key, node) | {"bias": jnp.zeros_like(node["bias"])}
    return _transposed if name.startswith("ConvTranspose") else _linear


def _linear(key: Array, node: dict) -> dict:
    kernel = node["kernel"]
    inputs = kernel.size // kernel.shape[-1]
    return uniform_layer(key, node, inputs**-0.5)


def _transposed(key: Array, node: dict) -> dict:
    """PyTorch counts the outputs of a transposed convolution as its inputs."""
    height, width, _, outputs = node["kernel"].shape
    return uniform_layer(key, node, (height * width * outputs) ** -0.5)


def _attention(key: Array, node: dict) -> dict:
    """Queries, keys and values are one matrix [3 dim, dim] there."""
    dim = node["kernel"].shape[0]
    drawn = uniform_layer(key, node, (6 / (4 * dim)) ** 0.5)
    return drawn | {"bias": jnp.zeros_like(node["bias"])}


def _lstm(key: Array, node: dict) -> dict:
    return uniform_layer(key, node, node["recurrent"].shape[1] ** -0.5)
