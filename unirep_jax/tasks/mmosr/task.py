"""Multimodal open-set recognition, and recognition against another data set."""

import dataclasses
from typing import ClassVar

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.data.catalog import DATA_SETS
from unirep_jax.data.modalities import choose_modalities
from unirep_jax.data.safe_text import figure_text, file_name
from unirep_jax.data.sample import few
from unirep_jax.evaluation.measurements import Measurement, measured
from unirep_jax.evaluation.tables import OPEN_SET_METRICS
from unirep_jax.methods.method import Batches, ClassifyingMethod, Method, Pretrain
from unirep_jax.metrics import fit_threshold
from unirep_jax.tasks.mmosr import figures
from unirep_jax.tasks.mmosr.decisions import (
    Decided,
    Part,
    decide,
    decide_linearly,
    rescore,
    with_features,
)
from unirep_jax.tasks.mmosr.generated import GENERATED, generate
from unirep_jax.tasks.mmosr.measures import TPR, measure, rejecting
from unirep_jax.tasks.mmosr.relevance import relevance_figure
from unirep_jax.tasks.mmosr.scores import SCORES
from unirep_jax.tasks.mmosr.split import OpenSetSplit, hold_out, osr_split
from unirep_jax.tasks.mmosr.tables import COLUMNS, recognition_tables
from unirep_jax.tasks.task import (
    Prepared,
    Task,
    Topic,
    Trained,
    Vocabulary,
    check_labels,
    encode,
    ways,
)

Splits = dict[str, tuple[np.ndarray, int]]  # which examples count; of how many unknown classes


