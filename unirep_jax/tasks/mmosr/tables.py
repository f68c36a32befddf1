"""Tables of multimodal open-set recognition, a row per method and modalities."""

import dataclasses
import statistics
from collections.abc import Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.ranks import mean_ranks
from unirep_jax.evaluation.tables import (
    OPEN_SET_METRICS,
    cell,
    markdown_table,
    seed_means,
    unique,
)

COLUMNS = (
    ("macro_accuracy", "ACC"),
    ("auroc", "AUROC"),
    ("oscr", "OSCR"),
    ("aupr_known", "AUIN"),
    ("aupr_unknown", "AUOUT"),
    ("detection_accuracy", "DTACC"),
    ("tnr_at_95", "TNR"),
    ("ccr_at_10", "CCR@10"),
)
LEGEND = (
    "ACC: mean over the known classes, nothing rejected. AUIN, AUOUT: area under precision and "
    "recall of finding known, unknown examples. DTACC: mean of the shares of known accepted and of "
    "unknown rejected, at the best threshold. TNR: unknown examples rejected where 95 % of known "
    "ones are accepted. CCR@10: known examples accepted and right where at most 10 % of unknown "
    "ones are accepted."
)
EXPERTS = (("experts_used", "used by all"), ("experts_per_example", "used by an example"))
GAPS = (("gap", "mean ΔACC (points)"), ("degraded", "classes with ΔACC > 0 (%)"))
SINGLE, CHANCE = "single", "chance"  # methods: a classifier of each modality; guessing


def recognition_tables(measurements: Sequence[Measurement]) -> str:
    """Per data set and split: Tables 1 and 5 of MRN, rejection, fusion degradation, as Markdown.

    Rejection is at the threshold fixed on held-out known examples. Fusion degradation is there if
    classifiers of the single modalities were measured.
    """
    sections: dict[tuple[str, str], list[Measurement]] = {}
    for m in measurements:
        sections.setdefault((m.dataset, m.split), []).append(m)
    return "\n".join(
        f"### {dataset}: {split}\n\n{_section(rows)}" for (dataset, split), rows in sections.items()
    )


def _section(rows: Sequence[Measurement]) -> str:
    splits = len({m.seed for m in rows})
    cells = f"mean over {splits} class splits" if splits > 1 else "one split"
    openness = [m.value for m in rows if m.metric == "openness"]
    about = f" Openness {statistics.fmean(openness):.3f}." if openness else ""
    parts = [
        f"Percent, {cells}.{about} {LEGEND}\n\n"
        + _table([m for m in rows if m.selection == "test"], COLUMNS)
    ]
    rejection = [m for m in rows if m.selection == "held_out"]
    if rejection:
        parts.append(
            "#### Rejection\n\nThreshold fixed on held-out known examples. Percent.\n\n"
            + _table(rejection, OPEN_SET_METRICS)
        )
    if ranks := _ranks(rows):
        parts.append(ranks)
    if any(m.metric == EXPERTS[0][0] for m in rows):
        parts.append(
            "#### Experts\n\nEffective number, exp of the entropy of the gates, in percent of all "
            "experts; used by all near one expert: the gates have collapsed.\n\n"
            + _table(rows, EXPERTS)
        )
    gaps = _accuracy_gaps(rows)
    if gaps:
        parts.append(
            "#### Fusion degradation (eq. 7)\n\nΔACC of a class: accuracy of the best single "
            "modality there less that of the fusion; positive where fusion does worse.\n\n"
            + _table(gaps, GAPS)
        )
    return "\n".join(parts)


def _table(rows: Sequence[Measurement], columns: Sequence[tuple[str, str]]) -> str:
    """A row per (method, source); guessing last, in one row if it gives all sources the same."""
    rows = [m for m in rows if any(m.metric == name for name, _ in columns)]
    lines, guesses = [], []
    for method, source in unique((m.method, m.source) for m in rows):
        wanted = {"method": method, "source": source}
        cells = [cell(rows, metric=name, **wanted) for name, _ in columns]
        (guesses if method == CHANCE else lines).append([method, source, *cells])
    if len({tuple(cells) for _, _, *cells in guesses}) == 1:
        guesses = [[CHANCE, "any", *guesses[0][2:]]]
    header = ["method", "modalities", *(title for _, title in columns)]
    return markdown_table(header, lines + guesses)


def _ranks(rows: Sequence[Measurement]) -> str:
    """Mean ranks by OSCR over the class splits, best first; "" where there are none."""
    rows = [m for m in rows if m.metric == "oscr" and m.method != CHANCE]
    values = {
        f"{method} ({source})": seed_means(rows, method=method, source=source)
        for method, source in unique((m.method, m.source) for m in rows)
    }
    ranks = mean_ranks(values)
    if ranks is None:
        return ""
    lines = [[name, f"{rank:.2f}"] for name, rank in sorted(ranks.mean.items(), key=lambda x: x[1])]
    return (
        f"#### Mean rank by OSCR\n\nOver {ranks.splits} class splits, which all rows share. Rows "
        f"that differ by less than {ranks.critical:.2f} are not distinguishable (Nemenyi's test at "
        "0.05, all pairs at once).\n\n" + markdown_table(["row", "mean rank"], lines, names=1)
    )


def _accuracy_gaps(rows: Sequence[Measurement]) -> list[Measurement]:
    """Per class and seed, ΔACC_c = maxₘ ACC_c(m) − ACC_c(fused), and whether it is positive.

    The maximum is over the modalities that are fused. Where one of them has no classifier of its
    own in that seed there is no gap.
    """
    rows = [m for m in rows if m.metric == "class_accuracy"]
    single = {(m.source, m.seed, m.target): m.value for m in rows if m.method == SINGLE}
    gaps = []
    for m in rows:
        parts = [(modality, m.seed, m.target) for modality in m.source.split("+")]
        fused = len(parts) > 1 and m.method not in (SINGLE, CHANCE)
        if fused and all(part in single for part in parts):
            gap = max(single[part] for part in parts) - m.value
            gaps.append(dataclasses.replace(m, metric="gap", value=gap))
            gaps.append(dataclasses.replace(m, metric="degraded", value=float(gap > 0)))
    return gaps
