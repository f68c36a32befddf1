"""Cross-modal generalisation: a probe trained on one modality, tested on another.

Closed set (CMG, Xia et al., NeurIPS 2023): the same classes on both sides. Open set (OSCMG, Huang et
al., ICCV 2025): the source knows only the first classes; targets of the others must be rejected.

≠ the authors' code: the encoder is in evaluation mode while the probe trains (theirs keeps dropout
on), no epoch is chosen on the test set, and no probe is tested on its own training split.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax import metrics
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.probe import Probe, Representation

Row = dict[str, object]  # the fields of a Measurement that a protocol knows


def closed_set(
    representation: Representation, feature_set, *, probe: Probe, seed: int
) -> Iterator[Row]:
    """Accuracy on the test split for every ordered pair of modalities, and within each."""
    classes = feature_set.num_classes
    for source in feature_set.modalities:
        rows = _examples(feature_set, source, train=True, classes=classes)
        params = _fit(probe, representation, feature_set, source, rows, classes, seed)
        for target in feature_set.modalities:
            test = _examples(feature_set, target, train=False, classes=classes)
            _, prediction = _answers(probe, params, representation, target, test)
            correct = prediction == feature_set.label[test]
            yield {"split": "all", "source": source, "target": target, "metric": "accuracy",
                   "value": float(correct.mean()), "num_examples": len(test),
                   "selection": "none"}  # fmt: skip


def open_set(
    representation: Representation,
    feature_set,
    *,
    known: Sequence[int],
    selections: Sequence[str],
    folds: int,
    probe: Probe,
    seed: int,
) -> Iterator[Row]:
    """OS, OS*, UNK and HOS of every ordered pair of different modalities, per split and rule.

    Args:
      known: per split the number of known classes, the first ones of the label order.
      selections: "honest" fixes the threshold on held-out source data (`source_threshold`);
        "paper" takes the best of ten on the test labels.
      folds: of the held-out source data.
    """
    for number, count in enumerate(known, start=1):
        for source in feature_set.modalities:
            rows = _examples(feature_set, source, train=True, classes=count)
            params = _fit(probe, representation, feature_set, source, rows, count, seed)
            thresholds = {}
            if "honest" in selections:
                thresholds["honest"] = source_threshold(
                    representation, feature_set, source, rows, count,
                    folds=folds, probe=probe, seed=seed,
                )  # fmt: skip
            for target in feature_set.modalities:
                if target == source:
                    continue
                test = _examples(feature_set, target, train=False, classes=None)
                labels = feature_set.label[test]
                labels = np.where(labels < count, labels, -1)
                confidence, prediction = _answers(probe, params, representation, target, test)
                if "paper" in selections:
                    sweep = metrics.threshold_sweep(confidence, prediction, labels)
                    thresholds["paper"] = sweep.best()[0]
                for selection in selections:
                    rejected = confidence < thresholds[selection]
                    result = metrics.open_set_accuracy(labels, np.where(rejected, -1, prediction))
                    for metric, value in result._asdict().items():
                        yield {"split": f"split{number}", "source": source, "target": target,
                               "metric": metric, "value": value, "num_examples": len(test),
                               "selection": selection}  # fmt: skip


def source_threshold(
    representation: Representation,
    feature_set,
    source: str,
    rows: np.ndarray,
    classes: int,
    *,
    folds: int,
    probe: Probe,
    seed: int,
) -> float:
    """The rejection threshold that source data alone suggests.

    The source has no unknown classes, so it plays them: fold f hides every `folds`-th class and
    every `folds`-th group of examples (a group is a person, say), trains a probe on the rest, and
    scores the hidden groups as known and the hidden classes as unknown. The threshold has the
    highest HOS averaged over the folds.
    """
    folds = min(folds, classes)
    labels = feature_set.label[rows]
    _, group = np.unique(feature_set.group[rows], return_inverse=True)
    fold = np.arange(folds)[:, None]
    hidden_class = labels[None] % folds == fold
    hidden_group = group[None] % folds == fold
    allowed = np.arange(classes)[None] % folds != fold

    indices = representation.indices[source][rows]
    fit = jax.vmap(partial(probe.fit), in_axes=(0, None, None, None, 0, 0))
    params = fit(
        jax.random.split(jax.random.key(seed), folds), representation.codebook, indices,
        jnp.asarray(labels), jnp.asarray(~hidden_class & ~hidden_group), jnp.asarray(allowed),
    )  # fmt: skip
    logits = jax.vmap(probe.logits, in_axes=(0, None, None))(
        params, representation.codebook, indices
    )
    logits = np.where(allowed[:, None], logits, -np.inf)
    confidence, prediction = _confidence(logits)

    candidates = np.unique(confidence)
    hos = np.zeros(len(candidates))
    for f in range(folds):
        right = confidence[f][hidden_group[f] & ~hidden_class[f] & (prediction[f] == labels)]
        known = np.sum(hidden_group[f] & ~hidden_class[f])
        unknown = confidence[f][hidden_class[f]]
        if known and len(unknown):
            os_star = np.mean(right[None] >= candidates[:, None], axis=1) * len(right) / known
            unk = np.mean(unknown[None] < candidates[:, None], axis=1)
            hos += 2 * os_star * unk / np.maximum(os_star + unk, 1e-12)
    return float(candidates[np.argmax(hos)])


def chance(metric: str, classes: int) -> float:
    """What guessing among `classes` gives, rejecting at random as often as suits HOS best.

    With accuracy a = 1/classes and rejection rate r, OS* = a(1−r) and UNK = r; HOS is highest at
    r = √a / (1 + √a).
    """
    accuracy = 1 / classes
    if metric == "accuracy":
        return accuracy
    unk = accuracy**0.5 / (1 + accuracy**0.5)
    os_star = accuracy * (1 - unk)
    hos = 2 * os_star * unk / (os_star + unk)
    return {"os_star": os_star, "unk": unk, "hos": hos}[metric]


def _examples(feature_set, modality: str, *, train: bool, classes: int | None) -> np.ndarray:
    """Rows of a split that have the modality and a label (below `classes` where given)."""
    keep = (feature_set.train == train) & feature_set.present[modality] & (feature_set.label >= 0)
    if classes is not None:
        keep &= feature_set.label < classes
    return np.flatnonzero(keep)


def _fit(probe, representation, feature_set, source, rows, classes, seed):
    key = jax.random.key(seed)
    use, allowed = jnp.ones(len(rows), bool), jnp.ones(classes, bool)
    indices, labels = representation.indices[source][rows], jnp.asarray(feature_set.label[rows])
    return probe.fit(key, representation.codebook, indices, labels, use, allowed)


def _answers(probe, params, representation, target, rows) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and predicted class of the probe on the target's examples."""
    logits = probe.logits(params, representation.codebook, representation.indices[target][rows])
    return _confidence(np.asarray(logits))


def _confidence(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest softmax probability, in float64 (saturation would tie scores), and its class."""
    logits = logits.astype(np.float64)
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return 1 / exponential.sum(-1), logits.argmax(-1).astype(np.int32)
