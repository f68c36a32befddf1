"""Settings that a configuration leaves open, as None, follow the data.

Configurations of users' own features leave open what no fixed number suits: how many steps, how
large a batch, how deep an encoder. What is chosen is printed and stored with the run. The values
were found on vectors of 600 to 2,000 pairs (docs/search.md); `--config.search=N` looks further.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unirep_jax.data import FeatureSet
from unirep_jax.identity import flat
from unirep_jax.methods.linear_start import MOST_FEATURES

EPOCHS = 60
EPOCHS_OF_CODES = 200  # of sequences: codes of time steps settle late
FEWEST_STEPS, MOST_STEPS = 300, 3000
LARGEST_BATCH = 128
MOST_FOR_SUM = 3  # modalities, of which all tuples of a batch can be summed
# Modalities: two others that are alike leave the volume of more no height to compare anchors by.
MOST_FOR_VOLUME = 3
WIDE = 3  # more numbers than so many times the pairs


class Facts(NamedTuple):
    """What defaults depend on. pairs: training items with two modalities or more; modalities:
    how many; vectors: whether none has a time axis; widest: most numbers of one example; codes:
    whether the method has a codebook."""

    pairs: int
    modalities: int
    vectors: bool
    widest: int
    codes: bool = False


def facts(data: FeatureSet, codes: bool = False) -> Facts:
    """Those of a feature set, and whether the method has a codebook."""
    there = np.sum([data.present[m] for m in data.modalities], axis=0)
    shapes = [x.shape[1:] for x in data.features.values()]
    return Facts(
        pairs=data.items(data.train & (there > 1)),
        modalities=len(shapes),
        vectors=all(len(shape) == 1 or shape[0] == 1 for shape in shapes),
        widest=max(int(np.prod(shape)) for shape in shapes),
        codes=codes,
    )


def batch_size(f: Facts) -> int:
    """A quarter of the pairs, as a power of two within 8 … 128: negatives, and many batches."""
    quarter = max(f.pairs // 4, 1)
    return min(max(1 << (quarter.bit_length() - 1), 8), LARGEST_BATCH)


def steps(f: Facts) -> int:
    """60 epochs, of sequences and codes 200, in tens, within 300 … 3,000."""
    epochs = EPOCHS_OF_CODES if f.codes and not f.vectors else EPOCHS
    count = epochs * f.pairs / batch_size(f)
    return int(min(max(round(count / 10) * 10, FEWEST_STEPS), MOST_STEPS))


def linear_start(f: Facts) -> bool:
    """Of vectors: what two sides share is linear more often than few pairs can teach otherwise."""
    return f.vectors and f.widest <= MOST_FEATURES


def noise(f: Facts) -> float:
    """Of towers much, where few pairs could spoil a linear start; of codes where data are wide."""
    if f.codes:
        return 0.5 if f.vectors and f.widest > WIDE * f.pairs else 0.1
    return 1.0 if linear_start(f) else 0.4


def steps_of_epochs(config: ConfigDict, data: FeatureSet) -> int:
    """Those of `config.epochs` epochs of the training examples, a full program more at most."""
    batch, fused = config.batch_size, config.train.get("fused", 1)
    return fused * math.ceil(config.epochs * data.items(data.train) / (batch * fused))


RULES: dict[str, Callable[[Facts], Any]] = {
    "batch_size": batch_size,
    "steps": steps,
    "method.linear_start": linear_start,
    "method.noise": noise,
    "method.measure": lambda f: "volume" if f.modalities <= MOST_FOR_VOLUME else "cosine",
    "method.temperature": lambda f: 0.05 if f.modalities <= MOST_FOR_VOLUME else 0.1,
    "method.warm_start": lambda f: 0 if linear_start(f) else 150,  # both leave random towers
    "method.layers": lambda f: 1 if f.vectors else 3,
    "method.warp": lambda f: 0.0 if f.vectors else 0.15,
    "method.groups": lambda f: "all" if f.modalities <= MOST_FOR_SUM else "top",
}


def settled(config: ConfigDict, data: FeatureSet) -> tuple[ConfigDict, dict[str, Any]]:
    """The configuration with every open setting chosen, and what was chosen.

    Raises:
      ValueError: a setting is open that no rule chooses.
    """
    names = [name for name, value in flat(config.to_dict()).items() if value is None]
    unknown = [name for name in names if name not in RULES]
    if unknown:
        raise ValueError(f"{unknown[0]} is not set")
    known = facts(data, codes="codes" in config.get("method", {}))
    chosen = {name: RULES[name](known) for name in names}
    if "steps" in chosen and config.get("epochs"):
        chosen["steps"] = steps_of_epochs(config, data)
    closed = config.copy_and_resolve_references()
    closed.update_from_flattened_dict(chosen)
    return closed, chosen
