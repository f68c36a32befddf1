"""Cross-modal retrieval of a method that embeds every modality in one space."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.data.sample import few
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding_figures import embedding_map, transport_plans
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks.other_sets import check_sets, load_set, searchable
from unirep_jax.tasks.representation import RepresentationTask, Row, Subject
from unirep_jax.tasks.retrieval.tables import COLUMNS, SCORES, retrieval_tables
from unirep_jax.tasks.task import Topic, Trained, Vocabulary, check_modality

PLAN_EPSILON = 0.05  # of the plans that are drawn, whatever the method: MOVER's

EMBEDDING_MAP = Topic(
    "Embedding map",
    "Examples of the test part that are alike lie side by side. Distances between far clusters "
    "mean nothing.",
    (),
    ("embedding_map", "connected_map", "spaces_map", "features"),
)


@dataclasses.dataclass(frozen=True)
class Retrieval(RepresentationTask):
    """Every direction between modalities, and each modality against the group of the others.

    captions: a modality of which one item (`group` of the feature set) has several rows, of data
      that do not say so themselves. Batches then have one row of an item.
    withheld: cross-modality generalisation (Table 3 of MOVER). One modality: training never has it.
      Two or more: training never has two of them in one example, so they meet only through the
      modalities that are left; each example keeps one of them, drawn by the seed.
    oracle: training has what is withheld after all: a bound for `withheld`, which then only says
      which directions are counted as unseen.
    evaluate_on: further feature sets, files or folders, that are evaluated as well, with nothing of
      them in training (zero-shot).
    control: also evaluate the network without training and linear CCA.
    """

    captions: str = ""
    withheld: tuple[str, ...] = ()
    oracle: bool = False
    evaluate_on: tuple[str, ...] = ()
    control: bool = True

    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "cross-modal retrieval",
        metrics=COLUMNS,
        selections={name: f"Search {text}." for name, text in SCORES.items()},
        headline={"retrieval": ("recall_at_1", "recall_at_10", "class_map")},
        topics=(
            EMBEDDING_MAP,
            Topic(
                "Transport plan",
                "mass_on_pairs: share of a plan's mass on given pairs. plans_unconverged: share of "
                "the plans that Sinkhorn left unfinished.",
                ("mass_on_pairs", "plans_unconverged"),
                ("transport_plans",),
            ),
            Topic(
                "Gallery",
                "Queries of the test part and the pictures that they find, best first.",
                (),
                ("gallery",),
            ),
        ),
        captions={
            "embedding_map": "Map of the test part in all modalities, by modality and by class",
            "transport_plans": "Transport plans between modalities; true pairs are on the diagonal",
            "gallery": "Pictures found by test queries; green, the thing itself; blue, its class",
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = ("evaluate_on", "control")
    tables = staticmethod(retrieval_tables)

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        for m in self.withheld:
            check_modality("task.withheld", m, data)
        if self.captions:
            check_modality("task.captions", self.captions, data)
        if not searchable(data, self.captions or data.captions):
            raise ValueError(f"{data.name}: no test example has two modalities to search between")
        check_sets("task.evaluate_on", self.evaluate_on, data)
        if self.captions and self.captions != data.captions:
            data = dataclasses.replace(data, captions=self.captions)
        if self.oracle and not self.withheld:
            raise ValueError("task.oracle=True without task.withheld is training as it is")
        if not self.withheld or self.oracle:
            return data
        if len({*self.withheld}) < len(self.withheld):
            raise ValueError(f"withheld={self.withheld} names a modality twice")
        alone = len(self.withheld) == 1
        # An example must be left two modalities: of two or more withheld ones it keeps one.
        if len(data.modalities) - len(self.withheld) < 1 + alone:
            raise ValueError(f"withheld={self.withheld} leaves nothing to train on")
        count = len(data.label)
        kept = np.random.default_rng(seed).integers(len(self.withheld), size=count)
        present = {
            m: data.present[m] & ~(data.train & (alone | (kept != place)))
            for place, m in enumerate(self.withheld)
        }
        return dataclasses.replace(data, present=data.present | present)

    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        vectors, data = subject.representation.vectors, subject.data
        captions = data.captions or (self.captions if self.captions in data.modalities else "")
        for row in retrieval.directions(vectors, data, captions=captions):
            yield "retrieval", row | {"split": self._split(row["source"], row["target"])}

    def evaluate(self, trained: Trained) -> list[Measurement]:
        """Also on the sets of `evaluate_on`, each of which has a table of its own."""
        found = super().evaluate(trained)
        for path in self.evaluate_on:
            data = few(load_set(path), trained.examples)
            measure = lambda data=data: self.measurements(
                self.subject(trained, trained.model, data), chance=True
            )
            place = f" on {data.name}"
            found += trained.once(trained.name + place, measure)
            found += self.controls(trained, data, place)
        return found

    def draw(self, trained: Trained, subject: Subject) -> None:
        vectors = subject.representation.vectors
        embedding_map(trained.figures / "embedding_map.png", vectors, subject.data)
        path = trained.figures / "transport_plans.png"
        transport_plans(path, vectors, subject.data, epsilon=PLAN_EPSILON)

    def _split(self, source: str, target: str) -> str:
        """Whether training has had the two sides in one example."""
        apart = [{m} for m in self.withheld[:1]]
        if len(self.withheld) > 1:
            apart = [set(pair) for pair in itertools.combinations(self.withheld, 2)]
        sides = {*source.split("+"), *target.split("+")}
        if not self.withheld:
            return "all"
        return "unseen" if any(names <= sides for names in apart) else "seen"