@dataclasses.dataclass(frozen=True)
class Recognition(Task):
    """MMOSR: the classifier learns the known classes; the test has all of them.

    Every seed draws its own known classes. The rejection threshold accepts 95 % of known training
    examples that were held out, whole groups (people) at a time.

    known: how many classes; 0 for half of them. classes: these instead, by number.
    unknown: numbers of unknown classes to test with, besides all of them (openness, Table 6).
    held_out: share of the training examples for the threshold.
    out_of_distribution, out_of_distribution_path: another data set instead of unknown classes
      (Table 5). All classes of the data are known, and what must be rejected is the test part of
      this one, which has the same modalities in the same shapes.
    scores: of `SCORES`, that the trained network is evaluated with besides its own; each is a row
      METHOD, SCORE.
    generated: of `GENERATED`, sets to reject besides the unknown classes: "noise" is far from what
      is known, "mismatched" modalities of different classes are near.
    relevance: so many known test examples are drawn with the tokens that speak for the class named.
    control: also evaluate a logistic regression on the features and one on what the untrained
      network makes of them.
    """

    known: int = 0
    classes: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    held_out: float = 0.2
    out_of_distribution: str = ""
    out_of_distribution_path: str = ""
    scores: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    relevance: int = 0
    control: bool = True

    requires: ClassVar[type] = ClassifyingMethod
    offers: ClassVar[tuple[Batches, ...]] = (Batches.LABELLED,)
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "multimodal open-set recognition",
        metrics={name: (title, 100) for name, title in (*COLUMNS, *OPEN_SET_METRICS)},
        selections={"held_out": "Rejection threshold fixed on held-out known examples."},
        headline={"mmosr": ("oscr", "auroc", "macro_accuracy", "hos")},
        topics=(
            Topic(
                "Open-set curves",
                "How well a score tells known from unknown classes, and what the threshold makes "
                "of it.",
                (),
                ("curves", "scores", "confusion"),
            ),
            Topic(
                "Relevance",
                "Which tokens speak for the class named (Grad-CAM).",
                (),
                ("relevance",),
            ),
            Topic(
                "Expert load",
                "balance: squared coefficients of variation of importance and load of the "
                "experts; 0 where all are used alike.",
                ("balance",),
                ("experts",),
            ),
        ),
        captions={
            "features": "Map of the features of the test part",
            "curves": "ROC of known against unknown, and correct classification rate against "
            "false positive rate; the star is the threshold",
            "scores": "Scores of known examples, classified rightly and wrongly, and of unknown "
            "ones",
            "confusion": "Confusion matrix with rejection",
            "experts": "Mean gate of every expert by class",
            "relevance": "Known test examples, warm where tokens speak for the class named",
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "unknown",
        "out_of_distribution_path",
        "control",
        "scores",
        "generated",
        "relevance",
    )
    tables = staticmethod(recognition_tables)

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        check_labels(data)
        encoded = encode(method, data, pretrain, seed)
        seen = self.seen(encoded.data, seed)
        return Prepared(data, encoded.data, seen, ways(encoded), labelled=True)

    def __post_init__(self) -> None:
        for field, known in (("scores", SCORES), ("generated", GENERATED)):
            for name in getattr(self, field):
                if name not in known:
                    raise ValueError(f"{field}: {name!r} is none of {', '.join(known)}")

    def seen(self, data: FeatureSet, seed: int) -> FeatureSet:
        """Training examples of the known classes but those held out for the threshold."""
        if self.out_of_distribution:
            _check_alike(data, self._out_of_distribution(data))
            return hold_out(data, share=self.held_out, seed=seed)
        split = self._split(data, seed)
        for count in self.unknown:
            if not 0 < count <= len(split.unknown):
                raise ValueError(
                    f"unknown={self.unknown}: there are {len(split.unknown)} unknown classes"
                )
        return hold_out(split.feature_set, share=self.held_out, seed=seed)

    def evaluate(self, trained: Trained) -> list[Measurement]:
        fitted, names = trained.prepared.seen, trained.prepared.seen.class_names
        tests, splits = self._tests(trained.prepared.whole, trained)
        held_out = [(fitted, ~fitted.train)]
        held, tested = decide(trained, held_out), decide(trained, tests)
        found = self._measured(trained, trained.name, held, tested, splits, chance=True)
        for source, decided in tested.items():
            threshold = fit_threshold(held[source].decisions.scores, tpr=TPR)
            shown = decided.of(next(iter(splits.values()))[0][decided.rows])
            _draw(trained, source, shown, threshold, names, only=len(tested) == 1)
        if self.relevance:
            relevance_figure(trained, tests[0], names, self.relevance)
        training: list[Part] = [(fitted, fitted.train)]
        reference = decide(trained, training) if self.scores or self.control else {}
        for score in self.scores:
            name = f"{trained.name}, {score}"
            inside, outside = (rescore(score, part, reference) for part in (held, tested))
            found += self._measured(trained, name, inside, outside, splits, chance=False)
        if not self.control:
            return found
        parts = (training, held_out, tests)
        seen = reference, held, tested
        raw = (with_features(*pair) for pair in zip(parts, seen, strict=True))
        rows = {"linear": raw}
        if int(trained.state.step):
            drawn = trained._replace(state=trained.fitting.initial())
            rows["untrained"] = (decide(drawn, part) for part in parts)
        for name, (first, *others) in rows.items():
            kept_back, decided = decide_linearly(
                first, tuple(others), classes=len(names), seed=trained.seed
            )
            found += self._measured(trained, name, kept_back, decided, splits, chance=False)
        return found

    def _measured(
        self,
        trained: Trained,
        name: str,
        held: dict[str, Decided],
        tested: dict[str, Decided],
        splits: Splits,
        *,
        chance: bool,
    ) -> list[Measurement]:
        """Every metric of one row of the table, by source and split of the classes."""
        names, found = trained.prepared.seen.class_names, []
        labels = trained.labels | {"method": name}
        for source, decided in tested.items():
            threshold = fit_threshold(held[source].decisions.scores, tpr=TPR)
            for title, (counted, unknown) in splits.items():
                part = decided.of(counted[decided.rows])
                for row in measure(
                    part.decisions,
                    threshold=threshold,
                    class_names=names,
                    unknown=unknown,
                    gates=part.gates,
                ):
                    row = row if chance else row | {"chance": None}
                    where = {"experiment": "mmosr", "split": title, "source": source}
                    found += measured(row, **where, **labels)
        return found

    def _split(self, data: FeatureSet, seed: int) -> OpenSetSplit:
        known = self.classes or self.known or data.num_classes // 2
        return osr_split(data, known=known, seed=seed)

    def _out_of_distribution(self, data: FeatureSet) -> FeatureSet:
        """The other set, seen through the modalities of the data where it has more."""
        name = self.out_of_distribution
        if name not in DATA_SETS:
            raise ValueError(f"out_of_distribution={name!r} is none of {', '.join(DATA_SETS)}")
        others = DATA_SETS[name].load(self.out_of_distribution_path)
        if {*data.modalities} < {*others.modalities}:
            return choose_modalities(others, data.modalities)
        return others

    def _tests(self, data: FeatureSet, trained: Trained) -> tuple[list[Part], Splits]:
        """What is tested; by title which of all these examples count, and of how many unknown
        classes they are (0: of no such classes)."""
        if self.out_of_distribution:
            others = few(self._out_of_distribution(data), trained.examples)
            others = dataclasses.replace(
                others, label=np.full_like(others.label, -1), class_names=data.class_names
            )
            parts = [(data, ~data.train), (others, ~others.train)]
            count = sum(int(rows.sum()) for _, rows in parts)
            splits: Splits = {f"{data.name} against {others.name}": (np.ones(count, bool), 0)}
            return self._and_generated(parts, splits, data.name, trained.seed)
        split = self._split(data, trained.seed)
        test = ~split.feature_set.train
        original = data.label[split.rows[test]]
        order = np.random.default_rng(trained.seed).permutation(split.unknown)
        splits = {}
        for count in (len(order), *self.unknown):
            title = f"{len(split.known)} known of {len(split.known) + count}"
            splits[title] = np.isin(original, [*split.known, *order[:count]]), count
        title = f"{len(split.known)} known"
        return self._and_generated([(split.feature_set, test)], splits, title, trained.seed)

    def _and_generated(
        self, parts: list[Part], splits: Splits, title: str, seed: int
    ) -> tuple[list[Part], Splits]:
        """The same with sets made of the known test examples, as further parts and splits."""
        data, test = parts[0]
        known = np.concatenate([d.label[rows] >= 0 for d, rows in parts])
        for name in self.generated:
            made = generate(name, data, test & (data.label >= 0), seed)
            count = len(made.label)
            splits = {t: (np.pad(mask, (0, count)), n) for t, (mask, n) in splits.items()}
            splits[f"{title} against {name}"] = np.append(known, np.ones(count, bool)), 0
            known = np.pad(known, (0, count))
            parts = [*parts, (made, np.ones(count, bool))]
        return parts, splits


def _draw(trained, source, decided: Decided, threshold, names, *, only: bool) -> None:
    """All pictures of one source; where there are several its name is in that of the file."""
    scores, predicted, label = decided.decisions
    file = lambda name: trained.figures / f"{name if only else file_name(f'{name}_{source}')}.png"
    title = f"{figure_text(trained.data.name)}, {trained.name}, {source}"
    curves = {"threshold": threshold, "title": title}
    figures.open_set_curves(file("curves"), scores, label, predicted, **curves)
    figures.score_histograms(file("scores"), scores, label, predicted, **curves)
    figures.confusion(
        file("confusion"), label, rejecting(decided.decisions, threshold), names, title=title
    )
    figures.feature_map(file("features"), decided.features, label, names, title=title)
    if decided.gates is not None:
        figures.expert_load(file("experts"), decided.gates, label, names, title=title)


def _check_alike(data: FeatureSet, other: FeatureSet) -> None:
    shapes, others = ({m: x.shape[1:] for m, x in s.features.items()} for s in (data, other))
    if shapes != others:
        raise ValueError(f"out-of-distribution data have {others}, not {shapes}")
