"""Few-label classification: a probe of one modality's embeddings learns from few labels."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.chance import guess
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.probe import Probe
from unirep_jax.evaluation.tables import cell, markdown_table, unique
from unirep_jax.tasks.oom.split import evenly
from unirep_jax.tasks.representation import RepresentationTask, Row, Subject
from unirep_jax.tasks.task import Vocabulary


def few_label_tables(measurements: Sequence[Measurement]) -> str:
    """Accuracy of each modality, a row per method, as Markdown."""
    parts = []
    for dataset, split in unique((m.dataset, m.split) for m in measurements):
        rows = [m for m in measurements if (m.dataset, m.split) == (dataset, split)]
        modalities = unique(m.source for m in rows)
        lines = [
            [method]
            + [cell(rows, method=method, source=m, metric="accuracy") for m in modalities]
            + [cell(rows, method=method, metric="accuracy")]
            for method in unique(m.method for m in rows)
        ]
        parts.append(
            f"### {dataset}: few labels, {split}\n\nAccuracy of a probe of one modality on the "
            f"test part, percent.\n\n"
            + markdown_table(["method", *modalities, "mean"], lines, names=1)
        )
    return "\n".join(parts)


@dataclasses.dataclass(frozen=True)
class FewLabel(RepresentationTask):
    """A probe of each modality alone, trained on the embeddings of a few labelled examples.

    What out-of-modal generalisation asks of a learner, asked of any representation; only the probe
    sees labels.

    labelled: share of the training examples that have the modality and a label, spread evenly over
      the classes. probe: settings of `Probe`. control: also evaluate the network without training,
      linear CCA and raw features.
    """

    labelled: float = 0.1
    control: bool = True
    probe: dict = dataclasses.field(default_factory=dict)

    compares_modalities: ClassVar[bool] = False
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "few-label classification",
        metrics={"accuracy": ("accuracy", 100)},
        headline={"few_label": ("accuracy",)},
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = ("labelled", "probe", "control")
    tables = staticmethod(few_label_tables)

    def __post_init__(self) -> None:
        if not 0 < self.labelled <= 1:
            raise ValueError(f"task.labelled={self.labelled} is not above 0 and at most 1")
        Probe(**self.probe)

    def rehearsal(self) -> Self:
        return dataclasses.replace(self, probe=self.probe | {"steps": 1})

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        for m in data.modalities:
            self._labelled(data, m, seed)
            if not (~data.train & data.present[m] & (data.label >= 0)).any():
                raise ValueError(
                    f"no test example has a label and the modality {m!r}: leave it out of "
                    "--config.data.modalities"
                )
        return data

    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        data, probe = subject.data, Probe(**self.probe)
        for m in data.modalities:
            table, indices = (x[m] for x in subject.representation[:2])
            rows = self._labelled(data, m, subject.seed)
            test = np.flatnonzero(~data.train & data.present[m] & (data.label >= 0))
            params = probe.fit(
                jax.random.key(subject.seed),
                table,
                indices[rows],
                jnp.asarray(data.label[rows]),
                jnp.ones(len(rows), bool),
                jnp.ones(data.num_classes, bool),
            )
            predicted = np.asarray(probe.logits(params, table, indices[test])).argmax(1)
            yield (
                "few_label",
                {
                    "split": f"{self.labelled:.0%} labelled",
                    "source": m,
                    "target": "",
                    "metric": "accuracy",
                    "value": float(np.mean(predicted == data.label[test])),
                    "num_examples": len(test),
                    "selection": "none",
                    "chance": guess("accuracy", data.num_classes),
                },
            )

    def _labelled(self, data: FeatureSet, modality: str, seed: int) -> np.ndarray:
        """Rows of the labelled examples; ValueError where a class has none."""
        possible = np.flatnonzero(data.train & data.present[modality] & (data.label >= 0))
        if not len(possible):
            raise ValueError(
                f"no training example has a label and the modality {modality!r}: leave it out of "
                "--config.data.modalities"
            )
        count, classes = round(self.labelled * len(possible)), len(np.unique(data.label[possible]))
        if not 0 < classes <= count:
            raise ValueError(
                f"task.labelled={self.labelled}: {count} of {len(possible)} training examples "
                f"with {modality} for {classes} classes"
            )
        chosen = evenly(data.label[possible], count, np.random.default_rng(seed))
        return possible[chosen]
