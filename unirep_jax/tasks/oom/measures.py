"""What is measured of a learner: classes, mapped in-modal examples, agreement, clusters.

Each function yields the fields of a Measurement, with what guessing gives as `chance`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from unirep_jax import metrics
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.measurements import row
from unirep_jax.evaluation.retrieval import Rows, Vectors

RECALLS = (1, 5)
PROBE_REGULARIZATION = 1.0  # C of the logistic regression


class Readout(NamedTuple):
    """What a network says of some examples of the out-of-modal modality, and the truth.

    features: [example, dim]; logits: [example, class]; mapped: by in-modal modality the mapping of
    the same examples, [example, dim]; votes: [head, example, class], logits of the in-modal heads
    on `features`, in the order of `mapped`. Without in-modal networks the last two are empty, None.
    """

    features: Float[np.ndarray, "example dim"]
    logits: Float[np.ndarray, "example class"]
    label: Int[np.ndarray, "example"]
    mapped: dict[str, Float[np.ndarray, "example dim"]]
    votes: Any  # Float[np.ndarray, "head example class"], or None


def classification(readout: Readout) -> Iterator[dict[str, Any]]:
    """Accuracy (Table 2 of COX), and recall of the class among all classes (its Table 3)."""
    label, logits = readout.label, readout.logits
    count, classes = logits.shape
    predicted = logits.argmax(1)
    yield row("accuracy", metrics.accuracy(label, predicted), 1 / classes, count)
    yield row("macro_accuracy", metrics.macro_accuracy(label, predicted), 1 / classes, count)
    for k in RECALLS:
        if k < classes:
            recall = metrics.top_k_accuracy(label, logits, k=k)
            yield row(f"class_recall_at_{k}", recall, k / classes, count)


def mean_distance(queries: Vectors, items: Vectors) -> Float[Array, "query item"]:
    """−1/K Σₖ ‖z − vₖ‖, by which COX looks for correspondence."""
    distances = []
    for item in items:
        squared = jnp.sum(queries[0] ** 2, axis=1)[:, None] + jnp.sum(item**2, axis=1)[None]
        squared -= 2 * jnp.einsum("qd,id->qi", queries[0], item, precision="highest")
        distances.append(jnp.sqrt(jnp.maximum(squared, 0)))
    return -sum(distances) / len(distances)  # type: ignore[return-value]


def search(readout: Readout) -> Iterator[dict[str, Any]]:
    """Recall of the same example among the mapped in-modal ones, and mean average precision."""
    rows = np.arange(len(readout.label))
    queries = Rows((readout.features,), rows, readout.label)
    items = Rows(tuple(readout.mapped.values()), rows, readout.label)
    for metric, value, by_chance in retrieval.search(queries, items, mean_distance):
        if metric in ("recall_at_1", "recall_at_5", "class_map"):
            name = metric.replace("recall", "instance_recall")
            yield row(name, value, by_chance, len(rows))


def agreement(readout: Readout, selection: str) -> Iterator[dict[str, Any]]:
    """Accuracy where the in-modal heads agree and where they do not, and of each head (Figure 6).

    Args:
      selection: when in training this is, "before" or "after" exploration.
    """
    agree, label = agreeing(readout.votes), readout.label
    right, guess = readout.logits.argmax(1) == label, 1 / readout.logits.shape[1]
    yield row(
        "agreement_share",
        agree.mean(),
        guess ** (len(readout.votes) - 1),
        len(label),
        selection=selection,
    )
    yield from _split(right, agree, guess, selection)
    for modality, vote in zip(readout.mapped, readout.votes, strict=True):
        value = metrics.accuracy(label, vote.argmax(1))
        yield row(
            "in_modal_accuracy", value, guess, len(label), target=modality, selection=selection
        )


def agreement_of(before: Readout, after: Readout) -> Iterator[dict[str, Any]]:
    """Accuracy after exploration on the sets that there were before it, of the same examples."""
    right, guess = after.logits.argmax(1) == after.label, 1 / after.logits.shape[1]
    yield from _split(right, agreeing(before.votes), guess, "after, same sets")


def _split(right, agree, guess: float, selection: str) -> Iterator[dict[str, Any]]:
    for name, where in (("agreement_accuracy", agree), ("disagreement_accuracy", ~agree)):
        if where.any():
            yield row(name, right[where].mean(), guess, where.sum(), selection=selection)


def agreeing(votes: Float[np.ndarray, "head example class"]) -> Bool[np.ndarray, "example"]:
    """Whether all heads give the same class."""
    chosen = votes.argmax(2)
    return (chosen == chosen[:1]).all(0)


def label_free(train: Readout, test: Readout, *, seed: int) -> Iterator[dict[str, Any]]:
    """Of features made without labels: what labels that training did not have make of them.

    `cluster_accuracy` is that of k-means clusters of the test examples, each named by the one-to-
    one assignment that is best for the test labels; `probe_accuracy` is that of a logistic
    regression on all training labels. Both are upper bounds, not results without labels.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression

    classes, count = test.logits.shape[1], len(test.label)
    mean, scale = train.features.mean(0), train.features.std(0)
    inside, outside = ((r.features - mean) / np.where(scale > 0, scale, 1) for r in (train, test))
    clusters = KMeans(min(classes, count), n_init=5, random_state=seed).fit_predict(outside)
    table = np.zeros((classes, classes), int)
    np.add.at(table, (clusters, test.label), 1)
    matched = table[linear_sum_assignment(-table)].sum()
    yield row("cluster_accuracy", matched / count, 1 / classes, count, selection="test labels")
    known = train.label >= 0
    probe = LogisticRegression(C=PROBE_REGULARIZATION, max_iter=1000)
    probe.fit(inside[known], train.label[known])
    value = metrics.accuracy(test.label, probe.predict(outside))
    yield row("probe_accuracy", value, 1 / classes, count, selection="training labels")


def zero_shot(
    embeddings: Float[np.ndarray, "example dim"],
    in_modal: dict[str, Float[np.ndarray, "other dim"]],
    label: Int[np.ndarray, "other"],
    truth: Int[np.ndarray, "example"],
) -> Iterator[dict[str, Any]]:
    """Embeddings in the space of the in-modal ones: the class whose mean is nearest by cosine."""
    classes = np.unique(label[label >= 0])
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    together = np.mean([unit(np.asarray(x, np.float64)) for x in in_modal.values()], axis=0)
    means = unit(np.stack([together[label == c].mean(0) for c in classes]))
    predicted = classes[(unit(np.asarray(embeddings, np.float64)) @ means.T).argmax(1)]
    guess = 1 / len(classes)
    yield row("accuracy", metrics.accuracy(truth, predicted), guess, len(truth))
    yield row("macro_accuracy", metrics.macro_accuracy(truth, predicted), guess, len(truth))
