"""A picture of a codebook: which modalities share its codes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unirep_jax.data import FeatureSet
from unirep_jax.data.safe_text import figure_text
from unirep_jax.evaluation.figures import PALETTE
from unirep_jax.methods.method import Values

SHARED_AT = 0.1  # a modality shares a code when at least this part of the code's use is its own


def usage_shares(indices: dict[str, np.ndarray], codes: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each code is used [code], and each modality's share of that [modality, code].

    Counts are divided by each modality's number of tokens, so modalities weigh alike.
    """
    counts = np.stack(
        [np.bincount(i.ravel(), minlength=codes) / max(i.size, 1) for i in indices.values()]
    )
    total = counts.sum(0)
    return total, counts / np.where(total > 0, total, 1)


def codebook_usage(
    path: Path, codebook: Values, indices: Mapping[str, Values], feature_set: FeatureSet
) -> None:
    """Codes of the test split by the modalities that share them (Figure 6 of MICU).

    Above, every used code's modality shares, the most shared first; below, the codebook in its two
    principal directions, coloured by how many modalities have at least a tenth of the code's use.

    Args:
      codebook: [code, dim].
      indices: by modality, the codes of every example, [example, time].
    """
    test = ~feature_set.train
    chosen = {m: np.asarray(i)[test & feature_set.present[m]] for m, i in indices.items()}
    codebook = np.asarray(codebook, np.float64)
    total, share = usage_shares(chosen, len(codebook))
    used = np.flatnonzero(total)
    sharing = (share >= SHARED_AT).sum(0)
    order = used[np.lexsort((-share[:, used].max(0), sharing[used]))[::-1]]

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    bars, scatter = figure.subplots(2, 1, height_ratios=(1, 2))
    bottom = np.zeros(len(order))
    for place, (modality, values) in enumerate(zip(chosen, share[:, order], strict=True)):
        bars.bar(
            np.arange(len(order)), values, 1.0, bottom, label=modality, color=PALETTE[place % 8]
        )
        bottom += values
    bars.set(
        xlim=(-0.5, len(order) - 0.5),
        ylim=(0, 1),
        xlabel="used codes, most shared first",
        ylabel="share of use",
        title=f"{figure_text(feature_set.name)}, test split: {len(used)} of {len(codebook)} codes "
        "used",
    )
    # Above both panels: bars fill theirs, and five names are wider than a corner of it.
    figure.legend(
        *bars.get_legend_handles_labels(), ncols=min(len(chosen), 4), loc="outside upper center"
    )

    centred = codebook[used] - codebook[used].mean(0)
    _, _, directions = np.linalg.svd(centred)  # whole: one used code has no direction of its own
    x, y = (centred @ directions[:2].T).T
    size = 10 + 150 * total[used] / total.max()
    for count in range(1, len(chosen) + 1):
        here = sharing[used] == count
        name = "modality" if count == 1 else "modalities"
        scatter.scatter(
            x[here],
            y[here],
            size[here],
            color=PALETTE[(count - 1) % 8],
            alpha=0.75,
            linewidths=0,
            label=f"{count} {name}: {here.sum()} codes ({100 * here.sum() / len(used):.0f} %)",
        )
    scatter.set(
        xlabel="first principal direction",
        ylabel="second principal direction",
        title=f"codes by number of modalities with at least {SHARED_AT:.0%} of their use; "
        "area: frequency",
    )
    scatter.legend(loc="best")
    figure.savefig(path, dpi=120)
