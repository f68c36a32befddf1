"""The bar: whether a method beats the rows that cost nothing, and by how much.

Every task measures them beside the method (`BASELINES`). A task's vocabulary names the decisive
metric, the first of its headline.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from unirep_jax.evaluation.intervals import (
    CONFIDENCE,
    Difference,
    difference_of_shares,
    paired_difference,
)
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import unique
from unirep_jax.tasks.sections import Section, by_section, places_of, title_of
from unirep_jax.tasks.task import Vocabulary

LINEAR = {
    "raw": "a probe on raw features",
    "cca": "linear CCA",
    "linear": "logistic regression on raw features",
}
BASELINES = LINEAR | {
    "untrained": "the untrained network",
    "start": "the run that training started from",
}
_OF_BOTH_KINDS = ("hos", "auroc", "oscr")  # of known and of unknown examples

Key = tuple[int, str, str]  # seed, source, target


class Comparison(NamedTuple):
    """Two rows of a section at the places and seeds that they share, in percent.

    over: what the interval is over, "seeds" or "test examples".
    """

    section: Section
    metric: str
    method: str
    against: str
    value: float
    other: float
    difference: Difference
    over: str
    places: int

    @property
    def won(self) -> bool:
        """Whether the method is better beyond the interval."""
        return self.difference.distinguishable and self.difference.mean > 0


def compare(
    section: Section, rows: Sequence[Measurement], metric: str, method: str, against: str
) -> Comparison | None:
    """Two rows of one section; None where they have no place in common.

    Over the seeds that both have, where these are two or more; else over the test examples.

    Args:
      rows: all of the section and, for metrics of known and unknown examples, those that say how
        many there are of each: `os_star` and `unk` of the same places.
    """
    of = lambda name: {
        (m.seed, m.source, m.target): m.value
        for m in rows
        if (m.metric, m.method) == (metric, name) and m.selection == section.selection
    }
    ours, theirs = of(method), of(against)
    shared = [key for key in ours if key in theirs]
    if not shared or method == against:
        return None
    seeds = [_seed_means(found, shared) for found in (ours, theirs)]
    value, other = (statistics.fmean(means.values()) for means in seeds)
    if len(seeds[0]) > 1:
        difference, over = paired_difference(*seeds), "seeds"
    else:
        values, others = ([found[key] for key in shared] for found in (ours, theirs))
        counts = [_count(rows, metric, key) for key in shared]
        difference, over = difference_of_shares(values, others, counts), "test examples"
    assert difference is not None and difference.half_width is not None
    difference = Difference(100 * difference.mean, 100 * difference.half_width, difference.seeds)
    places = len({key[1:] for key in shared})
    return Comparison(
        section, metric, method, against, 100 * value, 100 * other, difference, over, places
    )


def strongest(
    section: Section,
    rows: Sequence[Measurement],
    metric: str,
    method: str,
    against: Iterable[str] = tuple(BASELINES),
) -> Comparison | None:
    """The method against the best of these rows; None where none of them was measured."""
    found = [compare(section, rows, metric, method, name) for name in against]
    measured = [c for c in found if c is not None]
    # Of rows with places of their own the differences tell which is hardest to beat.
    return min(measured, key=lambda c: c.difference.mean, default=None)


def decisive_comparisons(
    measurements: Sequence[Measurement], vocabulary: Vocabulary, method: str
) -> list[Comparison]:
    """The method against the strongest baseline, in each section that has the decisive metric.

    It is the first headline metric that both were measured by in a part of the task.
    """
    parts: dict[tuple[str, str, str], list[Measurement]] = {}
    for m in measurements:
        parts.setdefault((m.experiment, m.dataset, m.split), []).append(m)
    found = []
    for (experiment, *_), rows in parts.items():
        ours = {m.metric for m in rows if m.method == method}
        theirs = {m.metric for m in rows if m.method in BASELINES}
        metrics = [n for n in vocabulary.headline.get(experiment, ()) if n in ours & theirs]
        for section in by_section(rows, vocabulary) if metrics else ():
            found.append(strongest(section, _at(section, rows), metrics[0], method))
    return [c for c in found if c is not None]


def verdict(measurements: Sequence[Measurement], vocabulary: Vocabulary, method: str) -> list[str]:
    """Plain sentences: where the method does not beat the bar, or that it does everywhere."""
    if method in LINEAR:
        return []
    found = decisive_comparisons(measurements, vocabulary, method)
    lost = [_sentence(c, vocabulary) for c in found if not c.won]
    if lost or not found:
        return lost
    names = " and ".join(unique(c.against for c in found))
    return [
        f"{method} beats its strongest baseline ({names}) beyond the {_interval(found[0])} in "
        f"{'the one comparison' if len(found) == 1 else f'all {len(found)} comparisons'} there is."
    ]


def _sentence(c: Comparison, vocabulary: Vocabulary) -> str:
    title, _ = vocabulary.metrics.get(c.metric, (c.metric.replace("_", " "), 100))
    mean, half = c.difference.mean, c.difference.half_width
    where = f", mean of {c.places} places" if c.places > 1 else ""
    if c.difference.distinguishable:
        verb, how = "is WORSE than", f"by {-mean:.1f} ± {half:.1f}"
    else:
        verb, how = "does not beat", f"difference {c.difference}"
    return (
        f"{title_of(c.section, vocabulary)}: {c.method} ({title} {c.value:.1f}) {verb} "
        f"{c.against}, {BASELINES[c.against]} ({c.other:.1f}): {how} ({_interval(c)}{where})."
    )


def _interval(c: Comparison) -> str:
    return f"{100 * CONFIDENCE:.0f} % interval over {c.over}"


def _at(section: Section, rows: Iterable[Measurement]) -> list[Measurement]:
    """What there is at the places of the section, whatever its selection."""
    return [m for m in rows if places_of(m) == section.places]


def _count(rows: Iterable[Measurement], metric: str, key: Key) -> int:
    """Examples at a place; of the rarer kind for a metric of known and unknown examples.

    A mean h over all pairs of a known and an unknown example has a variance of at most
    h (1 − h) / min(known, unknown) (Birnbaum and Klose, Annals of Mathematical Statistics 1957).
    """
    kinds = ("os_star", "unk") if metric in _OF_BOTH_KINDS else ()
    here = [m for m in rows if (m.seed, m.source, m.target) == key]
    counts = [m.num_examples for m in here if m.metric in (metric, *kinds)]
    return max(min(counts), 1)


def _seed_means(found: dict[Key, float], keys: Iterable[Key]) -> dict[int, float]:
    by_seed: dict[int, list[float]] = {}
    for key in keys:
        by_seed.setdefault(key[0], []).append(found[key])
    return {seed: statistics.fmean(values) for seed, values in by_seed.items()}
