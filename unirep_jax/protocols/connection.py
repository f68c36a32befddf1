"""Connecting two contrastive spaces that share a modality, judged on the pair never trained."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from unirep_jax import losses
from unirep_jax.connect import Connector
from unirep_jax.data import FeatureSet
from unirep_jax.data.resident import Pool
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import embed_examples
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.protocols.trained import Trained
from unirep_jax.report.embedding_figures import embedding_map
from unirep_jax.report.retrieval_tables import retrieval_tables

CONSISTENCY = ("softmax", "argmax", "random")


@dataclasses.dataclass(frozen=True)
class Connection:
    """The projections of both other modalities search for each other, next to no connection.

    The data are the four streams of `methods.cmcr`. Where they are raw features of three
    modalities, a perceptor of (shared, other) is trained for each space, on halves of the training
    part that have no example in common; every training example then gives its shared modality to
    both spaces, as texts are given to CLIP and CLAP.

    shared: the modality that both spaces have; first, second: the other one of each. Not needed
      where the data are streams.
    consistency: eq. 2 ("softmax"), the most similar item of the memory ("argmax"), any ("random").
    temperature: of eq. 2.
    control: also judge the spaces without connection and, of raw features, a perceptor trained on
      the true pairs of both halves.
    """

    shared: str = ""
    first: str = ""
    second: str = ""
    consistency: str = "softmax"
    temperature: float = 0.01
    control: bool = True

    supervised: ClassVar[bool] = False
    resident: ClassVar[bool] = True
    tables = staticmethod(retrieval_tables)

    def __post_init__(self) -> None:
        if self.consistency not in CONSISTENCY:
            raise ValueError(f"consistency={self.consistency!r} is none of {CONSISTENCY}")

    # -- streams of raw features -------------------------------------------------------------

    def perceived(self, data: FeatureSet, perceive: Callable, seed: int) -> FeatureSet:
        """The four streams; test examples keep their own embeddings, training ones eq. 2's.

        Embeddings of a perceptor of the true pairs are in the modalities PAIRED.
        """
        modalities = (self.shared, self.first, self.second)
        for m in modalities:
            if m not in data.modalities:
                raise ValueError(f"modality {m!r} is none of {', '.join(data.modalities)}")
        complete = np.all([data.present[m] for m in modalities], axis=0)
        usable = data.train & complete
        features = {}
        for place, (other, rows) in enumerate(
            zip((self.first, self.second), halves(usable, seed), strict=True), start=1
        ):
            # Seeds of their own: towers that start alike would be half connected already.
            space = perceive(data, (self.shared, other), rows, seed=2 * seed + place - 1)
            key = jax.random.fold_in(jax.random.key(seed), place)
            memory = space[other][rows]
            alike = self._aggregate(space[self.shared][usable], memory, key)
            stream = space[other].astype(np.float32)
            stream[usable] = alike
            features |= {f"{self.shared}_{place}": space[self.shared], f"{other}_{place}": stream}
        if self.control:
            pair = perceive(data, (self.first, self.second), usable, seed=2 * seed)
            features |= {PAIRED[0]: pair[self.first], PAIRED[1]: pair[self.second]}
        present: dict[str, Any] = dict.fromkeys(features, complete)
        return keep(dataclasses.replace(data, features=features, present=present), complete)

    def _aggregate(self, queries, memory, key) -> Float[np.ndarray, "query dim"]:
        queries, memory = jnp.asarray(queries), jnp.asarray(memory)
        if self.consistency == "softmax":
            return np.asarray(losses.soft_aggregate(queries, memory, temperature=self.temperature))
        if self.consistency == "argmax":
            return np.asarray(losses.argmax_aggregate(queries, memory))
        return np.asarray(losses.random_aggregate(queries, memory, key=key))

    # -- training ----------------------------------------------------------------------------

    def training_set(self, data: FeatureSet, seed: int) -> FeatureSet:
        return data

    def pools(self, training_set: FeatureSet, batch_size: int, seed: int) -> Pool:
        rows = np.flatnonzero(training_set.train)
        if not 1 <= batch_size <= len(rows):
            raise ValueError(f"batch_size={batch_size} is not within 1 … {len(rows)} examples")
        streams = [m for m in training_set.modalities if m not in PAIRED]
        return Pool(rows, batch_size, tuple(streams))

    # -- judgement ---------------------------------------------------------------------------

    def judge(self, trained: Trained) -> list[Measurement]:
        method, state = trained.method, trained.state
        connector = Connector.of_method(method, state.params, state.state)
        connector.save(trained.workdir / "connector.safetensors")
        test = keep(trained.data, ~trained.data.train)  # of banks, a small part
        streams, pair = (*method.first, *method.second), (method.first[1], method.second[1])
        shown = dataclasses.replace(test, features={m: test.features[m] for m in streams})
        embeddings = embed_examples(method, state.params, state.state, shown)
        embedding_map(trained.figures / "connected_map.png", embeddings, shown)
        measurements = list(self._search(trained, trained.name, test, pair, embeddings))
        if not self.control:
            return measurements
        raw = {m: np.asarray(x, np.float32) for m, x in test.features.items()}
        if len({raw[m].shape for m in streams}) == 1:  # else a cosine between them means nothing
            embedding_map(trained.figures / "spaces_map.png", {m: raw[m] for m in streams}, shown)
            measurements += self._search(trained, "no connection", test, pair, raw)
        if PAIRED[0] in raw:
            aliases = dict(zip(pair, (raw[m] for m in PAIRED), strict=True))
            measurements += self._search(trained, "trained on pairs", test, pair, aliases)
        return measurements

    def _search(self, trained: Trained, name, test, pair, embeddings) -> Iterator[Measurement]:
        """Both directions between the two modalities that have never met, by cosine."""
        labels = trained.labels | {"method": name}
        rows = np.flatnonzero(test.present[pair[0]] & test.present[pair[1]])
        sides = [retrieval.Rows((embeddings[m][rows],), rows, test.label[rows]) for m in pair]
        for (source, queries), (target, items) in (
            ((pair[0], sides[0]), (pair[1], sides[1])),
            ((pair[1], sides[1]), (pair[0], sides[0])),
        ):
            for metric, value, by_chance in retrieval.search(queries, items, retrieval.cosine):
                found = Measurement(
                    experiment="connect", split="all", source=source, target=target,
                    metric=metric, value=value, num_examples=len(rows), selection="cosine",
                    **labels,
                )  # fmt: skip
                yield found
                if name == trained.name:
                    yield dataclasses.replace(found, method="chance", value=by_chance)


PAIRED = ("paired_first", "paired_second")


def halves(
    rows: Bool[np.ndarray, "example"], seed: int
) -> tuple[Bool[np.ndarray, "example"], Bool[np.ndarray, "example"]]:
    """Two disjoint random halves of the chosen examples."""
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(rows))
    parts = (chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :])
    first, second = (np.isin(np.arange(len(rows)), part) for part in parts)
    return first, second


def keep(data: FeatureSet, rows: Bool[np.ndarray, "example"]) -> FeatureSet:
    """The feature set of these examples alone."""
    return dataclasses.replace(
        data,
        features={m: x[rows] for m, x in data.features.items()},
        present={m: p[rows] for m, p in data.present.items()},
        label=data.label[rows], train=data.train[rows], group=data.group[rows],
    )  # fmt: skip
