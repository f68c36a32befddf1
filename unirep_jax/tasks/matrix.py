"""Several tasks of one training: which representation is best at what."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique
from unirep_jax.tasks.few_label.task import FewLabel, few_label_tables
from unirep_jax.tasks.generalization.tables import cross_modal_tables
from unirep_jax.tasks.generalization.task import OpenSet
from unirep_jax.tasks.representation import RepresentationTask, Row, Subject
from unirep_jax.tasks.retrieval.tables import retrieval_tables
from unirep_jax.tasks.retrieval.task import Retrieval
from unirep_jax.tasks.task import Trained, Vocabulary

# Title, and which measurements it is the mean of; directions within a modality are not.
COLUMNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("closed set", {"experiment": "cmg", "metric": "accuracy"}),
    ("HOS, honest", {"experiment": "oscmg", "metric": "hos", "selection": "honest"}),
    ("HOS, paper", {"experiment": "oscmg", "metric": "hos", "selection": "paper"}),
    ("R@1, pairs", {"experiment": "retrieval", "metric": "recall_at_1", "selection": "cosine"}),
    ("R@10, pairs", {"experiment": "retrieval", "metric": "recall_at_10", "selection": "cosine"}),
    ("class mAP", {"experiment": "retrieval", "metric": "class_map", "selection": "cosine"}),
    ("R@1, groups", {"experiment": "retrieval", "metric": "recall_at_1", "selection": "height"}),
    ("few labels", {"experiment": "few_label", "metric": "accuracy"}),
)


def matrix_tables(measurements: Sequence[Measurement]) -> str:
    """Methods × tasks of each data set, then the tables of every task, as Markdown."""
    parts = []
    for dataset in unique(m.dataset for m in measurements):
        rows = [m for m in measurements if m.dataset == dataset and m.source != m.target]
        lines = [
            [method, *(cell(rows, method=method, **wanted) for _, wanted in COLUMNS)]
            for method in unique(m.method for m in rows)
        ]
        header = ["method", *(title for title, _ in COLUMNS)]
        parts.append(
            f"### {dataset}: methods × tasks\n\nPercent, mean over all directions between "
            "modalities and over splits. Groups: one modality against all others, by height.\n\n"
            + markdown_table(header, lines, names=1)
        )
    each = {
        ("cmg", "oscmg"): cross_modal_tables,
        ("retrieval",): retrieval_tables,
        ("few_label",): few_label_tables,
    }
    for experiments, tables in each.items():
        rows = [m for m in measurements if m.experiment in experiments]
        parts += [tables(rows)] if rows else []
    return "\n".join(parts)


@dataclasses.dataclass(frozen=True)
class Matrix(RepresentationTask):
    """Open and closed set, retrieval and few labels, each with the settings of its own task.

    control: also evaluate the network without training, linear CCA and raw features.
    """

    oscmg: dict = dataclasses.field(default_factory=dict)
    retrieval: dict = dataclasses.field(default_factory=dict)
    few_label: dict = dataclasses.field(default_factory=dict)
    control: bool = True

    compares_modalities: ClassVar[bool] = False
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "several tasks of one training",
        metrics={
            **OpenSet.vocabulary.metrics,
            **Retrieval.vocabulary.metrics,
            **FewLabel.vocabulary.metrics,
        },
        selections={**OpenSet.vocabulary.selections, **Retrieval.vocabulary.selections},
        experiments={
            **OpenSet.vocabulary.experiments,
            "retrieval": "retrieval",
            "few_label": "few labels",
        },
        headline={
            **OpenSet.vocabulary.headline,
            **Retrieval.vocabulary.headline,
            **FewLabel.vocabulary.headline,
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "oscmg",
        "retrieval",
        "few_label",
        "control",
    )
    tables = staticmethod(matrix_tables)

    @property
    def tasks(self) -> tuple[RepresentationTask, ...]:
        """The tasks as their settings make them."""
        return (*self._named().values(),)

    def _named(self) -> dict[str, RepresentationTask]:
        return {
            "oscmg": OpenSet(**self.oscmg),
            "retrieval": Retrieval(**self.retrieval),
            "few_label": FewLabel(**self.few_label),
        }

    def rehearsal(self) -> Self:
        settings: dict[str, Any] = {
            name: dict(vars(task.rehearsal())) for name, task in self._named().items()
        }
        return dataclasses.replace(self, **settings)

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        """What the tasks agree to show: each must leave the training data as they are."""
        if self.retrieval.get("evaluate_on"):
            raise ValueError("task.retrieval.evaluate_on: only --config=retrieval has further sets")
        for task in self.tasks:
            if task.shown(data, seed) is not data:
                name = type(task).__name__
                raise ValueError(f"{name} trains on data of its own, and cannot be one of several")
        return data

    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        for task in self.tasks:
            if not task.baseline_refusal(subject.method, subject.name):
                yield from task.measure(subject)

    def draw(self, trained: Trained, subject: Subject) -> None:
        for task in self.tasks:
            if not task.refusal(subject.method, subject.name):
                task.draw(trained, subject)
