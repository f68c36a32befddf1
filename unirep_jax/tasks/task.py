"""What a task is: what it asks of a method and of data, what training sees, what is measured.

A task's split, measures, tables, pictures and words for them live in its folder; it is listed in
`unirep_jax.tasks` by name. Methods and tasks know one another by `methods.method` alone.
"""

import abc
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.kept import KeptMeasurements
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.methods.method import (
    Batches,
    ClassifyingMethod,
    Encoded,
    EncodedMethod,
    Method,
    Pretrain,
    RepresentationMethod,
)
from unirep_jax.model import Model, Way
from unirep_jax.train.fit import Fitting
from unirep_jax.train.step import TrainState

ABILITIES: dict[type, str] = {
    RepresentationMethod: "embeds every modality",
    ClassifyingMethod: "predicts labels",
}
"""What methods of a class do, in the words of the line that refuses one of another class."""


class Topic(NamedTuple):
    """A section of a report: quantities that a run logs and pictures that it draws.

    logged: names without what follows the slash, the decisive one first. figures: what the names of
    files begin with.
    """

    title: str
    about: str
    logged: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


class Vocabulary(NamedTuple):
    """How a task's measurements and pictures are called in reports.

    title: of the task. metrics: (title, scale) by name, scale 100 for percent and 1 for ranks.
    splits, selections: in words. topics, captions: of pictures, by what their names begin with.
    experiments: what a part is called of a task that measures several things. headline: by what
    measurements call their experiment, the metrics that a run prints; the first one measured is
    decisive: a share within 0 … 1 of which more is better (`tasks.bar`).
    """

    title: str
    metrics: Mapping[str, tuple[str, int]] = {}
    splits: Mapping[str, str] = {}
    selections: Mapping[str, str] = {}
    topics: tuple[Topic, ...] = ()
    captions: Mapping[str, str] = {}
    experiments: Mapping[str, str] = {}
    headline: Mapping[str, tuple[str, ...]] = {}


class Prepared(NamedTuple):
    """The data of one run.

    raw: as loaded. whole: as the method reads them, embeddings where frozen encoders come first;
    seen: the same as training sees them. ways: by raw modality into the method. labelled: whether
    batches carry labels.
    shown: what training may see, before any encoder; None where no baseline is fitted to it.
    """

    raw: FeatureSet
    whole: FeatureSet
    seen: FeatureSet
    ways: Mapping[str, tuple[Way, ...]]
    labelled: bool = False
    shown: FeatureSet | None = None


