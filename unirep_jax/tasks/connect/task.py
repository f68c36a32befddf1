"""Connecting two contrastive spaces that share a modality, evaluated on the pair never trained."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from unirep_jax.connect import Connector
from unirep_jax.data import FeatureSet
from unirep_jax.data.modalities import choose_modalities
from unirep_jax.data.resident import Pool
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import represent
from unirep_jax.evaluation.embedding_figures import embedding_map
from unirep_jax.evaluation.measurements import Measurement, measured
from unirep_jax.evaluation.retrieval_figures import answers
from unirep_jax.losses import unit
from unirep_jax.methods.baselines import CCA
from unirep_jax.methods.cmcr import CMCR
from unirep_jax.methods.method import Method, Pretrain
from unirep_jax.methods.streams import keep
from unirep_jax.model import Model, Way
from unirep_jax.tasks.connect.gaps import GAP, connection_tables, gaps
from unirep_jax.tasks.representation import solved
from unirep_jax.tasks.retrieval.task import EMBEDDING_MAP, Retrieval
from unirep_jax.tasks.task import Prepared, Task, Topic, Trained, Vocabulary, encode, ways

CENTRE_EXAMPLES = 100_000  # at most, from which the mean of a modality is taken
PAIRED_CCA = "CCA of true pairs"


@dataclasses.dataclass(frozen=True)
class Connection(Task):
    """The projections of both other modalities search for each other, next to no connection.

    control: also evaluate the spaces without connection, their linear connection through the shared
      modality and, of raw features, an encoder and linear CCA of the true pairs of both halves.
    """

    control: bool = True

    requires: ClassVar[type] = CMCR
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "connection of contrastive spaces",
        metrics={**Retrieval.vocabulary.metrics, GAP: ("gap", 1)},
        selections=Retrieval.vocabulary.selections,
        headline={"connect": ("recall_at_1", "recall_at_10", "class_map")},
        topics=(
            EMBEDDING_MAP,
            Topic(
                "Gap between modalities",
                "gap: distance between an item and its projection's partner in its own space.",
                ("gap_first", "gap_second"),
            ),
            Topic("Searches", "Single queries and what stands first.", (), ("answers",)),
        ),
        captions={
            "connected_map": "Map of the connected space, by modality and by class",
            "spaces_map": "Map of the two spaces before they are connected",
            "answers": "Nearest items to some queries of the pair that training never had",
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = ("control",)
    tables = staticmethod(connection_tables)

    # -- training ----------------------------------------------------------------------------

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        assert isinstance(method, CMCR)
        method = method.of_streams(data.modalities)
        streams = method.first[1], method.second[1]
        # Before encoders are pretrained: of streams, or of the raw modalities they are made of.
        pair = [m if m in data.modalities else m[:-2] for m in streams]
        for space, m in zip(("first", "second"), pair, strict=True):
            if m not in data.modalities:
                raise ValueError(
                    f"modality {m!r} is none of {', '.join(data.modalities)}: give "
                    f"--config.method.{space}=\"('SHARED_{1 + (space == 'second')}', "
                    f"'OTHER_{1 + (space == 'second')}')\" with two of them"
                )
        count = int((~data.train & data.present[pair[0]] & data.present[pair[1]]).sum())
        if count < 2:
            raise ValueError(f"{data.name}: {count} test examples have {' and '.join(pair)}")
        encoded = encode(method, data, pretrain, seed)
        return Prepared(data, encoded.data, encoded.data, ways(encoded))

    def pools(self, seen: FeatureSet, batch_size: int, seed: int) -> Pool:
        rows = np.flatnonzero(seen.train)
        if not 1 <= batch_size <= len(rows):
            raise ValueError(f"batch_size={batch_size} is not within 1 … {len(rows)} examples")
        return Pool(rows, batch_size, seen.modalities)

    # -- evaluation --------------------------------------------------------------------------

    def evaluate(self, trained: Trained) -> list[Measurement]:
        method, model = trained.method, trained.model
        assert isinstance(method, CMCR)
        connector = Connector.of_method(method, model.params, model.state)
        connector.save(trained.workdir / "connector.safetensors")
        whole = trained.prepared.whole
        test = keep(whole, ~whole.train)  # of banks, a small part
        streams = (*method.first, *method.second)
        embeddings = represent(_of_streams(model, test), test).vectors
        embedding_map(trained.figures / "connected_map.png", embeddings, test)
        pair = (method.first[1], method.second[1])
        queries, items = (embeddings[m] for m in pair)
        answers(trained.figures / "answers.png", queries, items, test, pair)
        measurements = list(self._search(trained, trained.name, test, pair, embeddings))
        spaces = (method.first, method.second)
        measurements += _measured(trained, trained.name, gaps(embeddings, test, (*spaces, pair)))
        if not self.control:
            return measurements
        raw = {m: np.asarray(test.features[m], np.float32) for m in streams}
        if len({x.shape for x in raw.values()}) == 1:  # else a cosine between them means nothing
            embedding_map(trained.figures / "spaces_map.png", raw, test)
            measurements += self._search(trained, "no connection", test, pair, raw)
        measurements += _measured(trained, "no connection", gaps(raw, test, spaces))
        linear = linear_connection(method, trained.prepared.seen, test)
        measurements += self._search(trained, "cca", test, pair, linear)
        if any(way.encoder for through in trained.prepared.ways.values() for way in through):
            complete = np.all([trained.data.present[m] for m in trained.prepared.ways], axis=0)
            data, names = keep(trained.data, complete), (pair[0][:-2], pair[1][:-2])
            for name, fit in (("trained on pairs", self._paired), (PAIRED_CCA, self._paired_cca)):
                vectors = dict(zip(pair, fit(trained, data, names), strict=True))
                measurements += self._search(trained, name, test, pair, vectors)
        return measurements

    def _paired(
        self, trained: Trained, data: FeatureSet, names: tuple[str, str]
    ) -> list[np.ndarray]:
        """Test embeddings of an encoder that was trained on the true pairs, by raw modality."""
        encoder = trained.pretrain(data, names, data.train, seed=2 * trained.seed)
        test = keep(data, ~data.train)
        return [
            encoder.represent(m, test.features[m], present=test.present[m]).vector for m in names
        ]

    def _paired_cca(
        self, trained: Trained, data: FeatureSet, names: tuple[str, str]
    ) -> list[np.ndarray]:
        """Test embeddings of linear CCA of the true pairs, by raw modality."""
        model, test = solved("cca", CCA(), choose_modalities(data, names)), keep(data, ~data.train)
        return [model.embed(m, test.features[m]) for m in names]

    def _search(
        self, trained: Trained, name: str, test: FeatureSet, pair: tuple[str, str], embeddings: Any
    ) -> Iterator[Measurement]:
        """Both directions between the two modalities that have never met, by cosine."""
        rows = np.flatnonzero(test.present[pair[0]] & test.present[pair[1]])
        sides = [retrieval.Rows((embeddings[m][rows],), rows, test.label[rows]) for m in pair]
        for (source, queries), (target, items) in (
            ((pair[0], sides[0]), (pair[1], sides[1])),
            ((pair[1], sides[1]), (pair[0], sides[0])),
        ):
            for metric, value, by_chance in retrieval.search(queries, items, retrieval.cosine):
                row = {
                    "split": "all",
                    "source": source,
                    "target": target,
                    "metric": metric,
                    "value": value,
                    "num_examples": len(rows),
                    "selection": "cosine",
                    "chance": by_chance if name == trained.name else None,
                }
                yield from _measured(trained, name, [row])


def _measured(trained: Trained, name: str, rows: Iterable[dict]) -> Iterator[Measurement]:
    for row in rows:
        yield from measured(row, experiment="connect", **trained.labels | {"method": name})


def linear_connection(method: CMCR, seen: FeatureSet, test: FeatureSet) -> dict[str, np.ndarray]:
    """Both other modalities where linear CCA of the shared one in both spaces puts them.

    The directions in which the two embeddings of the shared modality agree are applied to the other
    modality of each space, about its own mean: no pair of the other two is needed.
    """
    shared, others = (method.first[0], method.second[0]), (method.first[1], method.second[1])
    both = dataclasses.replace(
        seen,
        features={m: seen.features[m] for m in shared},
        present={m: seen.present[m] for m in shared},
    )
    params, state = CCA().solve(both)
    placed = {}
    for m, other in zip(shared, others, strict=True):
        scale = np.asarray(state["statistics"][m][1])
        rows = np.flatnonzero(seen.train & seen.present[other])[:CENTRE_EXAMPLES]
        mean = np.asarray(seen.features[other][rows], np.float32).mean(0)
        x = (np.asarray(test.features[other], np.float32) - mean) / scale
        placed[other] = np.asarray(unit(x @ np.asarray(params["project"][m])))
    return placed


def _of_streams(model: Model, streams: FeatureSet) -> Model:
    """The model of embeddings that are streams already."""
    ways = {m: (Way(None, m),) for m in streams.modalities}
    return dataclasses.replace(model, shapes=model.streams, ways=ways)
