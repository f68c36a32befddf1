"""Pictures of single searches: what stands first among the answers to some queries."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from unirep_jax.evaluation.figures import spread

QUERIES, ANSWERS = 6, 5
PAIR, CLASS, OTHER = "#009E73", "#56B4E9", "#DDDDDD"


def answers(
    path: Path,
    queries: Float[np.ndarray, "example dim"],
    items: Float[np.ndarray, "example dim"],
    feature_set,
    names: tuple[str, str],
) -> None:
    """The nearest items to some test queries by cosine, a row for each (Figure 2 of C-MCR).

    A box holds the number of the example, its class and the cosine; the query's own partner and
    what is of its class are coloured. Without test examples that have both, nothing is drawn.

    Args:
      queries, items: unit vectors of two modalities of all examples.
      names: of the two modalities.
    """
    test = ~feature_set.train & feature_set.present[names[0]] & feature_set.present[names[1]]
    rows = np.flatnonzero(test)
    if not len(rows):
        return
    asked = spread(rows, QUERIES)
    cosines = np.asarray(queries)[asked] @ np.asarray(items)[rows].T
    count = min(ANSWERS, len(rows))
    first = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    figure = Figure(figsize=(2.1 * (count + 1), 0.75 * len(asked) + 0.7), layout="constrained")
    axis = figure.subplots()
    for line, query in enumerate(asked):
        _box(axis, 0, line, "white", _name(feature_set, query))
        for place, column in enumerate(first[line], start=1):
            item = rows[column]
            label = feature_set.label[[query, item]]
            same = label[0] == label[1] >= 0
            color = PAIR if item == query else CLASS if same else OTHER
            text = f"{_name(feature_set, item)}\n{cosines[line, column]:.2f}"
            _box(axis, place, line, color, text)
    axis.set(xlim=(-0.5, count + 0.5), ylim=(len(asked) - 0.5, -0.5), yticks=[])
    axis.set_xticks(range(count + 1), [names[0], *(f"{names[1]} {i + 1}" for i in range(count))])
    axis.set_title(f"{feature_set.name}: green, the query's partner; blue, of its class")
    axis.xaxis.tick_top()
    figure.savefig(path, dpi=110)


def _name(feature_set, row: int) -> str:
    label = feature_set.label[row]
    known = f"\n{feature_set.class_names[label]}" if label >= 0 else ""
    return f"{row}{known}"


def _box(axis, x: int, y: int, color: str, text: str) -> None:
    style = {"facecolor": color, "edgecolor": "#888888", "boxstyle": "round"}
    axis.text(x, y, text, ha="center", va="center", fontsize=8, bbox=style)