class Trained(NamedTuple):
    """A trained method with all that made it.

    name: of the method, in measurements; state: of training; fitting: of the method, whose engine
    and batches can train again; pretrain: trains a frozen encoder; workdir: folder of the run;
    kept: measurements of an evaluation that was ended before; examples: of each class and part of
    further data that are evaluated, 0 for all; draws: whether representations are pictured.
    """

    prepared: Prepared
    name: str
    seed: int
    state: TrainState
    fitting: Fitting
    pretrain: Pretrain
    workdir: Path
    kept: KeptMeasurements | None = None
    examples: int = 0
    draws: bool = True

    def once(self, part: str, measure: Callable[[], Iterable[Measurement]]) -> list[Measurement]:
        """`measure()`, or what it gave in an evaluation of this run that was ended since."""
        return list(measure()) if self.kept is None else self.kept.once(part, measure)

    @property
    def method(self) -> Method:
        return self.fitting.method

    @property
    def data(self) -> FeatureSet:
        """All examples, raw."""
        return self.prepared.raw

    @property
    def model(self) -> Model:
        """What a run leaves for use."""
        shapes = lambda data: {m: tuple(x.shape[1:]) for m, x in data.features.items()}
        prepared = self.prepared
        raw = {m: shape for m, shape in shapes(prepared.raw).items() if m in prepared.ways}
        return Model(
            self.name,
            self.method,
            self.state.params,
            self.state.state,
            raw,
            shapes(prepared.seen),
            prepared.ways,
            prepared.seen.class_names,
        )

    @property
    def figures(self) -> Path:
        """The folder for pictures."""
        return self.workdir / "figures"

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of its measurements that the task need not know."""
        return {"method": self.name, "dataset": self.data.name, "seed": self.seed}


class Task(abc.ABC):
    """How a task prepares data and evaluates; its fields are `config.task`.

    requires: the class of method that it can evaluate; offers: the batches that it can train on;
    evaluation_settings: fields that training does not depend on, a change of which evaluates again.
    """

    requires: ClassVar[type]  # of methods
    offers: ClassVar[tuple[Batches, ...]] = (Batches.PAIRED,)
    vocabulary: ClassVar[Vocabulary]
    evaluation_settings: ClassVar[tuple[str, ...]] = ()

    def refusal(self, method: Method, name: str) -> str:
        """Why the method cannot be evaluated here, in one line; "" if it can."""
        if not isinstance(method, self.requires):
            needed = ABILITIES.get(self.requires, f"is a {self.requires.__name__}")
            does = [text for kind, text in ABILITIES.items() if isinstance(method, kind)]
            return f"needs a method that {needed}; {name} {' and '.join(does) or 'does not'}"
        if method.batches not in self.offers:
            offered = " or ".join(batches.value for batches in self.offers)
            return f"trains on {offered}; {name} learns from {method.batches.value}"
        return ""

    @abc.abstractmethod
    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        """What training and evaluation see of the data, made once.

        Raises:
          ValueError: the settings do not fit the data, or the data lack what the task needs.
        """

    def pools(self, seen: FeatureSet, batch_size: int, seed: int) -> Any:
        """A `Pool`, or a tree of them, of whose form batches are; None to stream batches."""
        return None

    @abc.abstractmethod
    def evaluate(self, trained: Trained) -> list[Measurement]:
        """Every measurement, baselines and chance included; draws the figures."""

    def rehearsal(self) -> Self:
        """The task with the settings at their least that only take time, as it is rehearsed.

        What is measured, drawn and written stays. Data that the task reads beside those it was
        prepared for are cut to `Trained.examples`.
        """
        return self

    @staticmethod
    @abc.abstractmethod
    def tables(measurements: Sequence[Measurement]) -> str:
        """All measurements of one or several runs as Markdown."""


def check_modality(setting: str, modality: str, data: FeatureSet) -> None:
    """Refuses a modality that the data do not have.

    Raises:
      ValueError: naming the flag that sets it and the modality that is most like it.
    """
    if modality not in data.modalities:
        near = difflib.get_close_matches(modality, data.modalities, n=1, cutoff=0.0)
        raise ValueError(
            f"{setting}: modality {modality!r} is none of {', '.join(data.modalities)}: give "
            f"--config.{setting}={(near or data.modalities)[0]}, for instance"
        )


def check_labels(data: FeatureSet) -> None:
    """Refuses data whose labels teach nothing, or test nothing.

    Raises:
      ValueError: saying which part has no labels; or that there is a single class.
    """
    for part, rows in (("training", data.train), ("test", ~data.train)):
        labelled = rows & (data.label >= 0)
        if not any((labelled & data.present[m]).any() for m in data.modalities):
            raise ValueError(f"{data.name}: no {part} example has a label and a modality")
    if len(np.unique(data.label[data.train & (data.label >= 0)])) < 2:
        raise ValueError(f"{data.name}: all labelled training examples are of one class")


def encode(method: Method, data: FeatureSet, pretrain: Pretrain, seed: int) -> Encoded:
    """The data as the method reads them: embeddings of frozen encoders, or as they are."""
    if isinstance(method, EncodedMethod):
        return method.encoded(data, pretrain, seed)
    return Encoded(data, {m: ((None, m),) for m in data.modalities})


def ways(encoded: Encoded) -> dict[str, tuple[Way, ...]]:
    """The ways of raw features into the method."""
    return {m: tuple(Way(*way) for way in through) for m, through in encoded.routes.items()}
