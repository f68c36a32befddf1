"""Pictures of single searches: what stands first among the answers to some queries."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from unirep_jax.data.safe_text import figure_text
from unirep_jax.evaluation.figures import spread

QUERIES, ANSWERS = 6, 5
PAIR, CLASS, OTHER = "#009E73", "#56B4E9", "#DDDDDD"
TITLE_LETTERS, TITLE_WIDTH = 90, 22  # of a query, and of a line of it


class Answer(NamedTuple):
    """A picture that was found, and whether it is of the query itself or of its class."""

    picture: UInt8[np.ndarray, "height width 3"]
    pair: bool
    same_class: bool


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


def gallery(path: Path, lines: Sequence[tuple[str, Sequence[Answer]]], *, title: str) -> None:
    """Queries and the pictures that they found, best first, as many of each.

    Args:
      lines: of each query what it says, and its answers.
      title: of the whole.
    """
    count = len(lines[0][1])
    figure = Figure(figsize=(1.2 * count + 1.9, 1.25 * len(lines) + 0.7), layout="constrained")
    widths = [1.5] + [1.0] * count
    axes = figure.subplots(len(lines), count + 1, width_ratios=widths, squeeze=False)
    for row, (query, found) in zip(axes, lines, strict=True):
        text = textwrap.fill(figure_text(query, TITLE_LETTERS), TITLE_WIDTH)
        row[0].text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
        row[0].set_axis_off()
        for axis, answer in zip(row[1:], found, strict=True):
            axis.imshow(answer.picture)
            axis.set(xticks=[], yticks=[])
            color = PAIR if answer.pair else CLASS if answer.same_class else OTHER
            for side in axis.spines.values():
                side.set(color=color, linewidth=4 if answer.pair else 2)
    figure.suptitle(f"{figure_text(title)}\ngreen: the thing itself; blue: its class", fontsize=10)
    figure.savefig(path, dpi=110)
