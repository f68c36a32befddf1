"""Recall against the share of wrong pairs, from sweeps that differ in it."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from unirep_jax.evaluation.figures import PALETTE
from unirep_jax.evaluation.intervals import estimate
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import seed_means, unique
from unirep_jax.tasks.noisy_pairs.tables import is_group

MARKERS = "osD^vPX*"


def noise_curves(path: Path, measurements: Sequence[Measurement], *, score: str = "cosine") -> None:
    """R@1 between single modalities over the share of wrong pairs, a panel per kind of noise.

    Means over seeds with their 95 % intervals; chance as dots, and no untrained network, which is
    as good.

    Args:
      score: by which the searches go, as measurements call it.
    """
    rows = [
        m
        for m in measurements
        if (m.metric, m.selection) == ("recall_at_1", score)
        and not is_group(m)
        and m.method != "untrained"
    ]
    kinds = unique(_noise(m)[0] for m in rows)
    figure = Figure(figsize=(1.5 + 4.6 * len(kinds), 4.2), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axis, kind in zip(panels, kinds, strict=True):
        chosen = [m for m in rows if _noise(m)[0] == kind]
        methods = sorted(unique(m.method for m in chosen), key=lambda name: name == "chance")
        for place, method in enumerate(methods):
            points = {}
            for split in unique(m.split for m in chosen):
                means = seed_means(chosen, method=method, split=split)
                found = estimate([100 * value for value in means.values()])
                if found is not None:
                    points[float(split.split()[1])] = found
            shares = sorted(points)
            chance = method == "chance"
            axis.errorbar(
                shares,
                [points[s].mean for s in shares],
                [points[s].half_width or 0.0 for s in shares],
                label=method,
                color="#888888" if chance else PALETTE[place % 8],
                linestyle=":" if chance else "-",
                marker=None if chance else MARKERS[place % 8],
                capsize=2,
            )
        axis.set(title=f"noise: {kind}", xlabel="share of the training examples", ylim=(0, None))
    panels[0].set_ylabel(f"R@1 on clean test pairs by {score}, %")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.savefig(path, dpi=110)


def _noise(m: Measurement) -> tuple[str, str]:
    """Kind and share."""
    kind, _, share = m.split.partition(" ")
    return kind, share
