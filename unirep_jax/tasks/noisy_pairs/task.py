"""When correspondence is wrong: training on spoilt pairs, evaluation on clean ones."""

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.data.correspondence_noise import KINDS, Mispaired, blocks, mispair
from unirep_jax.data.resident import Pool
from unirep_jax.evaluation import retrieval
from unirep_jax.methods.method import Method, Pretrain
from unirep_jax.methods.streams import keep
from unirep_jax.tasks.noisy_pairs.recovery import recovery
from unirep_jax.tasks.noisy_pairs.tables import RECOVERY, noisy_pairs_tables
from unirep_jax.tasks.representation import RepresentationTask, Row, Subject
from unirep_jax.tasks.retrieval.tables import COLUMNS, SCORES
from unirep_jax.tasks.task import Prepared, Topic, Vocabulary


@dataclasses.dataclass(frozen=True)
class NoisyPairs(RepresentationTask):
    """Retrieval after training on pairs of which a share is wrong.

    Also measured: how much of a transport plan between the embeddings of training examples lies on
    true partners, which training was not told.

    noise: "batch", "set", "unpaired" or "missing" (`data.correspondence_noise.mispair`).
    share: of the training examples. block: examples among which "batch" shuffles, and which batches
    keep together where their size is a multiple of it, else in parts.
    held_out: above 0, to choose settings: so many of the training examples are evaluated on instead
    of the test part, and they are as noisy as the others.
    plan_epsilon: ε of the plans by which recovery is measured.
    control: also evaluate the network untrained and linear CCA.
    """

    noise: str = "batch"
    share: float = 0.5
    block: int = 8
    held_out: float = 0.0
    plan_epsilon: float = 0.05
    control: bool = True

    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        "retrieval after training on noisy pairs",
        metrics=COLUMNS | RECOVERY,
        selections={name: f"Search {text}." for name, text in SCORES.items()},
        headline={"noisy_pairs": ("recall_at_1", "recovered")},
        topics=(
            Topic(
                "Transport plan",
                "mass_on_pairs: share of a plan's mass on given pairs, true or not. "
                "plans_unconverged: share of the plans that Sinkhorn left unfinished.",
                ("mass_on_pairs", "plans_unconverged"),
            ),
        ),
    )
    evaluation_settings: ClassVar[tuple[str, ...]] = ("plan_epsilon", "control")
    tables = staticmethod(noisy_pairs_tables)

    def __post_init__(self) -> None:
        if self.noise not in KINDS:
            raise ValueError(f"task.noise={self.noise!r} is none of {', '.join(KINDS)}")
        for name, above in (("share", 1.0), ("held_out", 0.5)):
            if not 0 <= getattr(self, name) <= above:
                raise ValueError(f"task.{name}={getattr(self, name)} is not within 0 … {above}")
        if not self.plan_epsilon > 0:
            raise ValueError(f"task.plan_epsilon={self.plan_epsilon} is not above 0")

    # -- training ----------------------------------------------------------------------------

    def prepare(self, data: FeatureSet, method: Method, pretrain: Pretrain, seed: int) -> Prepared:
        if data.captions:
            raise ValueError(f"{data.name}: noisy_pairs has no place for several captions an item")
        if self.held_out:
            data = self._validation(data, seed)
        return super().prepare(data, method, pretrain, seed)

    def _validation(self, data: FeatureSet, seed: int) -> FeatureSet:
        """The training examples alone; a part of them, which is as noisy, is the test part."""
        data = keep(data, data.train)
        count = len(data.label)
        order = np.random.default_rng([seed, 2]).permutation(count)
        test = order[: round(self.held_out * count)]
        data = dataclasses.replace(data, train=~np.isin(np.arange(count), test))
        return self._mispaired(data, test, seed).data

    def _mispaired(self, data: FeatureSet, rows: np.ndarray, seed: int) -> Mispaired:
        return mispair(data, rows, kind=self.noise, share=self.share, block=self.block, seed=seed)

    def shown(self, data: FeatureSet, seed: int) -> FeatureSet:
        return self._mispaired(data, np.flatnonzero(data.train), seed).data

    def pools(self, seen: FeatureSet, batch_size: int, seed: int) -> Pool:
        rows, together = np.flatnonzero(seen.train), 1
        if self.noise == "batch":
            rows = blocks(rows, self.block, seed).reshape(-1)
            together = math.gcd(self.block, batch_size)
        if not 1 <= batch_size <= len(rows):
            raise ValueError(f"batch_size={batch_size} is not within 1 … {len(rows)} examples")
        return Pool(rows, batch_size, seen.modalities, together=together)

    # -- evaluation --------------------------------------------------------------------------

    def measure(self, subject: Subject) -> Iterator[tuple[str, Row]]:
        data, split = subject.data, f"{self.noise} {self.share:g}"
        for row in retrieval.directions(subject.representation.vectors, data):
            yield "noisy_pairs", row | {"split": split}
        rows = np.flatnonzero(data.train)
        mispaired = self._mispaired(data, rows, subject.seed)
        near = blocks(rows, self.block, subject.seed) if self.noise == "batch" else rows[None]
        vectors = subject.representation.vectors
        for row in recovery(vectors, mispaired, near, epsilon=self.plan_epsilon):
            yield "noisy_pairs", row | {"split": split, "selection": "none"}
