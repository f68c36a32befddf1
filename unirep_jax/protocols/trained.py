"""What a protocol is, and what it is given to judge."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.kept import KeptMeasurements
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.train.fit import Fitting
from unirep_jax.train.step import TrainState


class Trained(NamedTuple):
    """A trained network with all that made it.

    data: the whole feature set, as loaded or perceived; name: of the method, in measurements;
    fitting: of the method, whose engine and batches can train again; workdir: folder of the run;
    kept: measurements of an evaluation that was ended before.
    """

    data: FeatureSet
    name: str
    seed: int
    state: TrainState
    fitting: Fitting
    workdir: Path
    kept: KeptMeasurements | None = None

    def once(self, part: str, measure: Callable[[], Iterable[Measurement]]) -> list[Measurement]:
        """`measure()`, or what it gave in an evaluation of this run that was ended since."""
        return list(measure()) if self.kept is None else self.kept.once(part, measure)

    @property
    def method(self):
        return self.fitting.method

    @property
    def figures(self) -> Path:
        """The folder for pictures."""
        return self.workdir / "figures"

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of its measurements that the protocol need not know."""
        return {"method": self.name, "dataset": self.data.name, "seed": self.seed}


class JudgingProtocol(Protocol):
    """How an experiment trains and judges. Its fields are `config.protocol`.

    A configuration with `perceptors` has a protocol that also offers

        perceived(data, perceive, seed) -> FeatureSet

    which replaces raw features by embeddings; `perceive(data, modalities, rows, seed=...)` trains
    towers on the examples `rows` and embeds all of them (`unirep_jax.perceptors`).
    """

    supervised: bool  # whether training batches carry labels
    resident: bool  # whether the data are kept on the devices, and drawn from `pools`
    # Optional: fields that training does not depend on; a change of them evaluates again.
    # evaluation_settings: tuple[str, ...]

    def training_set(self, data: FeatureSet, seed: int) -> FeatureSet:
        """What training may see of the data; ValueError where the settings do not fit them."""

    def pools(self, training_set: FeatureSet, batch_size: int, seed: int):
        """A `Pool`, or a tree of them, of whose form batches are. Of resident data only."""

    def judge(self, trained: Trained) -> list[Measurement]:
        """Every measurement, baselines and chance included; draws the figures."""

    @staticmethod
    def tables(measurements: list[Measurement]) -> str:
        """All measurements of one or several runs as Markdown."""
