"""What a method that reads words and pictures takes from the kinds of modalities."""

from collections.abc import Mapping, Sequence

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import Kind
from unirep_jax.data.words import UNKNOWN


def kinds_of(feature_set: FeatureSet, declared: Sequence[tuple[str, str]]) -> dict[str, Kind]:
    """The kinds of all modalities; those declared replace what the data say.

    Raises:
      ValueError: there is no such modality or kind, or its features cannot be of it.
    """
    kinds = dict(feature_set.kinds)
    for m, name in declared:
        kind = Kind(name) if name in [k.value for k in Kind] else None
        if m not in kinds or kind is None or not kind.fits(feature_set.features[m]):
            found = ", ".join(f"{m} {k.value}" for m, k in kinds.items())
            raise ValueError(f"kinds: ({m!r}, {name!r}) does not fit the data: {found}")
        kinds[m] = kind
    return kinds


def vocabularies(
    feature_set: FeatureSet, kinds: Mapping[str, Kind], given: Sequence[tuple[str, int]]
) -> dict[str, int]:
    """Numbers of word ids of the modalities made of words.

    Those given, or all up to the largest id of the present training examples: at least two, padding
    and the unknown word.

    Raises:
      ValueError: one is given of a modality that is not made of words.
    """
    sizes = {}
    for m in (m for m, kind in kinds.items() if kind is Kind.WORDS):
        rows = feature_set.train & feature_set.present[m]
        sizes[m] = 1 + int(feature_set.features[m][rows].max(initial=UNKNOWN))
    for m, size in given:
        if m not in sizes:
            raise ValueError(f"vocabulary: {m!r} is none of the modalities made of words")
        sizes[m] = size
    return sizes
