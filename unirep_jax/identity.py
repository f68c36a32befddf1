"""What a checkpoint and a result depend on, so that none is taken for another's."""

import json
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unirep_jax import __version__
from unirep_jax.data import FeatureSet
from unirep_jax.data.fingerprint import fingerprint

# What changes nothing of what is trained: where the data and the run to start from lie (their
# content is compared), how often something is written.
NEUTRAL = ("path", "run", "log_every", "checkpoint_every", "checkpoint_seconds")
SEARCH = ("search", "space")  # the settings that a search finds count, not how it found them
NO_START = ("start.sha256", "")  # as without the section, which runs of before do not have
NEUTRAL_SECTIONS = ("log",)  # where a run is tracked


class Identity(NamedTuple):
    """Of a trained network.

    settings: dotted settings of training; data: of the whole feature set, before anything of it is
    replaced by embeddings; version: of this package.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    version: str = __version__

    def facts(self) -> dict[str, Any]:
        """Settings and data, as they are written and read back."""
        return plain(self.settings | self.data)


def identity(config: ConfigDict, data: FeatureSet, evaluation: tuple[str, ...] = ()) -> Identity:
    """Of the network that a configuration trains on these data.

    Args:
      config: the whole configuration.
      data: the feature set as it was loaded.
      evaluation: dotted names of settings, or of whole sections, that training does not depend on.
    """
    return Identity(training_settings(config, evaluation), _described(data))


def training_settings(config: ConfigDict, evaluation: tuple[str, ...] = ()) -> dict[str, Any]:
    """The dotted settings that the trained network is a function of."""
    settings = flat(resolved(config))
    return {
        name: value
        for name, value in settings.items()
        if name.rpartition(".")[2] not in NEUTRAL
        and not _within(name, (*evaluation, *SEARCH, *NEUTRAL_SECTIONS))
        and (name, value) != NO_START
    }


def evaluation_settings(config: ConfigDict, evaluation: tuple[str, ...]) -> dict[str, Any]:
    """The dotted settings that results depend on, and training does not."""
    settings = flat(resolved(config))
    return {name: value for name, value in settings.items() if _within(name, evaluation)}


def difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first of the facts that differ, in words; "" where all are the same."""
    absent = "absent"
    changed = sorted(
        name
        for name in there.keys() | here.keys()
        if there.get(name, absent) != here.get(name, absent)
    )
    if not changed:
        return ""
    name = changed[0]
    more = f" ({len(changed)} settings differ)" if len(changed) > 1 else ""
    was, now = (facts.get(name, absent) for facts in (there, here))
    return f"{name} is {was!r} there and {now!r} here{more}"


def resolved(config: ConfigDict) -> dict[str, Any]:
    """All settings, as they are written and read back."""
    return plain(config.to_dict())


def plain(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree after a way through JSON."""
    return json.loads(json.dumps(tree))


def flat(tree: dict, prefix: str = "") -> dict:
    """Nested settings under dotted names."""
    result = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        result |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return result


def _within(name: str, sections: tuple[str, ...]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _described(data: FeatureSet) -> dict[str, Any]:
    """The shapes come first among what differs, since they say more than a hash."""
    described: dict[str, Any] = {
        "data: examples": len(data.label),
        "data: training examples": int(data.train.sum()),
        "data: classes": data.num_classes,
    }
    for modality, array in data.features.items():
        described[f"data: modality {modality}"] = f"{array.dtype} {list(array.shape[1:])}"
    return described | {"data: values (hash)": fingerprint(data)}
