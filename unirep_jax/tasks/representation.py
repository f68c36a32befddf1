"""What tasks share that evaluate a representation: baselines beside every method, one embedding."""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.embedding import Representation, represent
from unirep_jax.evaluation.measurements import Measurement, measured
from unirep_jax.methods.baselines import CCA, RawFeatures
from unirep_jax.methods.method import (
    Method,
    Pretrain,
    RepresentationMethod,
    SolvedMethod,
    TrainedMethod,
)
from unirep_jax.methods.unified import CodebookMethod
from unirep_jax.model import Model
from unirep_jax.tasks.task import Prepared, Task, Trained, Way, encode, ways
from unirep_jax.train.step import TrainState

UNTRAINED_STEPS = 100  # updates of the untrained network's codebook
Row = dict[str, Any]  # the fields of a Measurement that a task knows


class Subject(NamedTuple):
    """What is evaluated: a method's representation of a data set."""

    name: str
    method: Method
    representation: Representation
    data: FeatureSet
    seed: int


class RepresentationTask(Task):
    """A task that any method can do which embeds the modalities.

    control: also evaluate the same network untrained and the baselines in closed form.
    """

    requires: ClassVar[type] = RepresentationMethod
    compares_modalities: ClassVar[bool] = True
    control: bool

    def refusal(self, method: Method, name: str) -> str:
        """Also of a method whose modalities have no space in common, where this one needs it."""
        reason = super().refusal(method, name)
        if reason or not self.compares_modalities:
            return reason
        if not has_common_space(method):
            return f"compares modalities in one space; {name} gives each a space of its own"
        return ""

    def baseline_refusal(self, method: Method, name: str) -> str:
        """Why a baseline is not measured; "" if it is."""
        return self.refusal(method, name)

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        """What training may see of the data: all of them. Raises: as `prepare`."""
        return data

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        shown = self.shown(data, seed)
        encoded = encode(method, shown, pretrain, seed)
        return Prepared(data, encoded.data, encoded.data, ways(encoded), shown=shown)

    @abc.abstractmethod
    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        """Name of the task and fields of each measurement; `chance` is what guessing gives."""

    def draw(self, trained: Trained, subject: Subject) -> None:
        """The pictures of the trained method."""

    def evaluate(self, trained: Trained) -> list[Measurement]:
        subject = self.subject(trained, trained.model)
        if trained.draws:
            self.draw(trained, subject)
        measure = lambda: self.measurements(subject, chance=True)
        return trained.once(trained.name, measure) + self.controls(trained, trained.data)

    def controls(self, trained: Trained, data: FeatureSet, place: str = "") -> list[Measurement]:
        """Baselines of the training data on a data set; `place`: after their names where kept."""
        measurements = []
        for baseline in baselines(trained) if self.control else ():
            if not self.baseline_refusal(baseline.method, baseline.name):
                control = lambda make=baseline.make: self.measurements(
                    self.subject(trained, make(), data), chance=False
                )
                measurements += trained.once(baseline.name + place, control)
        return measurements

    def subject(self, trained: Trained, model: Model, data: FeatureSet | None = None) -> Subject:
        """The data, by default those of the run, as this model sees them."""
        data = trained.data if data is None else data
        chosen = [m for m in data.modalities if m in model.ways]
        data = dataclasses.replace(
            data,
            features={m: data.features[m] for m in chosen},
            present={m: data.present[m] for m in chosen},
        )
        return Subject(model.name, model.method, represent(model, data), data, trained.seed)

    def measurements(self, subject: Subject, *, chance: bool) -> Iterator[Measurement]:
        """Of one subject and, where asked, of guessing."""
        for experiment, row in self.measure(subject):
            row = row if chance else row | {"chance": None}
            yield from measured(
                row,
                experiment=experiment,
                method=subject.name,
                dataset=subject.data.name,
                seed=subject.seed,
            )


def has_common_space(method: Method) -> bool:
    """Whether vectors of different modalities can be compared."""
    assert isinstance(method, RepresentationMethod)
    return method.common_space


class Baseline(NamedTuple):
    """What a method has to beat; `make` solves or draws it."""

    name: str
    method: Method
    make: Callable[[], Model]


def baselines(trained: Trained) -> Iterator[Baseline]:
    """The network untrained, linear CCA, raw features; without the method itself.

    Of training that started from a run, that run, `start`, is in place of the untrained network.
    """
    shown = trained.prepared.shown
    assert shown is not None, "a task of representations says what training may see"
    if isinstance(trained.method, TrainedMethod) and int(trained.state.step):
        name = "untrained" if trained.fitting.start is None else "start"
        yield Baseline(name, trained.method, partial(_untrained_model, trained, name))
    for name, method in (("cca", CCA()), ("raw", RawFeatures())):
        if name != trained.name:
            yield Baseline(name, method, partial(solved, name, method, shown))


def solved(name: str, method: SolvedMethod, shown: FeatureSet) -> Model:
    """A method without training steps, solved on the training examples of what it is shown."""
    shapes = {m: tuple(x.shape[1:]) for m, x in shown.features.items()}
    through = {m: (Way(None, m),) for m in shown.modalities}
    params, state = method.solve(shown)
    return Model(name, method, params, state, shapes, shapes, through, shown.class_names)


def _untrained_model(trained: Trained, name: str) -> Model:
    state = untrained(trained)
    return dataclasses.replace(trained.model, name=name, params=state.params, state=state.state)


def untrained(trained: Trained) -> TrainState:
    """Random encoders and, of a method with a codebook, one fitted to what they put out.

    The training step itself moves the codebook; the parameters are put back after every call.
    """
    state, engine = trained.fitting.initial(), trained.fitting.engine
    if not isinstance(trained.method, CodebookMethod) or trained.fitting.start is not None:
        return state
    steps = min(UNTRAINED_STEPS, int(trained.state.step))
    for batch in trained.fitting.batches(0, steps):
        placed, _ = engine.step(engine.place_state(state), engine.place_batch(batch))
        moved = jax.tree.map(np.asarray, engine.fetch_state(placed))
        state = state._replace(step=moved.step, state=moved.state)
    return state
