"""Measurements by what can be compared: same task, data, split, selection and kind of place."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks.task import Vocabulary

WITHIN, GROUPS = "within a modality", "one modality against the others"
_UNNAMED = ("all", "none", "test")  # splits and selections that a title does without


class Section(NamedTuple):
    """What measurements have in common; `places` is "", WITHIN or GROUPS."""

    experiment: str
    dataset: str
    split: str
    selection: str
    places: str


def by_section(
    measurements: Iterable[Measurement], vocabulary: Vocabulary
) -> dict[Section, list[Measurement]]:
    """The measurements of headline metrics by section, in the order of their appearance."""
    found: dict[Section, list[Measurement]] = {}
    for m in measurements:
        if m.metric in vocabulary.headline.get(m.experiment, ()):
            section = Section(m.experiment, m.dataset, m.split, m.selection, places_of(m))
            found.setdefault(section, []).append(m)
    return found


def headline_of(section: Section, rows: Sequence[Measurement], vocabulary: Vocabulary) -> list[str]:
    """The headline metrics that were measured there, the decisive one first."""
    measured = {m.metric for m in rows}
    return [name for name in vocabulary.headline[section.experiment] if name in measured]


def title_of(section: Section, vocabulary: Vocabulary) -> str:
    """The section in words."""
    split = vocabulary.splits.get(section.split, section.split)
    parts = [
        section.dataset,
        vocabulary.experiments.get(section.experiment, vocabulary.title),
        *(part.replace("_", " ") for part in (split, section.selection) if part not in _UNNAMED),
        section.places,
    ]
    return ", ".join(filter(None, parts))


def place_of(m: Measurement) -> str:
    """Direction between modalities, or the modalities alone."""
    return f"{m.source} → {m.target}" if m.target else m.source


def places_of(m: Measurement) -> str:
    """Of which kind the place is: "", WITHIN or GROUPS."""
    if m.target and m.source == m.target:
        return WITHIN
    return GROUPS if m.target and "+" in m.source + m.target else ""
