"""A multimodal classifier of one example: encoders, fusion, then one head or one per modality."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from unirep_jax.data.kinds import Kind, kind_of
from unirep_jax.losses import Gates
from unirep_jax.models.experts import Experts
from unirep_jax.models.fusion import Add, Concat, CrossAttention, Masks, Single, Tokens
from unirep_jax.models.resnet import ResNet
from unirep_jax.models.text import TextEncoder, WordAttention
from unirep_jax.models.tokens import SequenceTokens, VectorTokens

Inputs = dict[str, Float[Array, "..."]]
Present = dict[str, Bool[Array, ""]]
PICTURE_CHANNELS = 4  # of a picture at most; what has more is maps of features


class Outputs(NamedTuple):
    """values: [output], of late fusion [modality, output]; features: what the head was given;
    gates: of the experts, None without."""

    values: Float[Array, "..."]
    features: Float[Array, "..."]
    gates: Gates | None


class Reader(NamedTuple):
    """What reads a kind of modality: its name, and how a `Recognizer` makes it."""

    title: str
    make: Callable[["Recognizer", str], nn.Module]


_WORDS = Reader(
    "Bi-LSTM", lambda r, m: TextEncoder(dict(r.vocabulary)[m], r.width // 2, dropout=r.dropout)
)
_PICTURE = Reader(
    "ResNet", lambda r, m: ResNet(r.images, r.width // 2 ** (len(r.images) - 1), axes=r.axes)
)
_VECTOR = Reader("MLP", lambda r, m: VectorTokens(r.width, r.tokens, r.width, r.dropout))
_SEQUENCE = Reader("convolutions", lambda r, m: SequenceTokens(r.width, r.layers, r.dropout))
_READERS = {
    Kind.WORDS: _WORDS,
    Kind.SPECTROGRAM: _PICTURE,
    Kind.IMAGE: _PICTURE,
    Kind.VIDEO: _PICTURE,
    Kind.VECTOR: _VECTOR,
    Kind.SEQUENCE: _SEQUENCE,
}


def reader(kind: str, shape: tuple[int, ...]) -> Reader:
    """The encoder of a modality of this kind, one example of which has this shape.

    Images and videos of more channels than a picture has are maps of features extracted before, and
    read as the sequence of their first axis.
    """
    maps = Kind(kind) in (Kind.IMAGE, Kind.VIDEO) and shape[-1] > PICTURE_CHANNELS
    return _SEQUENCE if maps else _READERS[Kind(kind)]


def kinds_of_shapes(
    shapes: Mapping[str, tuple[int, ...]], *, words: Collection[str] = ()
) -> dict[str, str]:
    """The kinds of modalities of which nothing is known but shapes, and which are word ids."""
    kinds = {}
    for m, shape in shapes.items():
        kind = kind_of(np.empty((0, *shape), np.int32 if m in words else np.float32))
        kinds[m] = (kind or Kind.SEQUENCE).value
    return kinds


class Recognizer(nn.Module):
    """Called on ONE example, with axis "example" named where there are pictures (`ResNet`).

    The kind of a modality chooses its encoder (`reader`): images, videos and spectrograms have a
    `ResNet`, words a `TextEncoder`, other sequences `SequenceTokens`, vectors `VectorTokens`. Where
    tokens are not fused one by one, but as one vector of each modality, that of words is made by
    `WordAttention`, and that of the others is their mean.

    Attributes:
      shapes: (modality, shape of one example); late fusion has them in alphabetical order.
      outputs: logits, or width of the embedding that another head takes.
      fusion: "single", "add", "concat", "gqa", "cross_attention", or "late": none, every modality
        has a linear head of its own ("late_shared": they share one) on its mean token.
      modality: of "single".
      width, tokens, layers, dropout: of the encoders; images: stages of the ResNet, the last of
        which is 8 × its first's width.
      heads, kv_heads, residual: of cross-attention; "gqa" shares keys and values by kv_heads.
      pairs: (query, key) that attend; (): all.
      experts, count: of adaptive fusion; 0 experts: one hidden layer, or with hidden=0 none.
      hidden: of the head or of each expert.
      gate_noise: whether a key given draws noise of the gates.
      kinds: (modality, name of its `Kind`); (): told by the shapes and `vocabulary`.
      vocabulary: (modality, number of ids) of those that are words.
      axes: named axes over which batch statistics are taken.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: int
    fusion: str
    modality: str = ""
    width: int = 512
    tokens: int = 4
    layers: int = 2
    dropout: float = 0.0
    images: tuple[int, ...] = (3, 4, 6, 3)
    heads: int = 8
    kv_heads: int = 2
    residual: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    experts: int = 15
    count: int = 4
    hidden: int = 512
    gate_noise: bool = True
    kinds: tuple[tuple[str, str], ...] = ()
    vocabulary: tuple[tuple[str, int], ...] = ()
    axes: tuple[str, ...] = ("example",)

    def setup(self) -> None:
        kinds = kinds_of_shapes(dict(self.shapes), words=dict(self.vocabulary)) | dict(self.kinds)
        self.encoders = {m: reader(kinds[m], shape).make(self, m) for m, shape in self.shapes}
        attends = self.fusion in ("gqa", "cross_attention")
        self.pools = {} if attends else {m: WordAttention() for m, _ in self.vocabulary}
        self.spectrograms = [m for m, kind in kinds.items() if Kind(kind) is Kind.SPECTROGRAM]
        if self.fusion.startswith("late"):
            self.means = {m: Single(m) for m, _ in self.shapes}
        if self.fusion == "late":
            self.classifiers = {m: nn.Dense(self.outputs) for m, _ in self.shapes}
            return
        if self.fusion == "late_shared":
            self.classifier = nn.Dense(self.outputs)
            return
        pairs = self.pairs or None
        attention: dict[str, Any] = {"heads": self.heads, "residual": self.residual, "pairs": pairs}
        fusions: dict[str, Callable[[], Any]] = {
            "single": lambda: Single(self.modality),
            "add": lambda: Add(self.width),
            "concat": Concat,
            "gqa": lambda: CrossAttention(self.width, kv_heads=self.kv_heads, **attention),
            "cross_attention": lambda: CrossAttention(self.width, **attention),
        }
        self.fuse = fusions[self.fusion]()
        if self.experts:
            self.adapt = Experts(self.outputs, self.experts, self.count, self.hidden)
            return
        if self.hidden:
            self.hidden_layer = nn.Dense(self.hidden)
        self.classifier = nn.Dense(self.outputs)

    def __call__(
        self, inputs: Inputs, present: Present, key: Key[Array, ""] | None, *, train: bool
    ) -> Outputs:
        """`key` draws the experts' noise; None for none."""
        return self.decide(*self.read(inputs, present, train=train), key)

    def read(self, inputs: Inputs, present: Present, *, train: bool) -> tuple[Tokens, Masks]:
        """Tokens of every modality, and which of them are there."""
        encoded = {m: self._encode(m, inputs[m], present[m], train) for m in sorted(inputs)}
        tokens, mask = ({m: pair[i] for m, pair in encoded.items()} for i in (0, 1))
        return tokens, mask

    def decide(self, tokens: Tokens, mask: Masks, key: Key[Array, ""] | None) -> Outputs:
        """What fusion and head make of the tokens."""
        if not self.fusion.startswith("late"):
            return self.classify(self.fuse(tokens, mask), key)
        alone = jnp.stack([self.means[m](tokens, mask) for m in sorted(tokens)])
        if self.fusion == "late":
            values = [self.classifiers[m](x) for m, x in zip(sorted(tokens), alone, strict=True)]
            return Outputs(jnp.stack(values), alone, None)
        return Outputs(self.classifier(alone), alone, None)

    def _encode(self, modality: str, x: Any, present: Bool[Array, ""], train: bool):
        if modality in dict(self.vocabulary):
            x = x.astype(jnp.int32)
        if modality in self.spectrograms:
            x = x[..., None]  # of one channel
        tokens, mask = self.encoders[modality](x, present, train=train)
        if modality in self.pools:
            return self.pools[modality](tokens, mask)[None], mask.any()[None]
        return tokens, mask

    def classify(self, fused: Float[Array, "dim"], key: Key[Array, ""] | None) -> Outputs:
        features = nn.relu(self.hidden_layer(fused)) if self.hidden and not self.experts else fused
        values, gates = self.head(features, key)
        return Outputs(values, features, gates)

    def head(self, features: Float[Array, "dim"], key: Key[Array, ""] | None):
        """Values and gates from `Outputs.features`: the experts, or the last linear map."""
        if not self.experts:
            return self.classifier(features), None
        return self.adapt(features, key=key if self.gate_noise else None)
