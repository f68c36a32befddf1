"""Pictures of out-of-modal generalisation: how modalities connect, and what agreement tells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unirep_jax.evaluation.figures import BELOW_LABELS, PALETTE, write_title


def connection_curves(
    path: Path, curves: Mapping[int, Mapping[str, tuple[float, float]]], modality: str
) -> None:
    """MMD of mapped in-modal and out-of-modal features, and what the heads make of the latter.

    Figure 5 of COX. `curves`: by step and in-modal modality, MMD² and the accuracy of its head on
    the features of `modality`, the out-of-modal one.
    """
    steps, names = sorted(curves), list(next(iter(curves.values())))
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, name in enumerate(names):
        discrepancy, accuracy = np.transpose([curves[step][name] for step in steps])
        left.plot(steps, discrepancy, "o-", color=PALETTE[place % 8], label=f"mapped {name}")
        right.plot(steps, 100 * accuracy, "o-", color=PALETTE[place % 8], label=f"head of {name}")
    left.set(title="discrepancy", xlabel="step", ylabel="MMD²")
    right.set(title="in-modal heads", xlabel="step", ylabel="accuracy (%)")
    write_title(figure, f"mapped in-modal features against {modality} features")
    for axis in (left, right):
        axis.set_ylim(0, None)
        axis.locator_params(nbins=5)
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            frameon=False,
            borderaxespad=BELOW_LABELS / 10,
        )
    figure.savefig(path, dpi=120)


def agreement_bars(path: Path, groups: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Accuracy of the learner where the in-modal heads agree, and where they do not (Figure 6).

    `groups`: by title rows as of `tasks.oom.measures.agreement`; a set that is empty has no
    bar.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for place, (name, title) in enumerate(
        (("agreement", "heads agree"), ("disagreement", "heads disagree"))
    ):
        found = [
            (x + 0.4 * (place - 0.5), row)
            for x, rows in enumerate(groups.values())
            for row in rows
            if row["metric"] == f"{name}_accuracy"
        ]
        heights = [100 * row["value"] for _, row in found]
        axis.bar([at for at, _ in found], heights, 0.38, color=PALETTE[place], label=title)
        for (at, row), height in zip(found, heights, strict=True):
            text = f"{height:.0f}\nn = {row['num_examples']}"
            axis.annotate(text, (at, height), ha="center", va="bottom")
    axis.set(
        xticks=range(len(groups)), xticklabels=list(groups), ylim=(0, 128), ylabel="accuracy (%)"
    )
    axis.legend(loc="upper left", ncols=2)
    figure.savefig(path, dpi=120)


def accuracy_against_information(
    path: Path, curves: Mapping[str, Sequence[tuple[float, float, float]]]
) -> None:
    """Accuracy of methods on data of known information, with deviations over seeds.

    `curves`: by method (information in bits, accuracy, deviation), ascending.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    for place, (name, points) in enumerate(curves.items()):
        bits, accuracy, deviation = np.transpose(points)
        axis.errorbar(
            bits,
            100 * accuracy,
            100 * deviation,
            marker="o",
            capsize=3,
            label=name,
            color=PALETTE[place % 8],
            linestyle=("-", "--")[place // 8 % 2],
        )
    axis.set(xlabel="I(X; Y) of the out-of-modal modality (bits)", ylabel="accuracy (%)")
    axis.set_ylim(0, 100)
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
