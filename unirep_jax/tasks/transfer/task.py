"""A representation trained on one data set and evaluated on others, as CMG and MICU are."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from unirep_jax.data import FeatureSet
from unirep_jax.data.prepared import (
    RECIPE,
    EventLabels,
    Prepared,
    few_prepared,
    load_prepared,
)
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import Representation, represent
from unirep_jax.evaluation.measurements import Measurement, measured
from unirep_jax.evaluation.probe import Probe
from unirep_jax.methods.method import Method, Pretrain, RepresentationMethod
from unirep_jax.model import Model
from unirep_jax.tasks import task
from unirep_jax.tasks.generalization import measures
from unirep_jax.tasks.generalization.figures import codebook_usage
from unirep_jax.tasks.generalization.task import OpenSet
from unirep_jax.tasks.other_sets import check_fit, searchable
from unirep_jax.tasks.representation import baselines, has_common_space
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
    * neither labels nor events in training examples, or no training examples: zero-shot
      retrieval of the test examples.

    A direction within a modality is left out where training and test share examples. Where the
    method has a codebook, a picture shows which modalities share its codes (Figure 6 of MICU).

    sets: folders made by `unirep_jax.data.prepare`. selections, folds: as `OpenSet`. probe,
    event_probe: settings of `Probe` and `EventProbe`. control: also evaluate the network untrained,
      linear CCA of the training data and, within a modality, raw features.
    """

    sets: tuple[str, ...] = ()
    selections: tuple[str, ...] = ("honest", "paper")
    folds: int = 3
    probe: dict = dataclasses.field(default_factory=dict)
    event_probe: dict = dataclasses.field(default_factory=dict)
    control: bool = True

    requires: ClassVar[type] = RepresentationMethod
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "transfer to other data sets",
        metrics={
            **OpenSet.vocabulary.metrics,
            **Retrieval.vocabulary.metrics,
            **{name: (title, 100) for name, title in EVENT_COLUMNS.items()},
        },
        selections={**OpenSet.vocabulary.selections, **Retrieval.vocabulary.selections},
        experiments={
            **OpenSet.vocabulary.experiments,
            "retrieval": "retrieval",
            "events": "events in time",
        },
        headline={
            **OpenSet.vocabulary.headline,
            **Retrieval.vocabulary.headline,
            "events": ("segment_f1", "event_f1"),
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "sets",
        "selections",
        "folds",
        "probe",
        "event_probe",
        "control",
    )
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
            prepared = load_prepared(path)
            check_fit(prepared.features, data, path)
            _check_measurable(prepared, path)
        encoded = task.encode(method, data, pretrain, seed)
        return task.Prepared(data, encoded.data, encoded.data, task.ways(encoded), shown=data)

    def evaluate(self, trained: Trained) -> list[Measurement]:
        found = []
        for path in self.sets:
            prepared = few_prepared(load_prepared(path), trained.examples)
            here = self._measured_once(trained, prepared, trained.model, chance=True)
            if not here:
                raise ValueError(f"task.sets: {Path(path)}: nothing was measured; leave it out")
            found += here
            for baseline in baselines(trained) if self.control else ():
                model = baseline.make()
                found += self._measured_once(trained, prepared, model, chance=False)
        return found

    def _measured_once(
        self, trained: Trained, prepared: Prepared, model: Model, *, chance: bool
    ) -> list[Measurement]:
        """One model on one set, kept until the evaluation is whole."""
        labels = trained.labels | {"dataset": prepared.features.name, "method": model.name}

        def measure() -> Iterator[Measurement]:
            representation = represent(model, prepared.features)
            if chance and representation.codebook is not None:
                path = trained.figures / f"codebook_usage_{prepared.features.name}.png"
                codes, features = representation.indices, prepared.features
                codebook_usage(path, representation.codebook, codes, features)
            across = has_common_space(model.method)
            for experiment, row in self._rows(prepared, representation, trained.seed, across):
                row = row if chance else row | {"chance": None}
                yield from measured(row, experiment=experiment, **labels)

        return trained.once(f"{model.name} on {prepared.features.name}", measure)

    def _rows(
        self, prepared: Prepared, representation: Representation, seed: int, comparable: bool
    ) -> Iterator[tuple[str, dict]]:
        """Experiment and fields of each measurement; of each modality alone if not comparable."""
        data, recipe = prepared.features, prepared.recipe
        if _what(prepared) == "retrieval":
            if not comparable:
                return
            captions = recipe["captions"]
            for row in retrieval.directions(representation.vectors, data, captions=captions):
                yield "retrieval", row
            return
        shared = set(recipe["train"].split("+")) & set(recipe["test"].split("+"))
        across = lambda row: not shared or row["source"] not in str(row["target"]).split("+")
        if _what(prepared) == "classes":
            probe = Probe(**self.probe)
            for row in measures.closed_set(
                representation, data, probe=probe, seed=seed, across=comparable
            ):
                if across(row):
                    yield "cmg", row
            if _open_sets(prepared) and comparable:
                rows = measures.open_set(
                    representation,
                    data,
                    known=_open_sets(prepared),
                    selections=self.selections,
                    folds=self.folds,
                    probe=probe,
                    seed=seed,
                )
                yield from (("oscmg", row) for row in rows)
        if prepared.events is not None and _in_step(representation, prepared.events):
            probe = EventProbe(**self.event_probe)
            for row in localize_events(
                representation, data, prepared.events, probe=probe, seed=seed, across=comparable
            ):
                if across(row):
                    yield "events", row


def _open_sets(prepared: Prepared) -> tuple[int, ...]:
    """The numbers of known classes of the open-set protocols, ascending."""
    return tuple(sorted({counts["known"] for counts in prepared.recipe["open_sets"]}))


def _what(prepared: Prepared) -> str:
    """What training examples say: "classes", "events" alone, or nothing: "retrieval"."""
    data = prepared.features
    if data.train.any() and (data.label[data.train] >= 0).all():
        return "classes"
    return "retrieval" if prepared.events is None else "events"


def _in_step(representation: Representation, events: EventLabels) -> bool:
    """Whether sequences have a step for each second; CCA makes one vector of an example."""
    seconds = {m: active.shape[1] for m, active in events.events.items()}
    return all(representation.indices[m].shape[1] == count for m, count in seconds.items())


def _check_measurable(prepared: Prepared, path: str) -> None:
    """Refuses a set of which no table would have a row."""
    data = prepared.features
    test = {m: int((data.present[m] & ~data.train).sum()) for m in data.modalities}
    counts = ", ".join(f"{count} of {m}" for m, count in test.items())
    if not any(test.values()):
        raise ValueError(f"task.sets: {Path(path)} has no test example with a modality")
    if _what(prepared) == "retrieval" and not searchable(data, prepared.recipe["captions"]):
        raise ValueError(
            f"task.sets: {Path(path)} has neither labels nor events, and no test example of "
            f"two modalities to search between (test examples: {counts}): leave it out"
        )
