"""Gaussian classes in three modalities: how much each of them tells of the class is known.

An example is a latent vector u = s·μ_c + ε, ε ~ N(0, I), of its class c. Every modality shows some
of its coordinates by a one-to-one map, which takes no information away. A coordinate that two of
them show is the same in both, so that pairs teach more than the class. What several
modalities tell is what the union of their coordinates tells, so the posterior of the class is known
in closed form, and with it the information I(X; Y), the accuracy of the best classifier, and on how
many examples the best classifiers of two modalities disagree.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from unirep_jax.data.features import FeatureSet

# The out-of-modal modality, then two in-modal ones. One coordinate is its own, four it shares with
# one of them each, two with both.
COORDINATES = {
    "unknown": (0, 1, 2, 3, 4, 5, 10),
    "first": (0, 1, 2, 3, 6, 7),
    "second": (2, 3, 4, 5, 8, 9),
}
MODALITIES = tuple(COORDINATES)
LATENT = 11
SEPARATIONS = {"low": 3.5, "middle": 4.5, "high": 6.0}
LEVELS = {f"known_information_{level}": value for level, value in SEPARATIONS.items()}
"""Separation by the name of a data set."""
DRAWS = 20_000  # of Monte Carlo integration; a share is then right to 0.4 points


class Known(NamedTuple):
    """Class means of the latent vector, and the map from coordinates to features.

    means: [class, latent]. rotations: modality -> two orthogonal [dim, dim].
    """

    means: Float[np.ndarray, "class latent"]
    rotations: dict[str, Float[np.ndarray, "2 dim dim"]]

    def draw(
        self, label: Int[np.ndarray, "example"], rng: np.random.Generator
    ) -> Float[np.ndarray, "example latent"]:
        """Latent vectors of examples of these classes."""
        return self.means[label] + rng.normal(size=(len(label), LATENT))

    def log_posterior(
        self, latent: Float[np.ndarray, "example latent"], modalities: Sequence[str]
    ) -> Float[np.ndarray, "example class"]:
        """log p(c | the modalities named): exact, the classes equally likely before.

        Only the coordinates that these modalities show are read.
        """
        shown = sorted({i for m in modalities for i in COORDINATES[m]})
        difference = latent[:, None, shown] - self.means[None][..., shown]
        return log_softmax(-0.5 * np.sum(difference**2, axis=2), axis=1)

    def features(
        self, modality: str, latent: Float[np.ndarray, "example latent"]
    ) -> Float[np.ndarray, "example dim"]:
        """Its coordinates, rotated, bent by an increasing function, rotated again."""
        first, second = self.rotations[modality]
        return (np.sinh(latent[:, COORDINATES[modality]] @ first) / 2) @ second

    def latent(
        self, modality: str, features: Float[np.ndarray, "example dim"]
    ) -> Float[np.ndarray, "example latent"]:
        """The inverse of `features`: coordinates that the modality does not show are NaN."""
        first, second = self.rotations[modality]
        found = np.full((len(features), LATENT), np.nan)
        found[:, COORDINATES[modality]] = np.arcsinh(2 * features @ second.T) @ first.T
        return found


def known(separation: float, *, classes: int = 10, seed: int = 0) -> Known:
    """Means and maps.

    Args:
      separation: s, the length of the latent class means, at least 0.
      classes: number of classes.
      seed: of directions and rotations.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(classes, LATENT))
    means = separation * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    rotate = lambda dim: np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    rotations = {m: np.stack([rotate(len(i)) for _ in range(2)]) for m, i in COORDINATES.items()}
    return Known(means, rotations)


class Quantities(NamedTuple):
    """What is known of a data set, by draws of the exact posterior.

    information: I(X_S; Y) in bits by the modalities S, joined by "+". overlap: of what the unknown
    modality tells, the bits that the others tell together, too: I(X; Y) + I(X_in; Y) − I(X, X_in;
    Y), at most I(X; Y). accuracy: of the best classifier of the modalities S. disagreement:
    share of the examples to which the best classifiers of the two in-modal modalities give
    different classes.
    """

    information: dict[str, float]
    overlap: float
    accuracy: dict[str, float]
    disagreement: float


def quantities(separation: float, *, classes: int = 10, seed: int = 0) -> Quantities:
    """Information, overlap, accuracy and disagreement of `known(separation)`."""
    source, rng = known(separation, classes=classes, seed=seed), np.random.default_rng((seed, 2))
    label = rng.integers(0, classes, DRAWS)
    latent = source.draw(label, rng)
    information, accuracy, chosen = {}, {}, {}
    for count in range(1, len(MODALITIES) + 1):
        for modalities in combinations(MODALITIES, count):
            name, log_p = "+".join(modalities), source.log_posterior(latent, modalities)
            negentropy = np.mean(np.sum(np.exp(log_p) * log_p, axis=1))
            information[name] = float((np.log(classes) + negentropy) / np.log(2))
            chosen[name] = log_p.argmax(axis=1)
            accuracy[name] = float(np.mean(chosen[name] == label))
    unknown, inside = MODALITIES[0], "+".join(MODALITIES[1:])
    together = information["+".join(MODALITIES)]
    overlap = information[unknown] + information[inside] - together
    first, second = (chosen[m] for m in MODALITIES[1:])
    return Quantities(information, overlap, accuracy, float(np.mean(first != second)))


def load(
    name: str = "known_information_middle",
    *,
    train: int = 1000,
    test: int = 2000,
    classes: int = 10,
    seed: int = 0,
) -> FeatureSet:
    """Examples of one of `LEVELS`, as many of every class, or one more.

    Args:
      name: of the data set, which says how far apart the classes are.
      train, test: numbers of examples.
      classes: number of classes.
      seed: of means, maps and examples.
    """
    source = known(LEVELS[name], classes=classes, seed=seed)
    rng = np.random.default_rng((seed, 1))
    parts = [rng.permutation(np.arange(count) % classes) for count in (train, test)]
    label = np.concatenate(parts).astype(np.int32)
    latent = source.draw(label, rng)
    features = {m: source.features(m, latent).astype(np.float32) for m in MODALITIES}
    return FeatureSet.from_arrays(name, features, label, np.arange(train + test) < train)
