"""Pictures of open-set recognition: curves, scores, experts, features and decisions.

Everywhere label −1 is an unknown class, prediction −1 a rejected example, and a higher score means
more known: an example is accepted iff score ≥ threshold.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unirep_jax import metrics
from unirep_jax.data.safe_text import figure_text
from unirep_jax.evaluation.figures import NAME_LENGTH, PALETTE, spread, write_title

KNOWN, WRONG, UNKNOWN = PALETTE[0], PALETTE[1], PALETTE[5]
MAP_EXAMPLES = 600
# A colour and a shape for each named class; black crosses are left to the unknown examples.
CLASS_STYLES = tuple(zip((*PALETTE[:7], "#882255"), "o^sDv<>h", strict=True))
OTHER_KNOWN = "#8FA8BF"
NUMBERED_CLASSES = 12  # a confusion matrix of more has colours only


def open_set_curves(
    path: Path,
    scores: Float[np.ndarray, "example"],
    label: Int[np.ndarray, "example"],
    predicted_class: Int[np.ndarray, "example"],
    *,
    threshold: float,
    title: str,
) -> None:
    """ROC of known against unknown, and correct classification rate against false positive rate.

    A star on either curve is what the threshold gives. The right curve is a stair: at each FPR the
    highest CCR that the detector reaches without more unknown examples; it ends at the accuracy.

    Args:
      path: of the PNG file.
      scores: [example], finite.
      label: [example], −1 for an unknown class; both kinds must be there.
      predicted_class: [example], before any rejection.
      threshold: of acceptance.
      title: what the scores are of; the numbers of examples are added.
    """
    known, right = _known_and_right(scores, label, predicted_class)
    inside, outside, right = scores[known], scores[~known], right[known]
    roc = metrics.oscr_curve(inside, outside, np.ones_like(right))
    curve = metrics.oscr_curve(inside, outside, right)
    tpr, fpr = np.mean(inside >= threshold), np.mean(outside >= threshold)
    ccr, accuracy = np.mean(right & (inside >= threshold)), right.mean()

    figure = Figure(figsize=(11, 5.6), layout="constrained")
    left, stairs = figure.subplots(1, 2)
    left.plot(
        roc.fpr, roc.ccr, color=KNOWN, lw=2, label=f"AUROC {metrics.auroc(inside, outside):.1%}"
    )
    left.plot((0, 1), (0, 1), ":", color="0.5", label="chance")
    left.plot(
        fpr,
        tpr,
        "*",
        ms=15,
        color=UNKNOWN,
        mec="k",
        clip_on=False,
        zorder=5,
        label=f"threshold {threshold:.4g}: TPR {tpr:.1%} at FPR {fpr:.1%}",
    )
    left.set(
        xlabel="unknown accepted (FPR)",
        ylabel="known accepted (TPR)",
        title="ROC",
        xlim=(0, 1),
        ylim=(0, 1.01),
        aspect="equal",
    )

    lowest = 0.5 / len(outside)  # the log axis shows no 0: what is reached there starts at its edge
    stairs.plot(
        np.maximum(curve.fpr, lowest),
        curve.ccr,
        drawstyle="steps-post",
        color=KNOWN,
        lw=2,
        label=f"OSCR {metrics.oscr(inside, outside, right):.1%}",
    )
    stairs.axhline(accuracy, ls="--", color="0.5", label=f"accuracy {accuracy:.1%}")
    rates = np.geomspace(lowest, 1, 200)
    stairs.plot(rates, accuracy * rates, ":", color="0.5", label="scores by chance")
    stairs.plot(
        max(fpr, lowest),
        ccr,
        "*",
        ms=15,
        color=UNKNOWN,
        mec="k",
        clip_on=False,
        zorder=5,
        label=f"threshold: CCR {ccr:.1%} at FPR {fpr:.1%}",
    )
    stairs.set(
        xscale="log",
        xlim=(lowest, 1),
        ylim=(0, 1.01),
        xlabel="unknown accepted (FPR)",
        ylabel="known accepted and right (CCR)",
        title="CCR against FPR (log scale)",
    )
    for axis in (left, stairs):
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    write_title(figure, f"{title}: {_counts(known)}")
    figure.savefig(path, dpi=120)


def score_histograms(
    path: Path,
    scores: Float[np.ndarray, "example"],
    label: Int[np.ndarray, "example"],
    predicted_class: Int[np.ndarray, "example"],
    *,
    threshold: float,
    title: str,
) -> None:
    """Scores of known examples classified rightly and wrongly, and of unknown ones, in equal bins.

    Heights are shares of each group, so that a small group is seen as well. Args as
    `open_set_curves`.
    """
    known, right = _known_and_right(scores, label, predicted_class)
    groups = {
        "known, right class": (scores[right], KNOWN),
        "known, wrong class": (scores[known & ~right], WRONG),
        "unknown": (scores[~known], UNKNOWN),
    }
    bins = np.histogram_bin_edges(scores, bins=40)
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for axis, (name, (values, colour)) in zip(axes, groups.items(), strict=True):
        weights = np.full(len(values), 1 / max(len(values), 1))
        axis.hist(values, bins, weights=weights, color=colour, edgecolor="white", linewidth=0.4)
        axis.axvline(threshold, color="k", ls="--", lw=1.5)
        accepted = f", {np.mean(values >= threshold):.1%} accepted" if len(values) else ""
        axis.set_title(f"{name}: {len(values)} examples{accepted}", loc="left", fontsize=11)
        axis.set_ylabel("share of the group")
        axis.yaxis.set_major_formatter(_percent)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        if not len(values):
            axis.set_ylim(0, 1)
    axes[-1].set_xlabel(
        f"score (higher: more known); dashed: threshold {threshold:.4g}, accepted from there on"
    )
    write_title(figure, f"{title}: {_counts(known)}")
    figure.savefig(path, dpi=120)


def expert_load(
    path: Path,
    gates: Float[np.ndarray, "example expert"],
    label: Int[np.ndarray, "example"],
    class_names: Sequence[str],
    *,
    title: str,
) -> None:
    """Which experts the classes use: mean gate of each class, and the load of each expert.

    Args:
      path: of the PNG file.
      gates: [example, expert], weights of the experts, none below 0.
      label: [example], −1 for an unknown class; these are the last row.
      class_names: of the known classes; one without examples has an empty row.
      title: what the gates are of; the numbers of examples are added.
    """
    mean, names = _mean_by_class(gates, label, class_names)
    load = gates.sum(0) / gates.sum()
    experts = np.arange(gates.shape[1])

    size = (max(7, 0.4 * len(experts) + 3), 2.6 + min(0.28 * max(len(names), 6), 12))
    figure = Figure(figsize=size, layout="constrained")
    (bars, empty), (rows, scale) = figure.subplots(
        2, 2, width_ratios=(30, 1), height_ratios=(1.6, size[1] - 2.6)
    )
    empty.set_axis_off()
    bars.bar(experts, load, 0.8, color=KNOWN)
    bars.axhline(1 / len(experts), ls="--", color="k", lw=1, label="balanced")
    bars.set(
        xlim=(-0.5, len(experts) - 0.5),
        ylabel="share of load",
        xticks=experts,
        xticklabels=[],
        ylim=(0, 1.3 * max(load.max(), 1 / len(experts))),
    )
    bars.yaxis.set_major_formatter(_percent)
    bars.legend(loc="upper right", frameon=False, borderaxespad=0.1)
    image = rows.imshow(mean, aspect="auto", cmap="viridis", vmin=0, interpolation="none")
    rows.axhline(len(class_names) - 0.5, color="white", lw=_line_width(len(names)))
    rows.set(xlabel="expert", xticks=experts)
    _name_rows(rows, names)
    rows.tick_params(axis="x", labelsize=10 if len(experts) <= 24 else 7)
    figure.colorbar(image, cax=scale, label="mean gate")
    write_title(figure, f"{title}:\n{_counts(label >= 0)}")
    figure.savefig(path, dpi=120)


def feature_map(
    path: Path,
    features: Float[np.ndarray, "example dim"],
    label: Int[np.ndarray, "example"],
    class_names: Sequence[str],
    *,
    title: str,
) -> None:
    """t-SNE of features: known classes in colours, unknown examples as black crosses.

    The eight most frequent known classes are named. Of more than 600 examples, 600 are shown.

    Args:
      path: of the PNG file.
      features: [example, dim], of at least two examples.
      label: [example], −1 for an unknown class.
      class_names: of the known classes.
      title: what the features are of; the numbers of examples are added.
    """
    from sklearn.manifold import TSNE

    _same_length(features=features, label=label)
    rows = spread(np.arange(len(label)), MAP_EXAMPLES)
    label_shown = label[rows]
    place = TSNE(init="random", perplexity=min(30.0, len(rows) / 4), random_state=0).fit_transform(
        np.asarray(features, np.float32)[rows]
    )

    figure = Figure(figsize=(9.5, 6.5), layout="constrained")
    axis = figure.subplots()
    points = lambda rows: (place[rows, 0], place[rows, 1])
    classes, count = np.unique(label_shown[label_shown >= 0], return_counts=True)
    named = sorted(classes[np.argsort(-count, kind="stable")][: len(CLASS_STYLES)])
    unknown, others = label_shown < 0, (label_shown >= 0) & ~np.isin(label_shown, named)
    if others.any():
        name = f"{len(classes) - len(named)} other known classes ({others.sum()})"
        axis.scatter(*points(others), 16, OTHER_KNOWN, linewidths=0, label=name)
    if unknown.any():
        axis.scatter(
            *points(unknown),
            22,
            "k",
            marker="x",
            linewidths=0.9,
            alpha=0.7,
            label=f"unknown ({unknown.sum()})",
        )
    for c, (colour, marker) in zip(named, CLASS_STYLES, strict=False):
        here = label_shown == c
        axis.scatter(
            *points(here),
            34,
            colour,
            marker=marker,
            linewidths=0.4,
            edgecolors="0.25",
            label=f"{_short(class_names[c])} ({here.sum()})",
        )
    axis.set(xticks=[], yticks=[])
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    part = "" if len(rows) == len(label) else f" (of {len(label)})"
    write_title(figure, f"{title}:\nt-SNE of {_counts(~unknown)}{part}")
    figure.savefig(path, dpi=120)


def confusion(
    path: Path,
    label: Int[np.ndarray, "example"],
    predicted: Int[np.ndarray, "example"],
    class_names: Sequence[str],
    *,
    title: str,
) -> None:
    """Decisions by true class in percent of its examples, with unknown row and rejected column.

    Args:
      path: of the PNG file.
      label: [example], −1 for an unknown class.
      predicted: [example], −1 where rejected.
      class_names: of the known classes; a class without examples has an empty row.
      title: whose decisions they are; the numbers of examples are added.
    """
    counts = metrics.confusion_matrix(label, predicted, num_classes=len(class_names))
    total = counts.sum(1, keepdims=True)
    percent = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    size = min(2.5 + max(0.5, 0.9 - 0.03 * len(total)) * len(total), 16)
    figure = Figure(figsize=(size + 0.9, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(percent, cmap="cividis", vmin=0, vmax=100, interpolation="none")
    columns = [*map(_short, class_names), "rejected"]
    places = np.arange(len(columns))
    axis.set(xlabel="predicted", ylabel="true class (examples)")
    axis.set_xticks(places, columns, rotation=90, fontsize=_label_size(len(columns)))
    _name_rows(axis, _counted(class_names, total.ravel()))
    for border in (axis.axhline, axis.axvline):
        border(len(class_names) - 0.5, color="white", lw=_line_width(len(columns)))
    if len(class_names) <= NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            value = percent[row, column]
            axis.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                color="white" if value < 50 else "black",
            )
    figure.colorbar(image, ax=axis, shrink=0.8, aspect=35, label="percent of the row")
    write_title(figure, f"{title}:\n{_counts(np.asarray(label) >= 0)}")
    figure.savefig(path, dpi=120)


def _known_and_right(scores, label, predicted_class):
    """Masks over the examples: of a known class; of a known class and rightly classified."""
    _same_length(scores=scores, label=label, predicted_class=predicted_class)
    known = label >= 0
    if known.all() or not known.any():
        raise ValueError("label must hold known classes (from 0) and unknown ones (-1)")
    return known, known & (predicted_class == label)


def _mean_by_class(gates, label, class_names):
    """Mean gate [class + 1, expert], NaN where there is no example, and the names of the rows."""
    _same_length(gates=gates, label=label)
    if not gates.sum() > 0:
        raise ValueError("gates are all 0: no expert has any load")
    row = np.where(label < 0, len(class_names), label)
    count = np.bincount(row, minlength=len(class_names) + 1)
    total = np.zeros((len(count), gates.shape[1]))
    np.add.at(total, row, gates)
    mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)
    return mean, _counted(class_names, count)


def _counted(class_names: Sequence[str], count: Int[np.ndarray, "row"]) -> list[str]:
    """Names of the rows, "unknown" the last, with the number of examples of each."""
    names = [*map(_short, class_names), "unknown"]
    return [f"{name} ({n})" for name, n in zip(names, count, strict=True)]


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(np.arange(len(names)), names, fontsize=_label_size(len(names)))


def _label_size(count: int) -> float:
    """Points, so that this many labels fit on the longest side that a figure has."""
    return float(np.clip(500 / count, 5, 10))


def _line_width(count: int) -> float:
    """Points, thin beside the rows of so many classes."""
    return float(np.clip(50 / count, 1, 3))


def _percent(share: float, _place: int) -> str:
    return f"{100 * share:.3g}%"


def _short(name: str) -> str:
    return figure_text(name, NAME_LENGTH)


def _counts(known) -> str:
    return f"{np.sum(known)} known and {np.sum(~known)} unknown examples"


def _same_length(**arrays: np.ndarray) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ValueError(f"not of the same examples: {lengths}")
