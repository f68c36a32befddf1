"""Pictures of a run, as PNG files."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unirep_jax.train.logs import read_log

# Okabe and Ito's palette: told apart with any colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LETTERS_PER_INCH = 9.0  # of a title
BELOW_LABELS = 40  # points from an axis to a legend that leaves room for ticks and their name
LEGEND_INCHES = 0.2  # of one line
LEGEND_LETTERS = 16  # of a name, above which a legend has one column

NAME_LENGTH = 24  # of a class, in letters


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def write_title(figure: Figure, text: str) -> None:
    """A title over the whole figure, in as many lines as its width asks for."""
    letters = max(int(LETTERS_PER_INCH * figure.get_figwidth()), 20)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, letters)]
    figure.suptitle("\n".join(lines))


def training_curves(path: Path, metrics: Path) -> None:
    """Every logged quantity over the steps, the loss first, a panel each."""
    rows = read_log(metrics)
    if not rows:
        return
    steps = [row["step"] for row in rows]
    groups = _panels(sorted(rows[0].keys() - {"step"}, key=lambda name: (name != "loss", name)))
    marker = ".-" if len(rows) < 20 else "-"
    columns = min(4, len(groups))
    lines = -(-len(groups) // columns)
    height = 2.6 + LEGEND_INCHES * max(len(names) for names in groups.values() if names)
    figure = Figure(figsize=(3.2 * columns, height * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axis, (title, names) in zip(axes, groups.items(), strict=False):
        for place, name in enumerate(names):
            label = name.partition("/")[2] or None
            values = [row.get(name, np.nan) for row in rows]
            axis.plot(steps, values, marker, color=PALETTE[place % 8], label=label)
        axis.set(title=title, xlabel="step")
        if len(names) > 1:  # below the panel: beside long names nothing else would be seen
            axis.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, 0),
                borderaxespad=BELOW_LABELS / 8,
                fontsize=8,
                frameon=False,
                ncols=1 if max(map(len, names)) - len(title) > LEGEND_LETTERS else 2,
            )
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)


def _panels(names: Iterable[str]) -> dict[str, list[str]]:
    """Names grouped by what stands before the slash."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition("/")[0], []).append(name)
    return groups
