"""Tables of out-of-modal generalisation, a row per out-of-modal modality and method."""

from collections.abc import Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique

SETTINGS = {"semi": "semi-supervised", "unsupervised": "unsupervised"}
CLASSIFICATION = (
    ("accuracy", "accuracy"),
    ("macro_accuracy", "macro accuracy"),
    ("class_recall_at_5", "class R@5"),
    ("cluster_accuracy", "clusters matched"),
    ("probe_accuracy", "linear probe"),
)
SEARCH = (
    ("instance_recall_at_1", "R@1"),
    ("instance_recall_at_5", "R@5"),
    ("class_map", "class mAP"),
)
AGREEMENT = (
    ("agreement_share", "heads agree"),
    ("agreement_accuracy", "accuracy where they do"),
    ("disagreement_accuracy", "where they do not"),
)
LABEL_FREE = (
    " Clusters are matched to classes with the test labels, and the linear probe has all training "
    "labels: neither is a result without labels."
)
MOMENTS = {
    "before": "before exploration",
    "after, same sets": "after exploration on the sets of before",
    "after": "after exploration",
}
CHANCE = "chance"


def out_of_modal_tables(measurements: Sequence[Measurement]) -> str:
    """Per data set and setting: Tables 2 and 3 of COX and the numbers of its Figures 5 and 6.

    Of in-modal heads, accuracy on out-of-modal features before and after exploration.
    """
    sections: dict[tuple[str, str], list[Measurement]] = {}
    for m in measurements:
        sections.setdefault((m.dataset, m.split), []).append(m)
    return "\n".join(
        f"### {dataset}: {SETTINGS[setting]}\n\n{_section(rows)}"
        for (dataset, setting), rows in sections.items()
    )


def _section(rows: Sequence[Measurement]) -> str:
    seeds = len({m.seed for m in rows})
    cells = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    label_free = LABEL_FREE if any(m.metric == "cluster_accuracy" for m in rows) else ""
    parts = [
        f"Test part of the out-of-modal modality. Percent, {cells}.{label_free}\n\n"
        + _table(rows, CLASSIFICATION)
    ]
    if any(m.metric == "instance_recall_at_1" for m in rows):
        parts.append(
            "#### Out-of-modal features among mapped in-modal ones\n\nThe same example by mean "
            "distance to the mappings of its other modalities. Percent.\n\n" + _table(rows, SEARCH)
        )
    for selection, title in MOMENTS.items():
        chosen = [m for m in rows if m.selection == selection]
        if chosen:
            heads = unique(m.target for m in chosen if m.metric == "in_modal_accuracy")
            parts.append(
                f"#### Agreement of the in-modal heads, {title}\n\nAccuracy of the "
                "learner, and of each in-modal head on its features. Percent.\n\n"
                + _table(chosen, AGREEMENT, heads)
            )
    return "\n".join(parts)


def _table(
    rows: Sequence[Measurement], columns: Sequence[tuple[str, str]], heads: Sequence[str] = ()
) -> str:
    """A row per (modality, method), guessing last of each modality; columns that were measured."""
    columns = [pair for pair in columns if any(m.metric == pair[0] for m in rows)]
    shown = [m for m in rows if any(m.metric == name for name, _ in columns)]
    lines = []
    for source in unique(m.source for m in shown):
        methods = unique(m.method for m in shown if m.source == source)
        for method in sorted(methods, key=lambda name: name == CHANCE):
            wanted = {"source": source, "method": method}
            cells = [cell(shown, metric=name, **wanted) for name, _ in columns]
            cells += [
                cell(rows, metric="in_modal_accuracy", target=head, **wanted) for head in heads
            ]
            lines.append([source, method, *cells])
    header = ["out-of-modal", "method", *(title for _, title in columns)]
    return markdown_table([*header, *(f"head of {head}" for head in heads)], lines)
