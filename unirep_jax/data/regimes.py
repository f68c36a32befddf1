"""A generated set in which one modality tells how to read the other: what experts are for.

Every class has a prototype, and which of them it is depends on the regime, of which there are four:

    signal = μ[π_r(c)] + noise,    regime = ρ[r] + noise,    r uniform, π_r permutations

So a signal alone could be of as many classes as there are regimes, and of a prototype that is a
known class in one regime is an unknown one in another: an open-set classifier needs both
modalities, not only to name the class, but to reject. A network that sends each regime to an expert
of its own has four simple problems instead of one.
"""

import numpy as np
from jaxtyping import Float

from unirep_jax.data.features import FeatureSet

REGIMES, CLASSES = 4, 10
_TRAIN, _TEST = 1600, 1000
_SIGNAL_DIM, _REGIME_DIM = 24, 8
_SIGNAL_NOISE, _REGIME_NOISE = 1.5, 0.4  # standard deviations; prototypes have 1 in each entry
_SEED = 4


def load() -> FeatureSet:
    """2,600 examples of ten classes, as many of each; the first 1,600 train. Always the same ones.

    Returns:
      signal [example, 24]; regime [example, 8], float32. Every example is a group of its own.
    """
    rng = np.random.default_rng(_SEED)
    signal, regime, place = prototypes()
    count = _TRAIN + _TEST
    label = np.concatenate([rng.permutation(n) % CLASSES for n in (_TRAIN, _TEST)])
    r = rng.integers(0, REGIMES, count)
    features = {
        "signal": signal[place[r, label]] + _SIGNAL_NOISE * rng.normal(size=(count, _SIGNAL_DIM)),
        "regime": regime[r] + _REGIME_NOISE * rng.normal(size=(count, _REGIME_DIM)),
    }
    return FeatureSet.from_arrays(
        "regimes",
        {m: x.astype(np.float32) for m, x in features.items()},
        label,
        np.arange(count) < _TRAIN,
    )


def prototypes() -> tuple[
    Float[np.ndarray, "class signal"], Float[np.ndarray, "regime dim"], np.ndarray
]:
    """μ, ρ, and π [regime, class]: in no two regimes does a class have the same prototype."""
    rng = np.random.default_rng(_SEED + 1)
    signal = rng.normal(size=(CLASSES, _SIGNAL_DIM))
    regime = rng.normal(size=(REGIMES, _REGIME_DIM))
    order, shifts = rng.permutation(CLASSES), rng.permutation(CLASSES)[:REGIMES]
    return signal, regime, (order[None] + shifts[:, None]) % CLASSES


def known_share(
    feature_set: FeatureSet, known: tuple[int, ...]
) -> tuple[Float[np.ndarray, "example class"], Float[np.ndarray, "example"]]:
    """What no classifier can exceed, from the densities that the set was drawn from.

    Args:
      feature_set: of `load`.
      known: the known classes.

    Returns:
      log p(c | x) of the known classes, up to a constant of the example, and the share of known
      classes in the posterior of all ten: the best score that there is for rejection.
    """
    signal, regime, place = prototypes()
    x, u = (feature_set.features[m].astype(np.float64) for m in ("signal", "regime"))
    near = -np.sum((x[:, None] - signal[None]) ** 2, -1) / (2 * _SIGNAL_NOISE**2)
    told = -np.sum((u[:, None] - regime[None]) ** 2, -1) / (2 * _REGIME_NOISE**2)
    joint = told[:, :, None] + near[:, place]  # [example, regime, class]
    peak = joint.max((1, 2), keepdims=True)
    posterior = np.exp(joint - peak).sum(1)
    posterior /= posterior.sum(1, keepdims=True)
    of_known = posterior[:, list(known)]
    return np.log(np.maximum(of_known, 1e-300)), of_known.sum(1)
