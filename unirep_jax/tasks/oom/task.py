"""Out-of-modal generalisation: a modality that was never aligned learns from those that were."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

import jax
import numpy as np

from unirep_jax import losses
from unirep_jax.data import FeatureSet
from unirep_jax.data.resident import Pool
from unirep_jax.evaluation.embedding import map_examples
from unirep_jax.evaluation.embedding_figures import embedding_map
from unirep_jax.evaluation.linear_classifier import LinearClassifier, concatenated
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.methods.method import Batches, Method, Pretrain
from unirep_jax.methods.out_of_modal_learner import OutOfModalLearner
from unirep_jax.tasks.oom import measures
from unirep_jax.tasks.oom.figures import agreement_bars, connection_curves
from unirep_jax.tasks.oom.measures import Readout
from unirep_jax.tasks.oom.split import OutOfModalSplit, out_of_modal_split, unpaired
from unirep_jax.tasks.oom.tables import (
    AGREEMENT,
    CLASSIFICATION,
    MOMENTS,
    SEARCH,
    SETTINGS,
    out_of_modal_tables,
)
from unirep_jax.tasks.task import (
    Prepared,
    Task,
    Topic,
    Trained,
    Vocabulary,
    Way,
    check_labels,
    check_modality,
)
from unirep_jax.train.fit import retrace
from unirep_jax.train.step import TrainState

CURVE_POINTS = 6  # of Figure 5
DISCREPANCY_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class OutOfModal(Task):
    """COX's problem: embeddings of all modalities but one, which is raw and learned from scratch.

    The in-modal modalities become embeddings of a frozen encoder pretrained on their pairs in the
    training part; it never sees the out-of-modal one. One in-modal modality alone has nothing to be
    contrasted with and keeps its own features, flattened; methods standardise them on the training
    part, as they do embeddings.

    "semi": `labelled` of the training examples are pairs with labels, as many of each class. All
    others give their out-of-modal modality without label, and their embeddings with label, with no
    trace of which belong together. "unsupervised": no pair at all.

    modality: the out-of-modal one.
    validation: share of the labelled pairs that no gradient sees, for methods that ask them.
    in_modal_fraction: share of the unpaired in-modal examples that there are (Figure 8), for the
      frozen encoder and for training.
    given: the in-modal features are embeddings of your own encoders, and none is pretrained.
      Where the data have a modality <modality>_aligned, embeddings of the out-of-modal one in the
      same space, their zero-shot accuracy is the upper bound "aligned".
    reveal: unlabelled examples keep their labels, for an oracle; then nothing is shuffled apart.
    control: also evaluate a logistic regression on the out-of-modal features of the labelled pairs,
      and one on what the untrained network makes of them; unsupervised, the features themselves.
    retrace: train once more with the same batches for Figures 5 and 6, if the method has in-modal
      heads.
    """

    modality: str = ""
    setting: str = "semi"
    labelled: float = 0.1
    validation: float = 0.0
    in_modal_fraction: float = 1.0
    given: bool = False
    control: bool = True
    retrace: bool = True
    reveal: bool = False

    requires: ClassVar[type] = OutOfModalLearner
    offers: ClassVar[tuple[Batches, ...]] = (Batches.POOLED,)
    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "out-of-modal generalisation",
        metrics={
            name: (title, 100)
            for name, title in (
                *CLASSIFICATION,
                *SEARCH,
                *AGREEMENT,
                ("class_recall_at_1", "class R@1"),
                ("in_modal_accuracy", "accuracy of the head"),
            )
        },
        splits=SETTINGS,
        selections={name: f"Measured {text}." for name, text in MOMENTS.items()},
        headline={
            "oom": (
                "accuracy",
                "cluster_accuracy",
                "probe_accuracy",
                "macro_accuracy",
                "instance_recall_at_1",
            )
        },
        topics=(
            Topic(
                "Connection",
                "mmd: squared discrepancy of mapped and out-of-modal features. agreement: of the "
                "in-modal heads. advantage: of a head over the learner on held-out labels.",
                ("mmd", "connection", "agreement", "advantage"),
                ("connection", "agreement"),
            ),
        ),
        captions={
            "connection": "Discrepancy and accuracy of the in-modal heads while training",
            "agreement": "Accuracy where in-modal heads agree and where they do not",
        },
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = ("retrace", "control")
    tables = staticmethod(out_of_modal_tables)

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise ValueError(f"setting={self.setting!r} is none of {', '.join(SETTINGS)}")
        if self.setting == "semi" and not 0 < self.labelled <= 1:
            raise ValueError(f"labelled={self.labelled} is not above 0 and at most 1")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation={self.validation} is not between 0 and below 1")

    # -- data --------------------------------------------------------------------------------

    def in_modal(self, data: FeatureSet) -> tuple[str, ...]:
        """All modalities but the out-of-modal one and its aligned embeddings."""
        outside = (self.modality, self._aligned)
        return tuple(m for m in data.modalities if m not in outside)

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        """The out-of-modal modality first and as it is, the others as embeddings."""
        check_modality("task.modality", self.modality, data)
        split, names = self._split(data, seed), self.in_modal(data)
        self._check(data)
        if self.given or len(names) == 1:
            ways = {m: (Way(None, m),) for m in names if data.features[m].ndim == 2}
            features = {m: np.reshape(data.features[m], (len(data.label), -1)) for m in names}
        else:
            complete = np.all([data.present[m] for m in names], axis=0)
            seen = np.isin(np.arange(len(complete)), [*split.labelled, *split.in_modal])
            encoder = pretrain(data, names, seen & complete, seed=seed)
            ways = {m: (Way(encoder, m),) for m in names}
            features = {
                m: encoder.represent(m, data.features[m], present=data.present[m]).vector
                for m in names
            }
        ways = {self.modality: (Way(None, self.modality),)} | ways
        features = {self.modality: data.features[self.modality], **features}
        if self.given and self._aligned in data.modalities:
            features[self._aligned] = data.features[self._aligned]
        present = {m: data.present[m] for m in features}
        whole = dataclasses.replace(data, features=features, present=present)
        return Prepared(data, whole, self._seen(whole, split, seed), ways)

    def _check(self, data: FeatureSet) -> None:
        """Refuses data on which nothing can be measured."""
        check_labels(data)
        if not (~data.train & data.present[self.modality] & (data.label >= 0)).any():
            raise ValueError(f"{data.name}: no test example has a label and {self.modality!r}")

    def _seen(self, whole: FeatureSet, split: OutOfModalSplit, seed: int) -> FeatureSet:
        """Without what is aligned, and without a trace of what belongs together."""
        names = (self.modality, *self.in_modal(whole))
        seen = dataclasses.replace(
            whole,
            features={m: whole.features[m] for m in names},
            present={m: whole.present[m] for m in names},
        )
        if self.reveal:
            return seen
        return unpaired(seen, self.modality, split.unlabelled, seed)

    def pools(self, seen: FeatureSet, batch_size: int, seed: int) -> dict[str, Pool]:
        """`batch_size` examples of each kind; a kind that is empty has no pool."""
        split, names = self._split(seen, seed), self.in_modal(seen)
        everything = (self.modality, *names)
        pools = {
            "labelled": Pool(split.labelled, batch_size, everything, labelled=True),
            "unlabelled": Pool(
                split.unlabelled, batch_size, (self.modality,), labelled=self.reveal, numbered=True
            ),
            "in_modal": Pool(split.in_modal, batch_size, names, labelled=True),
            "validation": Pool(split.validation, batch_size, everything, labelled=True),
        }
        return {name: pool for name, pool in pools.items() if len(pool.rows)}

    @property
    def _aligned(self) -> str:
        return f"{self.modality}_aligned"

    def _split(self, data: FeatureSet, seed: int) -> OutOfModalSplit:
        return out_of_modal_split(
            data,
            modality=self.modality,
            in_modal=self.in_modal_fraction,
            validation=self.validation,
            seed=seed,
            labelled=self.labelled if self.setting == "semi" else 0,
        )

    # -- evaluation --------------------------------------------------------------------------

    def evaluate(self, trained: Trained) -> list[Measurement]:
        data = trained.prepared.whole
        test = ~data.train & data.present[self.modality] & (data.label >= 0)
        read = self._reader(trained)
        readout = read(trained.state, np.flatnonzero(test))
        found = [*measures.classification(readout)]
        if self.setting == "unsupervised":
            train = np.flatnonzero(data.train & data.present[self.modality])
            training = read(trained.state, train)
            found += measures.label_free(training, readout, seed=trained.seed)
        if readout.mapped:
            found += self._connected(trained, read, readout, np.flatnonzero(test))
        measurements = [*self._measurements(trained, trained.name, found)]
        known = ("before", "after, same sets")  # chance is the same at any time
        chance = [row | {"value": row["chance"]} for row in found if row["selection"] not in known]
        measurements += self._measurements(trained, "chance", chance)
        if self._aligned in data.modalities:
            measurements += self._measurements(trained, "aligned", self._zero_shot(data, test))
        for name, rows in self._controls(trained, read, test) if self.control else ():
            measurements += self._measurements(trained, name, rows)
        return measurements

    def _controls(
        self, trained: Trained, read: Callable, test: np.ndarray
    ) -> Iterator[tuple[str, list[dict]]]:
        """What costs nothing: raw features and the untrained network, read linearly."""
        data, names = trained.prepared.whole, (self.modality,)
        inputs = {"linear": lambda rows: concatenated(data, rows, names)}
        if int(trained.state.step):
            drawn = trained.fitting.initial()
            inputs["untrained"] = lambda rows: read(drawn, rows).features
        split = self._split(trained.data, trained.seed)
        tested, label = np.flatnonzero(test), data.label
        for name, features in inputs.items():
            if self.setting == "semi":
                classifier = LinearClassifier(
                    features(split.labelled), label[split.labelled], trained.seed
                )
                logits = classifier.logits(features(tested), data.num_classes)
                readout = Readout(features(tested), logits, label[tested], {}, None)
                yield name, [*measures.classification(readout)]
            else:
                train = np.flatnonzero(data.train & data.present[self.modality])
                sides = [
                    Readout(
                        features(rows),
                        np.zeros((len(rows), data.num_classes)),
                        label[rows],
                        {},
                        None,
                    )
                    for rows in (train, tested)
                ]
                yield name, [*measures.label_free(*sides, seed=trained.seed)]

    def _reader(self, trained: Trained) -> Callable[[TrainState, np.ndarray], Readout]:
        """What the network in a given state says of given examples: compiled once for all."""

        method, data = trained.method, trained.prepared.whole
        assert isinstance(method, OutOfModalLearner)

        def compute(variables, batch):
            return method.classify(*variables, batch["features"], batch["present"])

        def read(state, rows):
            variables = (state.params, state.state)
            decision = map_examples(compute, variables, data, rows=rows)[self.modality]
            votes = None if decision.votes is None else np.swapaxes(decision.votes, 0, 1)
            mapped = decision.mapped or {}
            return Readout(decision.features, decision.logits, data.label[rows], mapped, votes)

        return read

    def _connected(self, trained: Trained, read, readout: Readout, rows) -> list[dict]:
        """Search among the mapped in-modal examples; agreement, and how it came about."""
        data, method = trained.prepared.whole, trained.method
        assert isinstance(method, OutOfModalLearner)
        complete = np.all([data.present[m][rows] for m in readout.mapped], axis=0)
        found = []
        if complete.any():
            pick = lambda x: x[complete]
            both = readout._replace(
                features=pick(readout.features),
                label=pick(readout.label),
                mapped=jax.tree.map(pick, readout.mapped),
            )
            found += measures.search(both)
        after = [*measures.agreement(readout, "after")]
        everything = read(trained.state, np.arange(len(data.label)))
        embeddings = {self.modality: everything.features, **everything.mapped}
        embedding_map(trained.figures / "features.png", embeddings, data)
        before, same = [], []
        if self.retrace:
            last = int(trained.state.step)
            explored = min(method.explores_from(), last)
            points = {explored, *np.linspace(last / CURVE_POINTS, last, CURVE_POINTS).astype(int)}
            curves = {}
            for step, state in retrace(trained.fitting, sorted(points)):
                then = read(state, rows)
                curves[step] = self._connection(then, data.present, rows)
                if not before and step >= explored:
                    before = [*measures.agreement(then, "before")]
                    same = [*measures.agreement_of(then, readout)]
            connection_curves(trained.figures / "connection.png", curves, self.modality)
            bars = {"before exploration": before, "after": after, "after, sets of before": same}
            agreement_bars(trained.figures / "agreement.png", bars)
        return found + before + same + after

    def _connection(self, readout: Readout, present, rows) -> dict[str, tuple[float, float]]:
        """By in-modal modality: MMD² of its mapping and the features, accuracy of its head."""
        curve = {}
        for (m, mapped), votes in zip(readout.mapped.items(), readout.votes, strict=True):
            there = present[m][rows].nonzero()[0][:DISCREPANCY_EXAMPLES]
            discrepancy = losses.maximum_mean_discrepancy(
                readout.features[:DISCREPANCY_EXAMPLES], mapped[there]
            )
            curve[m] = float(discrepancy), float(np.mean(votes.argmax(1) == readout.label))
        return curve

    def _zero_shot(self, data: FeatureSet, test) -> list[dict]:
        names = self.in_modal(data)
        known = data.train & (data.label >= 0) & np.all([data.present[m] for m in names], axis=0)
        test = test & data.present[self._aligned]
        return list(
            measures.zero_shot(
                data.features[self._aligned][test],
                {m: data.features[m][known] for m in names},
                data.label[known],
                data.label[test],
            )
        )

    def _measurements(self, trained: Trained, method: str, rows):
        for row in rows:
            fields = {k: v for k, v in row.items() if k != "chance"}
            yield Measurement(
                experiment="oom",
                split=self.setting,
                source=self.modality,
                **trained.labels | {"method": method},
                **fields,
            )
