"""What a protocol is, and what it is given to judge."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.train.parallel import Engine
from unirep_jax.train.step import TrainState


class Trained(NamedTuple):
    """A trained network with all that made it.

    data: the whole feature set, as loaded; name: of the method, in measurements;
    initial: makes the state before training again; batches: (start, steps) -> training batches;
    figures: folder for pictures.
    """

    data: FeatureSet
    method: object
    name: str
    seed: int
    state: TrainState
    initial: Callable[[], TrainState]
    batches: Callable[[int, int], Iterator[dict]]
    engine: Engine
    figures: Path

    @property
    def labels(self) -> dict[str, object]:
        """The fields of its measurements that the protocol need not know."""
        return {"method": self.name, "dataset": self.data.name, "seed": self.seed}


class JudgingProtocol(Protocol):
    """How an experiment trains and judges. Its fields are `config.protocol`."""

    supervised: bool  # whether training batches carry labels

    def training_set(self, data: FeatureSet, seed: int) -> FeatureSet:
        """What training may see of the data; ValueError where the settings do not fit them."""

    def judge(self, trained: Trained) -> list[Measurement]:
        """Every measurement, baselines and chance included; draws the figures."""

    @staticmethod
    def tables(measurements: list[Measurement]) -> str:
        """All measurements of one or several runs as Markdown."""
