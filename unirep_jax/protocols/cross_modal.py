"""Open-set and closed-set cross-modal generalisation of a unified codebook."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import jax
import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation import cross_modal
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.probe import Probe, embed_data
from unirep_jax.protocols.trained import Trained
from unirep_jax.report.figures import codebook_usage
from unirep_jax.report.tables import cross_modal_tables
from unirep_jax.train.step import TrainState

CONTROL_STEPS = 100  # updates of the untrained network's codebook


@dataclasses.dataclass(frozen=True)
class ClosedSet:
    """CMG: a probe trained on one modality, tested on another, all classes known.

    control: also judge the same network without pre-training; probe: settings of `Probe`;
    known, selections, folds: for the open set alone.
    """

    known: tuple[int, ...] = (0, 0)
    selections: tuple[str, ...] = ("honest", "paper")
    folds: int = 3
    control: bool = True
    probe: dict = dataclasses.field(default_factory=dict)

    supervised: ClassVar[bool] = False
    resident: ClassVar[bool] = False
    evaluation_settings: ClassVar[tuple[str, ...]] = (
        "known",
        "selections",
        "folds",
        "control",
        "probe",
    )
    open_set: ClassVar[bool] = False
    tables = staticmethod(cross_modal_tables)

    def training_set(self, data: FeatureSet, seed: int) -> FeatureSet:
        self._known(data.num_classes)
        return data

    def judge(self, trained: Trained) -> list[Measurement]:
        state = trained.state
        representation = embed_data(trained.method, state.params, state.state, trained.data)
        codebook_usage(trained.figures / "codebook_usage.png", representation, trained.data)
        measurements = trained.once(trained.name, lambda: self._judge(trained, state, trained.name))
        if self.control:
            measurements += trained.once(
                "untrained", lambda: self._judge(trained, _untrained(trained), "untrained")
            )
        return measurements + list(self._chance(measurements, trained))

    def _judge(self, trained: Trained, state: TrainState, name: str) -> list[Measurement]:
        """Every measurement of one trained (or untrained) network."""
        data, seed = trained.data, trained.seed
        representation = embed_data(trained.method, state.params, state.state, data)
        probe, labels = Probe(**self.probe), trained.labels | {"method": name}
        rows = cross_modal.closed_set(representation, data, probe=probe, seed=seed)
        measurements = [Measurement(experiment="cmg", **labels, **row) for row in rows]
        if self.open_set:
            rows = cross_modal.open_set(
                representation, data, known=self._known(data.num_classes),
                selections=self.selections, folds=self.folds, probe=probe, seed=seed,
            )  # fmt: skip
            measurements += [Measurement(experiment="oscmg", **labels, **row) for row in rows]
        return measurements

    def _known(self, classes: int) -> tuple[int, ...]:
        """Known classes per split; zeros stand for a half, then three quarters of the classes."""
        default = (classes // 2, classes * 3 // 4)
        known = tuple(k or default[min(i, 1)] for i, k in enumerate(self.known))
        for count in known:
            if type(count) is not int or not 2 <= count < classes:
                raise ValueError(
                    f"protocol.known={known}: {count!r} known classes of {classes}; "
                    "whole numbers, of which at least 2 are known and 1 is unknown"
                )
        return known

    def _chance(self, measurements: list[Measurement], trained: Trained) -> Iterator[Measurement]:
        """For every measurement of the trained network, what guessing gives."""
        classes, known = trained.data.num_classes, self._known(trained.data.num_classes)
        for m in measurements:
            if m.method == trained.name and m.metric in cross_modal.GUESSABLE:
                split = m.split.removeprefix("split")
                count = classes if m.split == "all" else known[int(split) - 1]
                value = cross_modal.chance(m.metric, count)
                yield dataclasses.replace(m, method="chance", value=value)


@dataclasses.dataclass(frozen=True)
class OpenSet(ClosedSet):
    """OSCMG: the source knows only the first classes; the target has the others, too."""

    open_set: ClassVar[bool] = True


def _untrained(trained: Trained) -> TrainState:
    """The control: random encoders, and a codebook fitted to what they put out.

    The training step itself moves the codebook; the parameters are put back after every call.
    """
    state, engine = trained.fitting.initial(), trained.fitting.engine
    steps = min(CONTROL_STEPS, int(trained.state.step))
    for batch in trained.fitting.batches(0, steps):
        placed, _ = engine.step(engine.place_state(state), engine.place_batch(batch))
        moved = jax.tree.map(np.asarray, engine.fetch_state(placed))
        state = state._replace(step=moved.step, state=moved.state)
    return state
