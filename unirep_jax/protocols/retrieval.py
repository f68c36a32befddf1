"""Cross-modal retrieval of a method that embeds every modality in one space."""

import dataclasses
import itertools
from typing import ClassVar

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import embed_examples
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.protocols.trained import Trained
from unirep_jax.report.embedding_figures import embedding_map, transport_plans
from unirep_jax.report.retrieval_tables import retrieval_tables


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Every direction between modalities, and each modality against the group of the others.

    captions: a modality of which one item (`group` of the feature set) has several rows.
    withheld: cross-modality generalisation (Table 3 of MOVER). One modality: training never has it.
      Two or more: training never has two of them in one example, so they meet only through the
      modalities that are left; each example keeps one of them, drawn by the seed.
    """

    captions: str = ""
    withheld: tuple[str, ...] = ()

    supervised: ClassVar[bool] = False
    resident: ClassVar[bool] = False
    evaluation_settings: ClassVar = ("captions",)
    tables = staticmethod(retrieval_tables)

    def training_set(self, data: FeatureSet, seed: int) -> FeatureSet:
        for m in (*self.withheld, *((self.captions,) if self.captions else ())):
            if m not in data.modalities:
                raise ValueError(f"modality {m!r} is none of {', '.join(data.modalities)}")
        if not self.withheld:
            return data
        if len({*self.withheld}) < len(self.withheld):
            raise ValueError(f"withheld={self.withheld} names a modality twice")
        alone = len(self.withheld) == 1
        # An example must be left two modalities: of two or more withheld ones it keeps one.
        if len(data.modalities) - len(self.withheld) < 1 + alone:
            raise ValueError(f"withheld={self.withheld} leaves nothing to train on")
        count = len(data.label)
        kept = np.random.default_rng(seed).integers(len(self.withheld), size=count)
        present = {
            m: data.present[m] & ~(data.train & (alone | (kept != place)))
            for place, m in enumerate(self.withheld)
        }
        return dataclasses.replace(data, present=data.present | present)

    def judge(self, trained: Trained) -> list[Measurement]:
        state = trained.state
        embeddings = embed_examples(trained.method, state.params, state.state, trained.data)
        embedding_map(trained.figures / "embedding_map.png", embeddings, trained.data)
        if hasattr(trained.method, "epsilon"):
            transport_plans(
                trained.figures / "transport_plans.png", embeddings, trained.data,
                epsilon=trained.method.epsilon,
            )  # fmt: skip
        measurements = []
        for row in retrieval.directions(embeddings, trained.data, captions=self.captions):
            by_chance = row.pop("chance")
            row["split"] = self._split(row["source"], row["target"])
            found = Measurement(experiment="retrieval", **trained.labels, **row)
            measurements += [found, dataclasses.replace(found, method="chance", value=by_chance)]
        return measurements

    def _split(self, source: str, target: str) -> str:
        """Whether training has had the two sides in one example."""
        apart = [{m} for m in self.withheld[:1]]
        if len(self.withheld) > 1:
            apart = [set(pair) for pair in itertools.combinations(self.withheld, 2)]
        sides = {*source.split("+"), *target.split("+")}
        if not self.withheld:
            return "all"
        return "unseen" if any(names <= sides for names in apart) else "seen"
