"""Open-set and closed-set cross-modal generalisation: what a probe learns of one modality holds
for another."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Self

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.probe import Probe
from unirep_jax.evaluation.tables import OPEN_SET_METRICS
from unirep_jax.methods.method import Method
from unirep_jax.methods.unified import BeforeCodes, CodebookMethod
from unirep_jax.tasks.generalization import measures
from unirep_jax.tasks.generalization.figures import codebook_usage
from unirep_jax.tasks.generalization.tables import (
    SELECTION_RULES,
    THRESHOLD_FREE,
    cross_modal_tables,
)
from unirep_jax.tasks.representation import (
    RepresentationTask,
    Row,
    Subject,
    has_common_space,
)
from unirep_jax.tasks.task import Task, Topic, Trained, Vocabulary, check_labels

WORDS = Vocabulary(
    "cross-modal generalisation",
    metrics={
        name: (title, 100)
        for name, title in (
            ("accuracy", "accuracy"),
            *OPEN_SET_METRICS,
            *THRESHOLD_FREE,
            ("os", "OS"),
            *((f"{n}_class", f"{t} by class") for n, t in (("os", "OS"), *OPEN_SET_METRICS)),
        )
    },
    selections=SELECTION_RULES,
    experiments={"cmg": "closed set", "oscmg": "open set"},
    headline={
        "cmg": ("accuracy",),
        "oscmg": ("oscr", "auroc", "hos", "os_star", "unk"),
    },
    topics=(
        Topic(
            "Codebook health",
            "codes_used: share of all codes chosen in a batch; the others are dead there. "
            "perplexity: effective number of codes that a modality uses. agreement: share of "
            "tokens for which all modalities choose one code.",
            ("codes_used", "perplexity", "agreement"),
            ("codebook_usage",),
        ),
    ),
    captions={
        "codebook_usage": "Codes by the modalities that share them, and the codebook in its two "
        "principal directions",
    },
)


@dataclasses.dataclass(frozen=True)
class ClosedSet(RepresentationTask):
    """CMG: a probe trained on one modality, tested on another, all classes known.

    known, selections, folds: for the open set alone. control: also evaluate the network without
    pre-training, linear CCA and, within a modality, raw features. continuous: of a method with a
    codebook also what it makes before it quantises, as "NAME, continuous". probe: settings of
    `Probe`.
    """

    known: tuple[int, ...] = (0, 0)
    selections: tuple[str, ...] = ("honest", "paper")
    folds: int = 3
    control: bool = True
    continuous: bool = False
    probe: dict = dataclasses.field(default_factory=dict)

    open_set: ClassVar[bool] = False
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "known",
        "selections",
        "folds",
        "control",
        "continuous",
        "probe",
    )
    vocabulary: ClassVar[Vocabulary] = WORDS
    tables = staticmethod(cross_modal_tables)

    def __post_init__(self) -> None:
        for selection in self.selections:
            if selection not in SELECTION_RULES:
                known = ", ".join(SELECTION_RULES)
                raise ValueError(f"task.selections: {selection!r} is none of {known}")
        Probe(**self.probe)

    def rehearsal(self) -> Self:
        # All splits were checked as data were prepared; each compiles programs of its own.
        return dataclasses.replace(self, known=self.known[:1], probe=self.probe | {"steps": 1})

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        check_labels(data)
        for count in self._known(data.num_classes) if self.open_set else ():
            for m in data.modalities if "honest" in self.selections else ():
                rows = measures.labelled_rows(data, m, train=True, classes=count)
                if len(rows):
                    group = data.group[rows]
                    measures.source_folds(data.label[rows], group, count, self.folds, seed=seed)
        return data

    def baseline_refusal(self, method: Method, name: str) -> str:
        """Only of a method that embeds nothing: raw features are a baseline within a modality."""
        return Task.refusal(self, method, name)

    def evaluate(self, trained: Trained) -> list[Measurement]:
        found = super().evaluate(trained)
        if self.continuous and isinstance(trained.method, CodebookMethod):
            name = f"{trained.name}, continuous"
            model = dataclasses.replace(trained.model, method=BeforeCodes(trained.method))
            subject = self.subject(trained, model)._replace(name=name)
            found += trained.once(name, lambda: self.measurements(subject, chance=False))
        return found

    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        representation, data, seed = subject.representation, subject.data, subject.seed
        probe, across = Probe(**self.probe), has_common_space(subject.method)
        for row in measures.closed_set(representation, data, probe=probe, seed=seed, across=across):
            yield "cmg", row
        if self.open_set and across:
            rows = measures.open_set(
                representation,
                data,
                known=self._known(data.num_classes),
                selections=self.selections,
                folds=self.folds,
                probe=probe,
                seed=seed,
            )
            yield from (("oscmg", row) for row in rows)

    def draw(self, trained: Trained, subject: Subject) -> None:
        representation = subject.representation
        if representation.codebook is not None:
            path = trained.figures / "codebook_usage.png"
            codebook_usage(path, representation.codebook, representation.indices, subject.data)

    def _known(self, classes: int) -> tuple[int, ...]:
        """Known classes per split; zeros stand for a half, then three quarters of the classes.

        For three at least, where there are as many: a threshold is fitted by hiding one of them.
        """
        least = min(3, classes - 1)
        default = (max(classes // 2, least), max(classes * 3 // 4, least))
        known = tuple(k or default[min(i, 1)] for i, k in enumerate(self.known))
        for count in known:
            if type(count) is not int or not 2 <= count < classes:
                raise ValueError(
                    f"task.known={known}: {count!r} known classes of {classes}; "
                    "whole numbers, of which at least 2 are known and 1 is unknown"
                )
        return known


@dataclasses.dataclass(frozen=True)
class OpenSet(ClosedSet):
    """OSCMG: the source knows only the first classes; the target has the others, too."""

    open_set: ClassVar[bool] = True
    vocabulary: ClassVar[Vocabulary] = WORDS._replace(title="open-set cross-modal generalisation")
