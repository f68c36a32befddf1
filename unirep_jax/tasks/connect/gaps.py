"""The gap between the modalities of a space: how far apart their embeddings lie as wholes."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique
from unirep_jax.tasks.retrieval.tables import retrieval_tables

GAP = "modality_gap"


def modality_gap(x: Float[np.ndarray, "row dim"], y: Float[np.ndarray, "other dim"]) -> float:
    """Distance between the centroids of the vectors of two modalities, each made a unit vector.

    0 where they lie alike, 2 where they are points on opposite sides.

    Reference: Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal
    Contrastive Representation Learning", NeurIPS 2022.
    """
    centroids = []
    for vectors in (np.asarray(x, np.float64), np.asarray(y, np.float64)):
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        centroids.append((vectors / np.where(length > 0, length, 1)).mean(0))
    return float(np.linalg.norm(centroids[0] - centroids[1]))


def gaps(
    embeddings: Mapping[str, Float[np.ndarray, "example dim"]],
    test: FeatureSet,
    pairs: Sequence[tuple[str, ...]],
) -> list[dict]:
    """The gap of each pair of streams that some test examples have: fields of a Measurement."""
    rows = []
    for first, second in pairs:
        here = [test.present[m] for m in (first, second)]
        if all(p.any() for p in here):
            value = modality_gap(embeddings[first][here[0]], embeddings[second][here[1]])
            rows.append(
                {
                    "split": "all",
                    "source": first,
                    "target": second,
                    "metric": GAP,
                    "value": value,
                    "num_examples": int(min(p.sum() for p in here)),
                    "selection": "none",
                }
            )
    return rows


def connection_tables(measurements: Sequence[Measurement]) -> str:
    """Retrieval and, below, the gap of every space before and after, as Markdown."""
    found = [m for m in measurements if m.metric == GAP]
    parts = [retrieval_tables([m for m in measurements if m.metric != GAP])]
    for dataset in unique(m.dataset for m in found):
        rows = [m for m in found if m.dataset == dataset]
        pairs = unique((m.source, m.target) for m in rows)
        lines = [
            [method, *(cell(rows, scale=1, method=method, source=a, target=b) for a, b in pairs)]
            for method in unique(m.method for m in rows)
        ]
        header = ["method", *(f"{a}, {b}" for a, b in pairs)]
        title = f"### {dataset}: gap between modalities, distance of their centroids"
        parts.append(f"{title}\n\n{markdown_table(header, lines, names=1)}")
    return "\n".join(parts)
