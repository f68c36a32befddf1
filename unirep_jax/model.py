"""A trained method with its parameters: what a run leaves, and what people use.

    model = unirep_jax.load_run("runs/...")
    vectors = model.embed("audio", features)  # raw features in, NumPy [example, dim] out

A model is kept in a folder of two files, `model.json` and `weights.safetensors`, whose hash the
first one holds; frozen encoders that it needs are models in folders beside them. Nothing is
pickled, and neither TensorFlow nor Orbax is needed to read it.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.data.kinds import is_words
from unirep_jax.losses import unit
from unirep_jax.methods.method import (
    ClassifyingMethod,
    Decision,
    Embedding,
    Method,
    RepresentationMethod,
)
from unirep_jax.search import Found, search

BATCH = 256


class Way(NamedTuple):
    """How a modality enters a method: through a frozen encoder, or as it is, as this stream."""

    encoder: "Model | None"
    stream: str


class Prediction(NamedTuple):
    """label: the most probable class of each example, −1 where nothing was there to decide by;
    score: how known it looks, higher = more known, for rejection; logits: of every class."""

    label: Int[np.ndarray, "example"]
    score: Float[np.ndarray, "example"]
    logits: Float[np.ndarray, "example class"]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A method made for some data, its parameters, and the ways of raw features into it.

    name: of the method, in measurements and in the list of methods. shapes: by raw modality, of one
    example. streams: by what the method itself takes, the same where no encoder stands before it.
    ways: by raw modality; the embedding is the mean over several. class_names: by number.
    """

    name: str
    method: Method
    params: dict
    state: dict
    shapes: dict[str, tuple[int, ...]]
    streams: dict[str, tuple[int, ...]]
    ways: Mapping[str, tuple[Way, ...]]
    class_names: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The raw modalities that it takes."""
        return tuple(self.ways)

    # -- representation ----------------------------------------------------------------------

    def embed(
        self, modality: str, features: np.ndarray, *, batch_size: int = BATCH
    ) -> Float[np.ndarray, "example dim"]:
        """Unit vectors of any number of examples of one modality, float32.

        Args:
          modality: one of `modalities`.
          features: raw, [example, ...] in the shape of the training data; possibly memory-mapped.
          batch_size: examples on the device at a time.

        Raises:
          ValueError: the method embeds nothing, or not this modality, or features of another shape.
        """
        return np.asarray(self.represent(modality, features, batch_size=batch_size).vector)

    def represent(
        self,
        modality: str,
        features: np.ndarray,
        *,
        present: Bool[np.ndarray, "example"] | None = None,
        batch_size: int = BATCH,
    ) -> Embedding:
        """`embed` with the sequences and, of a codebook, the codes; NumPy arrays.

        Examples that are not `present` are embedded from zeros. Raises: as `embed`.
        """
        pieces = list(self.pieces(modality, features, present=present, batch_size=batch_size))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

    def pieces(
        self,
        modality: str,
        features: np.ndarray,
        *,
        present: Bool[np.ndarray, "example"] | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[Embedding]:
        """As `represent`, a batch at a time, for more examples than memory holds."""
        if not isinstance(self.method, RepresentationMethod):
            raise ValueError(f"{self.name} embeds nothing; it classifies")
        self._check(modality, features)
        ways = self.ways[modality]
        static = tuple((way.encoder and way.encoder.method, way.stream) for way in ways)
        variables: list[tuple] = [(self.params, self.state)]
        variables += [(w.encoder.params, w.encoder.state) if w.encoder else () for w in ways]
        for start in range(0, len(features), batch_size):
            batch = _batch(features, present, start, batch_size)
            count = min(batch_size, len(features) - start)
            found = _embed(self.method, modality, static, variables, batch)
            yield jax.tree.map(lambda x, count=count: np.asarray(x)[:count], found)

    # -- classification ----------------------------------------------------------------------

    def classify(
        self,
        features: Mapping[str, np.ndarray],
        *,
        present: Mapping[str, Bool[np.ndarray, "example"]] | None = None,
        source: str = "",
        batch_size: int = BATCH,
    ) -> Prediction:
        """Labels of examples by their modalities; those not given are taken as absent.

        Args:
          features: by raw modality, all of the same number of examples.
          present: by modality, where some examples lack it.
          source: the modalities to decide by, joined by "+", where the method decides by several.

        Raises:
          ValueError: the method predicts no labels, or features do not fit it.
        """
        if not isinstance(self.method, ClassifyingMethod):
            raise ValueError(f"{self.name} predicts no labels; it embeds")
        decisions = self.decide(features, present=present or {}, batch_size=batch_size)
        if not source and len(decisions) > 1:
            raise ValueError(
                f"{self.name} decides by several: source must be one of {[*decisions]}"
            )
        if source and source not in decisions:
            raise ValueError(f"source {source!r} is none of {', '.join(decisions)}")
        decision = decisions[source or next(iter(decisions))]
        logits = np.asarray(decision.logits)
        label = np.where(decision.present, logits.argmax(1), -1).astype(np.int32)
        params = jax.tree.map(np.asarray, self.params)
        scores = self.method.known_scores(params, decision)
        return Prediction(label, np.where(decision.present, scores, -np.inf), logits)

    def decide(
        self,
        features: Mapping[str, np.ndarray],
        *,
        present: Mapping[str, Bool[np.ndarray, "example"]],
        batch_size: int = BATCH,
    ) -> dict[str, Decision]:
        """The method's decisions by source, NumPy arrays. Arguments and errors as `classify`."""
        for m, x in features.items():
            self._check(m, x)
        counts = {m: len(x) for m, x in features.items()}
        if len({*counts.values()}) != 1:
            raise ValueError(f"modalities have {counts} examples; they must have as many")
        (count,) = {*counts.values()}
        streams, there = {}, {}
        for m, x in features.items():
            for way in self.ways[m]:
                streams[way.stream] = x if way.encoder is None else way.encoder.embed(m, x)
                there[way.stream] = present.get(m, np.ones(count, bool))
        pieces = []
        for start in range(0, count, batch_size):
            rows = np.minimum(np.arange(start, start + batch_size), count - 1)
            size = min(batch_size, count - start)
            batch, mask = {}, {}
            for s, shape in self.streams.items():
                if s in streams:
                    batch[s] = _batch(streams[s], there[s], start, batch_size)
                    mask[s] = np.asarray(there[s])[rows]
                else:
                    batch[s] = np.zeros((batch_size, *shape), np.float32)
                    mask[s] = np.zeros(batch_size, bool)
            found = _classify(self.method, (self.params, self.state), batch, mask)
            pieces.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], found))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

    # -- search ------------------------------------------------------------------------------

    def search(
        self,
        source: str,
        queries: np.ndarray,
        target: str,
        items: np.ndarray,
        *,
        k: int = 10,
    ) -> Found:
        """The k items of one modality that are most like each query of another, by cosine.

        Args:
          source, target: modalities of the queries and of the items.
          queries, items: raw features of theirs.
          k: how many, at most the number of items.

        Returns:
          `Found(index, score)`, each [query, k], best first.

        Raises:
          ValueError: as `embed`; k is not within 1 … items.
        """
        return search(self.embed(source, queries), self.embed(target, items), k=k)

    def _check(self, modality: str, features: np.ndarray) -> None:
        if modality not in self.ways:
            raise ValueError(f"modality {modality!r} is none of {', '.join(self.ways)}")
        expected, found = self.shapes[modality], tuple(features.shape[1:])
        if found != expected or not len(features):
            axes = ", ".join(map(str, ("example", *expected)))
            raise ValueError(f"{modality}: features of shape {features.shape}, expected [{axes}]")

    def replace(self, params: dict, state: dict) -> "Model":
        """The same with other parameters."""
        return dataclasses.replace(self, params=params, state=state)


