"""Pictures of a shared embedding space: a map of it, and transport plans between modalities."""

import itertools
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from unirep_jax import losses
from unirep_jax.data.safe_text import figure_text
from unirep_jax.evaluation.figures import NAME_LENGTH, PALETTE, spread

MAP_EXAMPLES, PLAN_EXAMPLES = 400, 64  # of the test split
SHOWN_CLASSES = 8
MARKERS = "o^sDPX*v"


def embedding_map(
    path: Path, embeddings: dict[str, Float[np.ndarray, "example dim"]], feature_set
) -> None:
    """t-SNE of the test split in all modalities, coloured by modality and by class (Figure 2)."""
    from sklearn.manifold import TSNE

    rows = spread(np.flatnonzero(~feature_set.train), MAP_EXAMPLES)
    parts = {m: rows[feature_set.present[m][rows]] for m in embeddings}
    vectors = np.concatenate([np.asarray(embeddings[m])[part] for m, part in parts.items()])
    modality = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    label = feature_set.label[np.concatenate(list(parts.values()))]
    place = TSNE(
        metric="cosine", init="random", perplexity=min(30.0, len(vectors) / 4), random_state=0
    ).fit_transform(vectors)

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for m, name in enumerate(parts):
        here = modality == m
        left.scatter(*place[here].T, 9, PALETTE[m % 8], alpha=0.7, linewidths=0, label=name)
    classes, count = np.unique(label[label >= 0], return_counts=True)
    shown = sorted(classes[np.argsort(-count, kind="stable")][:SHOWN_CLASSES])
    others = ~np.isin(label, shown)
    if others.any():
        right.scatter(*place[others].T, 5, "#BBBBBB", linewidths=0, label="other classes")
    for i, c in enumerate(shown):
        for m in range(len(parts)):
            here = (label == c) & (modality == m)
            name = figure_text(feature_set.class_names[c], NAME_LENGTH) if m == 0 else None
            right.scatter(
                *place[here].T,
                12,
                PALETTE[i % 8],
                marker=MARKERS[m % 8],
                alpha=0.7,
                linewidths=0,
                label=name,
            )
    left.set_title(f"{figure_text(feature_set.name)}, test split: by modality")
    right.set_title("the same points by class; marker: modality")
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
    left.legend(loc="best")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


def transport_plans(
    path: Path,
    embeddings: dict[str, Float[np.ndarray, "example dim"]],
    feature_set,
    *,
    epsilon: float,
) -> None:
    """Plans between the modalities of some test examples, sorted by class.

    On the diagonal are the true pairs; squares along it, marked on the axes, are classes. Nothing
    is drawn where no test example has all modalities.
    """
    test = ~feature_set.train
    for m in embeddings:
        test = test & feature_set.present[m]
    if not test.any():
        return
    rows = spread(np.flatnonzero(test), PLAN_EXAMPLES)
    rows = rows[np.argsort(feature_set.label[rows], kind="stable")]
    pairs = list(itertools.combinations(embeddings, 2))
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.4 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    borders = np.flatnonzero(np.diff(feature_set.label[rows])) + 0.5
    for axis, (a, b) in zip(axes, pairs, strict=False):
        x, y = (np.asarray(embeddings[m])[rows] for m in (a, b))
        plan = losses.sinkhorn_plan(x, y, epsilon=epsilon).plan
        share = np.asarray(plan) * len(rows)  # of each row's mass
        image = axis.imshow(np.sqrt(share), cmap="viridis", vmin=0, vmax=1, interpolation="none")
        axis.set(
            title=f"{100 * np.trace(share) / len(rows):.0f} % of mass on true pairs",
            xlabel=b,
            ylabel=a,
            xticks=borders,
            yticks=borders,
            xticklabels=[],
            yticklabels=[],
        )
    for axis in axes[len(pairs) :]:
        axis.set_visible(False)
    bar = figure.colorbar(image, ax=axes[: len(pairs)], shrink=0.8, ticks=np.sqrt([0, 0.1, 0.5, 1]))
    bar.set_ticklabels(["0", "10 %", "50 %", "100 %"])
    bar.set_label("share of a row's mass (square-root scale)")
    figure.suptitle(
        f"{figure_text(feature_set.name)}: transport plans of {len(rows)} test examples sorted by "
        f"class, ε = {epsilon}"
    )
    figure.savefig(path, dpi=110)
