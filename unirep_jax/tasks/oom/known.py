"""Out-of-modal generalisation on data whose information about the class is known."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import ClassVar

from unirep_jax.data import FeatureSet
from unirep_jax.data.known_information import DRAWS, LEVELS, MODALITIES, quantities
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import markdown_table, seed_means, unique
from unirep_jax.methods.method import Method, Pretrain
from unirep_jax.tasks.oom.tables import out_of_modal_tables
from unirep_jax.tasks.oom.task import OutOfModal
from unirep_jax.tasks.task import Prepared, Trained, Vocabulary

BEST = "best classifier"
KNOWN = (
    ("information", "I(X; Y), bits"),
    ("in_modal_information", "of the others"),
    ("overlap", "overlap, bits"),
    ("disagreement", "best heads disagree"),
)


@dataclasses.dataclass(frozen=True)
class KnownInformation(OutOfModal):
    """`OutOfModal` with what no method can exceed, and what the modalities tell, beside it.

    Rows of the method "best classifier" hold the accuracy of the exact posterior given the
    out-of-modal modality, and the quantities of `data.known_information.quantities`. The features
    are embeddings already; no encoder is trained.
    """

    modality: str = MODALITIES[0]
    given: bool = True

    vocabulary: ClassVar[Vocabulary] = OutOfModal.vocabulary._replace(
        title="out-of-modal generalisation, information known",
        metrics=dict(OutOfModal.vocabulary.metrics)
        | {name: (title, 1) for name, title in KNOWN if name != "disagreement"}
        | {"disagreement": ("best heads disagree", 100)},
        captions=OutOfModal.vocabulary.captions,
    )

    @staticmethod
    def tables(measurements: Sequence[Measurement]) -> str:
        return known_tables(measurements)

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        if data.name not in LEVELS or self.modality != MODALITIES[0]:
            known = ", ".join(LEVELS)
            raise ValueError(
                f"information is known of {MODALITIES[0]!r} in {known}, not of "
                f"{self.modality!r} in {data.name}"
            )
        return super().prepare(data, method, pretrain, seed)

    def evaluate(self, trained: Trained) -> list[Measurement]:
        known = quantities(LEVELS[trained.data.name])
        others = "+".join(MODALITIES[1:])
        values = {
            "accuracy": known.accuracy[self.modality],
            "information": known.information[self.modality],
            "in_modal_information": known.information[others],
            "overlap": known.overlap,
            "disagreement": known.disagreement,
        }
        common = {"num_examples": DRAWS, "target": "", "selection": "test"}
        rows = [{"metric": metric, "value": value, **common} for metric, value in values.items()]
        return [*super().evaluate(trained), *self._measurements(trained, BEST, rows)]


def known_tables(measurements: Sequence[Measurement]) -> str:
    """Those of `OutOfModal`, then what is known of each data set."""
    rows = [
        [dataset, *(f"{_value(measurements, dataset, metric):.2f}" for metric, _ in KNOWN)]
        for dataset in unique(m.dataset for m in measurements)
    ]
    header = ["data set", *(title for _, title in KNOWN)]
    return (
        out_of_modal_tables([m for m in measurements if m.metric not in dict(KNOWN)])
        + "\n### What is known\n\nOf the out-of-modal modality, from the exact posterior.\n\n"
        + markdown_table(header, rows, names=1)
    )


def _value(measurements: Sequence[Measurement], dataset: str, metric: str) -> float:
    return next(m.value for m in measurements if (m.dataset, m.metric) == (dataset, metric))


def curves(
    measurements: Sequence[Measurement],
) -> dict[str, list[tuple[float, float, float]]]:
    """By method, of every data set: information in bits, mean accuracy over seeds, deviation."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for dataset in unique(m.dataset for m in measurements if m.metric == "information"):
        information = _value(measurements, dataset, "information")
        for method in unique(m.method for m in measurements):
            wanted = {"dataset": dataset, "method": method, "metric": "accuracy"}
            values = [*seed_means(measurements, **wanted).values()]
            if values:
                deviation = statistics.stdev(values) if len(values) > 1 else 0.0
                point = information, statistics.fmean(values), deviation
                points.setdefault(method, []).append(point)
    return {method: sorted(found) for method, found in points.items()}
