"""Open-set recognition: how well known classes are told apart, and unknown ones from them.

Scores are higher for what looks more known; label −1 is an unknown class.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unirep_jax import metrics
from unirep_jax.evaluation.chance import guess as chance
from unirep_jax.evaluation.measurements import row

TPR = 0.95  # of known examples, that the threshold accepts: eq. 4 of MRN
FPR = 0.1  # at which the correct classification rate is reported


class Decisions(NamedTuple):
    """What a classifier says of some examples: score, most probable class, and the truth."""

    scores: Float[np.ndarray, "example"]
    predicted: Int[np.ndarray, "example"]
    label: Int[np.ndarray, "example"]


def rejecting(decisions: Decisions, threshold: float) -> Int[np.ndarray, "example"]:
    """The predicted class, or −1 where the score is below the threshold."""
    return np.where(decisions.scores >= threshold, decisions.predicted, -1)


def measure(
    decisions: Decisions,
    *,
    threshold: float,
    class_names: Sequence[str],
    unknown: int = 0,
    gates: Float[np.ndarray, "example expert"] | None = None,
) -> Iterator[dict[str, Any]]:
    """The fields of a Measurement for every metric, with what guessing gives as `chance`.

    Args:
      decisions: of test examples of known and of unknown classes.
      threshold: for OS*, UNK and HOS, chosen without these examples.
      class_names: of the known classes; the accuracy on each is `class_accuracy`, its target.
      unknown: number of unknown classes, for the openness of the split; 0: they are not counted.
      gates: of a mixture of experts, for how many of them are used.
    """
    known = decisions.label >= 0
    inside, outside = decisions.scores[known], decisions.scores[~known]
    label, predicted = decisions.label[known], decisions.predicted[known]
    right, classes, count = predicted == label, len(class_names), len(decisions.label)

    guess = 1 / classes
    if unknown:
        value = metrics.openness(classes, unknown)
        yield row("openness", value, value, count)
    yield row("accuracy", metrics.accuracy(label, predicted), guess, known.sum())
    yield row("macro_accuracy", metrics.macro_accuracy(label, predicted), guess, known.sum())
    yield row("auroc", metrics.auroc(inside, outside), 0.5, count)
    yield row("oscr", metrics.oscr(inside, outside, right), guess / 2, count)
    yield row("aupr_known", metrics.aupr(inside, outside), known.mean(), count)
    value = metrics.aupr(inside, outside, positive="unknown")
    yield row("aupr_unknown", value, 1 - known.mean(), count)
    yield row("detection_accuracy", metrics.detection_accuracy(inside, outside), 0.5, count)
    yield row("tnr_at_95", metrics.tnr_at_known_tpr(inside, outside, tpr=TPR), 1 - TPR, count)
    yield row("ccr_at_10", metrics.ccr_at_fpr(inside, outside, right, fpr=FPR), FPR * guess, count)
    rates = metrics.open_set_accuracy(
        decisions.label, rejecting(decisions, threshold), average="class"
    )
    for name in ("os_star", "unk", "hos"):
        value, of = getattr(rates, name), {"os_star": known.sum(), "unk": (~known).sum()}
        yield row(name, value, chance(name, classes), of.get(name, count), selection="held_out")
    for c, name in enumerate(class_names):
        of_class = label == c
        if of_class.any():
            yield row("class_accuracy", right[of_class].mean(), guess, of_class.sum(), target=name)
    if gates is not None:
        together, each = effective_experts(gates)
        experts = gates.shape[1]
        yield row("experts_used", together / experts, None, count)
        yield row("experts_per_example", each / experts, None, count)


def effective_experts(gates: Float[np.ndarray, "example expert"]) -> tuple[float, float]:
    """How many experts are used by all examples together, and by one: exponentials of entropies.

    Together near 1: the gates have collapsed. Each as many as together: nothing is told apart.
    """
    entropy = lambda p: -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)
    gates = np.asarray(gates, np.float64)
    return float(np.exp(entropy(gates.mean(0)))), float(np.exp(entropy(gates).mean()))
