"""Cross-modal generalisation: a probe trained on one modality, tested on another.

Closed set (CMG, Xia et al., NeurIPS 2023): the same classes on both sides. Open set (OSCMG, Huang
et al., ICCV 2025): the source knows only the first classes; targets of others must be rejected.

≠ the authors' code: the encoder is in evaluation mode while the probe trains (theirs keeps dropout
on), no epoch is chosen on the test set, and no probe is tested on its own training split.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax import metrics
from unirep_jax.evaluation.chance import GUESSABLE, guess
from unirep_jax.evaluation.embedding import Representation
from unirep_jax.evaluation.probe import Probe

Row = dict[str, Any]  # the fields of a Measurement that a task knows, and `chance`
_DRAWS = 100  # of folds, until each hides examples of known classes
NUM_CANDIDATES = 1001  # thresholds tried on held-out source data, from chance to certainty


def closed_set(
    representation: Representation, feature_set, *, probe: Probe, seed: int, across: bool = True
) -> Iterator[Row]:
    """Accuracy on the test split for every ordered pair of modalities, and within each.

    A direction without labelled training or test examples is left out.

    Args:
      across: whether modalities are compared; False for within each alone.
    """
    classes = feature_set.num_classes
    for source in feature_set.modalities:
        rows = labelled_rows(feature_set, source, train=True, classes=classes)
        if not len(rows):
            continue
        params = _fit(probe, representation, feature_set, source, rows, classes, seed)
        for target in feature_set.modalities:
            test = labelled_rows(feature_set, target, train=False, classes=classes)
            if not len(test) or (target != source and not across):
                continue
            _, prediction = _answers(probe, params, representation, target, test)
            correct = prediction == feature_set.label[test]
            yield {
                "split": "all",
                "source": source,
                "target": target,
                "metric": "accuracy",
                "value": float(correct.mean()),
                "num_examples": len(test),
                "selection": "none",
                "chance": guess("accuracy", classes),
            }


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
    """AUROC and OSCR of every ordered pair of different modalities, per split; OS, OS*, UNK and
    HOS besides per rule.

    The first two rank examples by the probe's largest probability and need no threshold. The others
    are over instances, as published, and over classes (names ending in _class). A direction whose
    test examples are all known or all unknown is left out. OS* counts the known test examples, UNK
    the unknown ones.

    Args:
      known: per split the number of known classes, the first ones of the label order.
      selections: "honest" fixes the threshold on held-out source data (`source_threshold`);
        "paper" takes the best of ten on the test labels.
      folds: of the held-out source data.
    """
    for number, count in enumerate(known, start=1):
        for source in feature_set.modalities:
            rows = labelled_rows(feature_set, source, train=True, classes=count)
            if not len(rows):
                continue
            params = _fit(probe, representation, feature_set, source, rows, count, seed)
            thresholds = {}
            if "honest" in selections:
                thresholds["honest"] = source_threshold(
                    representation,
                    feature_set,
                    source,
                    rows,
                    count,
                    folds=folds,
                    probe=probe,
                    seed=seed,
                )
            for target in feature_set.modalities:
                if target == source:
                    continue
                test = labelled_rows(feature_set, target, train=False, classes=None)
                labels = feature_set.label[test]
                labels = np.where(labels < count, labels, -1)
                if (labels >= 0).all() or (labels < 0).all():
                    continue
                confidence, prediction = _answers(probe, params, representation, target, test)
                where = {"split": f"split{number}", "source": source, "target": target}
                yield from _without_threshold(labels, confidence, prediction, count, where)
                if "paper" in selections:
                    sweep = metrics.threshold_sweep(confidence, prediction, labels)
                    thresholds["paper"] = sweep.best()[0]
                for selection in selections:
                    answer = np.where(confidence < thresholds[selection], -1, prediction)
                    for metric, value in _accuracies(labels, answer).items():
                        by_chance = guess(metric, count) if metric in GUESSABLE else None
                        yield where | {
                            "metric": metric,
                            "value": value,
                            "selection": selection,
                            "num_examples": _counted(metric, labels),
                            "chance": by_chance,
                        }


def _without_threshold(
    labels: np.ndarray, confidence: np.ndarray, prediction: np.ndarray, classes: int, where: Row
) -> Iterator[Row]:
    """How well confidence tells known from unknown, and right known from unknown examples."""
    known = labels >= 0
    inside, outside = confidence[known], confidence[~known]
    right = prediction[known] == labels[known]
    values = {
        "auroc": (metrics.auroc(inside, outside), 0.5),
        "oscr": (metrics.oscr(inside, outside, right), 0.5 / classes),
    }
    for metric, (value, by_chance) in values.items():
        yield where | {
            "metric": metric,
            "value": float(value),
            "num_examples": len(labels),
            "selection": "none",
            "chance": by_chance,
        }


def _counted(metric: str, labels: np.ndarray) -> int:
    """Test examples that a rate is of."""
    counts = {"os_star": labels >= 0, "unk": labels < 0}
    name = metric.removesuffix("_class")
    return int(counts[name].sum()) if name in counts else len(labels)


def _accuracies(labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """os, os_star, unk, hos over instances, and under names ending in _class over classes."""
    instance = metrics.open_set_accuracy(labels, answers)
    by_class = metrics.open_set_accuracy(labels, answers, average="class")
    return instance._asdict() | {f"{k}_class": v for k, v in by_class._asdict().items()}


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

    The source has no unknown classes, so it plays them: each fold hides a share of the classes and
    a share of the groups of examples (a group is a person, say), drawn at random by the seed,
    trains a probe on the rest, and scores the hidden groups as known and the hidden classes as
    unknown.

    Another modality shares only some codes of an example, so the probe is less sure of it than of a
    source sequence. How many is not known from the source. Hidden examples are therefore scored
    with all of their time steps, half, a quarter ... one, drawn at random, and the threshold is the
    one whose HOS, relative to the best HOS with as many steps, is highest in the worst case.

    Raises:
      ValueError: as `source_folds`.
    """
    labels = feature_set.label[rows]
    hidden_class, hidden_group, allowed = source_folds(
        labels, feature_set.group[rows], classes, folds, seed=seed
    )
    folds = len(allowed)
    table, indices = representation.table[source], representation.indices[source][rows]
    params = jax.vmap(probe.fit, in_axes=(0, None, None, None, 0, 0))(
        jax.random.split(jax.random.key(seed), folds),
        table,
        indices,
        jnp.asarray(labels),
        jnp.asarray(~hidden_class & ~hidden_group),
        jnp.asarray(allowed),
    )
    thresholds = np.linspace(1 / classes, 1, NUM_CANDIDATES)
    shuffled = np.random.default_rng(seed).permuted(np.asarray(indices), axis=1)
    steps = shuffled.shape[1]
    relative = []
    while steps:
        logits = jax.vmap(probe.logits, in_axes=(0, None, None))(params, table, shuffled[:, :steps])
        confidence, prediction = _confidence(np.where(allowed[:, None], logits, -np.inf))
        known = hidden_group & ~hidden_class
        os_star = _share_from(confidence, known & (prediction == labels[None]), known, thresholds)
        unk = 1 - _share_from(confidence, hidden_class, hidden_class, thresholds)
        hos = np.mean(2 * os_star * unk / np.maximum(os_star + unk, 1e-12), axis=0)
        relative.append(hos / max(hos.max(), 1e-12))
        steps //= 2
    return float(thresholds[np.argmax(np.min(relative, axis=0))])


