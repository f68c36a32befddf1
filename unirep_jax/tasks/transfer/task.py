"""A representation trained on one data set and evaluated on others, as CMG and MICU are."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from unirep_jax.data import FeatureSet
from unirep_jax.data.prepared import RECIPE, Prepared, few_prepared, load_prepared
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import Representation, represent
from unirep_jax.evaluation.measurements import Measurement, measured
from unirep_jax.evaluation.probe import Probe
from unirep_jax.methods.method import Method, Pretrain, RepresentationMethod
from unirep_jax.tasks import task
from unirep_jax.tasks.generalization import measures
from unirep_jax.tasks.generalization.task import OpenSet
from unirep_jax.tasks.retrieval.task import Retrieval
from unirep_jax.tasks.task import Task, Trained, Vocabulary
from unirep_jax.tasks.transfer.events import EventProbe, localize_events
from unirep_jax.tasks.transfer.tables import EVENT_COLUMNS, transfer_tables


@dataclasses.dataclass(frozen=True)
class Transfer(Task):
    """Every set of features is evaluated by what it holds.

    * open-set protocols in its recipe: OSCMG with their known classes, and CMG with all classes;
    * labels and training examples: CMG;
    * events in time: their localisation;
    * no training examples: zero-shot retrieval.

    A direction within a modality is left out where training and test share examples.

    sets: folders made by `unirep_jax.data.prepare`. selections, folds: as `OpenSet`. probe,
    event_probe: settings of `Probe` and `EventProbe`.
    """

    sets: tuple[str, ...] = ()
    selections: tuple[str, ...] = ("honest", "paper")
    folds: int = 3
    probe: dict = dataclasses.field(default_factory=dict)
    event_probe: dict = dataclasses.field(default_factory=dict)

    requires: ClassVar[type] = RepresentationMethod
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "transfer to other data sets",
        metrics={
            **OpenSet.vocabulary.metrics,
            **Retrieval.vocabulary.metrics,
            **{name: (title, 100) for name, title in EVENT_COLUMNS.items()},
        },
        selections={**OpenSet.vocabulary.selections, **Retrieval.vocabulary.selections},
        experiments={"cmg": "closed set", "events": "events in time"},
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "sets", "selections", "folds", "probe", "event_probe",
    )  # fmt: skip
    tables = staticmethod(transfer_tables)

    def __post_init__(self) -> None:
        Probe(**self.probe)
        EventProbe(**self.event_probe)

    def rehearsal(self) -> Self:
        once = {"steps": 1}
        return dataclasses.replace(
            self, probe=self.probe | once, event_probe=self.event_probe | once
        )

    def prepare(
        self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int
    ) -> task.Prepared:
        """All of the data, once every set is found to be there and to fit."""
        if not self.sets:
            raise ValueError("task.sets names no folder to evaluate on")
        absent = [path for path in self.sets if not (Path(path) / RECIPE).is_file()]
        if absent:
            raise ValueError(f"task.sets: not made by unirep_jax.data.prepare: {absent}")
        for path in self.sets:
            _check_fit(load_prepared(path).features, data, path)
        encoded = task.encode(method, data, pretrain, seed)
        return task.Prepared(data, encoded.data, encoded.data, task.ways(encoded))

    def evaluate(self, trained: Trained) -> list[Measurement]:
        return [m for path in self.sets for m in self._evaluate(trained, path)]

    def _evaluate(self, trained: Trained, path: str) -> Iterator[Measurement]:
        prepared = few_prepared(load_prepared(path), trained.examples)
        data = prepared.features
        labels = trained.labels | {"dataset": data.name}
        representation = represent(trained.model, data)
        for experiment, row in self._rows(prepared, representation, trained.seed):
            yield from measured(row, experiment=experiment, **labels)

    def _rows(
        self, prepared: Prepared, representation: Representation, seed: int
    ) -> Iterator[tuple[str, dict]]:
        """Experiment and fields of each measurement."""
        data, recipe = prepared.features, prepared.recipe
        if not data.train.any():
            captions = recipe["captions"]
            for row in retrieval.directions(representation.vectors, data, captions=captions):
                yield "retrieval", row
            return
        shared = set(recipe["train"].split("+")) & set(recipe["test"].split("+"))
        across = lambda row: not shared or row["source"] not in str(row["target"]).split("+")
        if (data.label[data.train] >= 0).all():
            probe = Probe(**self.probe)
            for row in measures.closed_set(representation, data, probe=probe, seed=seed):
                if across(row):
                    yield "cmg", row
            if _open_sets(prepared):
                rows = measures.open_set(
                    representation, data, known=_open_sets(prepared), selections=self.selections,
                    folds=self.folds, probe=probe, seed=seed,
                )  # fmt: skip
                yield from (("oscmg", row) for row in rows)
        if prepared.events is not None:
            probe = EventProbe(**self.event_probe)
            for row in localize_events(
                representation, data, prepared.events, probe=probe, seed=seed
            ):
                if across(row):
                    yield "events", row


def _open_sets(prepared: Prepared) -> tuple[int, ...]:
    """The numbers of known classes of the open-set protocols, ascending."""
    return tuple(sorted({counts["known"] for counts in prepared.recipe["open_sets"]}))


def _check_fit(features: FeatureSet, data: FeatureSet, path: str) -> None:
    """The network that is trained on `data` can embed every modality of a set."""
    for m, array in features.features.items():
        if m not in data.modalities:
            raise ValueError(
                f"{Path(path)} has {m!r}, the training data {', '.join(data.modalities)}"
            )
        trained_on = data.features[m].shape[1:]
        if array.shape[1:] != trained_on:
            raise ValueError(f"{Path(path)}: {m} {array.shape[1:]}, in training {trained_on}")