def _batch(
    features: np.ndarray, present: np.ndarray | None, start: int, size: int
) -> Float[np.ndarray, "batch ..."]:
    """Rows from `start` on, filled up with the last one: one shape, one compilation."""
    rows = np.minimum(np.arange(start, start + size), len(features) - 1)
    batch = np.array(features[rows[0] : rows[-1] + 1])[rows - rows[0]]
    if present is not None:
        batch[~np.asarray(present)[rows]] = 0
    return batch.astype(np.int32 if is_words(batch) else np.float32)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _embed(
    method: RepresentationMethod, modality: str, ways: tuple, variables: list, x: Array
) -> Embedding:
    (params, state), *encoders = variables
    found = []
    for (encoder, stream), own in zip(ways, encoders, strict=True):
        read = x if encoder is None else encoder.embed(*own, modality, x).vector
        found.append(method.embed(params, state, stream, read))
    if len(found) == 1:
        return found[0]
    return Embedding.of_vectors(unit(jnp.mean(jnp.stack([f.vector for f in found]), axis=0)))


@partial(jax.jit, static_argnums=0)
def _classify(
    method: ClassifyingMethod, variables: tuple[dict, dict], features, present
) -> dict[str, Decision]:
    params, state = variables
    return method.classify(params, state, features, present)
