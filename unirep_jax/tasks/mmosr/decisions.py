"""What a trained network, or a logistic regression, decides on examples, by source."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.embedding import map_examples
from unirep_jax.evaluation.linear_classifier import LinearClassifier, concatenated
from unirep_jax.methods.method import ClassifyingMethod
from unirep_jax.metrics import max_softmax
from unirep_jax.tasks.mmosr.measures import Decisions
from unirep_jax.tasks.mmosr.scores import SCORES, Features
from unirep_jax.tasks.task import Trained

Part = tuple[FeatureSet, np.ndarray]  # examples of a set, chosen by a mask


class Decided(NamedTuple):
    """Decisions on the examples `rows` (bool, of all parts) that have what a source needs.

    features: [example, dim]; logits: [example, class]; gates: [example, expert] or None.
    """

    decisions: Decisions
    rows: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    gates: np.ndarray | None = None

    @property
    def shown(self) -> Features:
        """What scores are made of."""
        return Features(self.features, self.logits, self.decisions.label)

    def of(self, chosen: np.ndarray) -> "Decided":
        """Some of its own examples, bool; `rows` stays."""
        gates = None if self.gates is None else self.gates[chosen]
        decisions = Decisions(*(x[chosen] for x in self.decisions))
        return Decided(decisions, self.rows, self.features[chosen], self.logits[chosen], gates)


def decide(trained: Trained, parts: list[Part]) -> dict[str, Decided]:
    """What the trained network decides on the chosen examples of each part, by source."""
    method, params = trained.method, jax.tree.map(np.asarray, trained.state.params)
    assert isinstance(method, ClassifyingMethod)

    def compute(variables, batch):
        return method.classify(*variables, batch["features"], batch["present"])

    variables = (params, trained.state.state)
    pieces = [
        map_examples(compute, variables, data, rows=np.flatnonzero(rows)) for data, rows in parts
    ]
    label = np.concatenate([data.label[rows] for data, rows in parts])
    decided = {}
    joined = jax.tree.map(lambda *p: np.concatenate(p), *pieces)
    for source, decision in joined.items():
        there = decision.present
        decision = jax.tree.map(lambda x, there=there: x[there], decision)
        scores = method.known_scores(params, decision)
        decisions = Decisions(scores, decision.logits.argmax(1), label[there])
        decided[source] = Decided(
            decisions, there, decision.features, decision.logits, decision.gates
        )
    return decided


def rescore(
    name: str, decided: Mapping[str, Decided], reference: Mapping[str, Decided]
) -> dict[str, Decided]:
    """The same decisions with another score, of `SCORES`; `reference` is what was fitted."""
    found = {}
    for source, one in decided.items():
        scores = SCORES[name](one.shown, reference[source].shown)
        found[source] = one._replace(decisions=one.decisions._replace(scores=scores))
    return found


def with_features(parts: list[Part], decided: Mapping[str, Decided]) -> dict[str, Decided]:
    """The same examples with the raw features of their source side by side."""
    found = {}
    for source, one in decided.items():
        names = tuple(source.split("+"))
        x = [concatenated(data, np.flatnonzero(rows), names) for data, rows in parts]
        found[source] = one._replace(features=np.concatenate(x)[one.rows])
    return found


def decide_linearly(
    fitted: Mapping[str, Decided],
    parts: tuple[Mapping[str, Decided], ...],
    *,
    classes: int,
    seed: int,
) -> tuple[dict[str, Decided], ...]:
    """What a logistic regression on the features of `fitted` decides on each of the parts.

    Its largest probability is its score. Everything by source; without those whose training
    examples are of fewer than two classes.
    """
    found: tuple[dict[str, Decided], ...] = tuple({} for _ in parts)
    for source, one in fitted.items():
        if len(np.unique(one.decisions.label)) < 2:  # of a modality that few examples have
            continue
        classifier = LinearClassifier(one.features, one.decisions.label, seed)
        for into, part in zip(found, parts, strict=True):
            logits = classifier.logits(part[source].features, classes)
            label = part[source].decisions.label
            decisions = Decisions(max_softmax(logits), logits.argmax(1), label)
            into[source] = part[source]._replace(decisions=decisions, logits=logits, gates=None)
    return found