def source_folds(
    labels: np.ndarray, group: np.ndarray, classes: int, folds: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes and groups that each fold hides: disjoint shares, drawn independently of each other.

    There are as many folds as asked, or more where each must hide fewer classes to leave two.
    Classes and groups may be in any order, and the one may be a function of the other's number, so
    both are shuffled. Where a fold hides no example of a class that it knows, the groups are drawn
    again.

    Returns:
      Whether an example is of a hidden class, of a hidden group, [fold, example], and whether a
      class may be answered, [fold, class].

    Raises:
      ValueError: there are too few folds, classes or groups for a fold to hide one and to leave two
        classes; or no draw gives every fold hidden examples of known and of unknown classes.
    """
    names, group = np.unique(group, return_inverse=True)
    count = min(folds, classes, len(names))
    while 2 <= count < min(classes, len(names)) and classes - -(-classes // count) < 2:
        count += 1
    if count < 2 or classes - -(-classes // count) < 2:
        raise ValueError(
            f"folds={folds} of {classes} known classes and {len(names)} groups: a fold hides at "
            "least one of each and must leave two classes; give other folds or known classes, or "
            "selections=('paper',)"
        )
    fold = np.arange(count)[:, None]
    for attempt in range(_DRAWS):
        generator = np.random.default_rng((seed, attempt))
        class_fold = generator.permutation(classes) % count
        hidden_class = class_fold[labels][None] == fold
        hidden_group = (generator.permutation(len(names)) % count)[group][None] == fold
        parts = (hidden_group & ~hidden_class, hidden_class, ~hidden_group & ~hidden_class)
        if all(part.any(1).all() for part in parts):
            return hidden_class, hidden_group, class_fold[None] != fold
    raise ValueError(
        f"folds={folds}: no fold of {len(names)} groups and {classes} known classes hides examples "
        "of known and of unknown classes; give fewer folds, or selections=('paper',)"
    )


def _share_from(
    values: np.ndarray, count: np.ndarray, among: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """[fold, threshold]: share of the values `among` which `count` and are not below; 0 of none."""
    shares = []
    for row, counted, all_of in zip(values, count, among, strict=True):
        below = np.searchsorted(np.sort(row[counted]), thresholds, side="left")
        shares.append((counted.sum() - below) / max(all_of.sum(), 1))
    return np.stack(shares)


def labelled_rows(feature_set, modality: str, *, train: bool, classes: int | None) -> np.ndarray:
    """Rows of a part that have the modality and a label, below `classes` where given."""
    keep = (feature_set.train == train) & feature_set.present[modality] & (feature_set.label >= 0)
    if classes is not None:
        keep &= feature_set.label < classes
    return np.flatnonzero(keep)


def _fit(probe, representation, feature_set, source, rows, classes, seed):
    key = jax.random.key(seed)
    use, allowed = jnp.ones(len(rows), bool), jnp.ones(classes, bool)
    indices, labels = representation.indices[source][rows], jnp.asarray(feature_set.label[rows])
    return probe.fit(key, representation.table[source], indices, labels, use, allowed)


def _answers(probe, params, representation, target, rows) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and predicted class of the probe on the target's examples."""
    logits = probe.logits(
        params, representation.table[target], representation.indices[target][rows]
    )
    return _confidence(np.asarray(logits))


def _confidence(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest softmax probability, in float64 (saturation would tie scores), and its class."""
    logits = logits.astype(np.float64)
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return 1 / exponential.sum(-1), logits.argmax(-1).astype(np.int32)
