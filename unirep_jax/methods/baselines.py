"""Baselines that are solved in closed form: linear CCA of all modalities, and raw features.

Every representation method has to beat them. CCA is the generalisation to several sets of
variables by Kettenring ("Canonical analysis of several sets of variables", Biometrika 1971); of two
modalities it is Hotelling's. With x_m the standardised, flattened features of
modality m in their principal directions, C_mn = mean x_m x_nᵀ over examples that have both, and a
ridge r, directions solve

    Σ_n C_mn w_n = λ (C_mm + r I) w_m                                    for every m

and vector_m = x_mᵀ w_m, each direction scaled by its mean correlation, at unit length. Examples
that lack a modality take part in the correlations of the others.
"""

import dataclasses
from typing import ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from unirep_jax.data.channel_statistics import standardization
from unirep_jax.data.features import FeatureSet
from unirep_jax.losses import unit
from unirep_jax.methods.batch import standardize
from unirep_jax.methods.method import Embedding, RepresentationMethod, Shapes, SolvedMethod

_EXAMPLES = 8192  # at most, from which directions are estimated
_NUMBERS = 1 << 27  # at most, of a modality of these examples: 1 GiB in float64


@dataclasses.dataclass(frozen=True)
class RawFeatures(RepresentationMethod, SolvedMethod):
    """Standardised features as they are: what a probe reads from a modality alone."""

    common_space: ClassVar[bool] = False

    def for_data(self, shapes: Shapes, classes: int) -> Self:
        """The method itself: any features are right."""
        return self

    def solve(self, training_set: FeatureSet) -> tuple[dict, dict]:
        """No parameters; the statistics of the training features."""
        return {}, {"statistics": standardization(training_set)}

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """The features standardised, as a sequence and, flattened, as a unit vector."""
        x = standardize({modality: features}, state["statistics"])[modality]
        sequence = x[:, None] if x.ndim == 2 else x.reshape(*x.shape[:2], -1)
        return Embedding(sequence, unit(x.reshape(len(x), -1)))


@dataclasses.dataclass(frozen=True)
class CCA(RepresentationMethod, SolvedMethod):
    """Linear CCA of two modalities or more.

    dim: directions, at most as many as the features allow; components: principal directions of a
    modality that are kept before; ridge: r, relative to the mean variance of those.
    """

    dim: int = 64
    components: int = 256
    ridge: float = 0.1

    def for_data(self, shapes: Shapes, classes: int) -> Self:
        """The method itself; ValueError of a single modality."""
        if len(shapes) < 2:
            raise ValueError(f"CCA needs two modalities, not {len(shapes)}")
        return self

    def solve(self, training_set: FeatureSet) -> tuple[dict, dict]:
        """The projection of each modality, [features, dim], and the training statistics."""
        names, statistics = training_set.modalities, standardization(training_set)
        rows = np.flatnonzero(training_set.train)
        widest = max(int(np.prod(x.shape[1:])) for x in training_set.features.values())
        count = min(len(rows), _EXAMPLES, max(_NUMBERS // widest, 1))
        rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
        centres, bases, scores, present = {}, {}, {}, {}
        for m in names:
            there = np.asarray(training_set.present[m])[rows]
            x = np.array(training_set.features[m][rows], np.float64)
            x[~there] = 0
            mean, std = (np.asarray(s, np.float64) for s in statistics[m])
            x = ((x - mean) / std).reshape(len(rows), -1)
            # Of a modality that no training example has, nothing is known: it projects to zero.
            centres[m] = x[there].mean(0) if there.any() else np.zeros(x.shape[1])
            x = (x - centres[m]) * there[:, None]
            bases[m] = principal_directions(x[there], self.components)
            scores[m], present[m] = x @ bases[m], there
        weights = _canonical(scores, present, self.dim, self.ridge)
        project = {m: jnp.asarray(bases[m] @ weights[m], jnp.float32) for m in names}
        shift = {m: jnp.asarray(centres[m], jnp.float32) for m in names}
        return {"project": project, "shift": shift}, {"statistics": statistics}

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """Unit vectors along the canonical directions."""
        x = standardize({modality: features}, state["statistics"])[modality]
        x = x.reshape(len(x), -1) - params["shift"][modality][None]
        z = jnp.matmul(x, params["project"][modality], precision="highest")
        return Embedding.of_vectors(unit(z))


def principal_directions(x: Float[np.ndarray, "row feature"], count: int) -> np.ndarray:
    """The first principal directions that have any variance, [feature, direction], by the smaller
    Gram matrix."""
    rows, features = x.shape
    gram = x @ x.T if rows < features else x.T @ x
    values, vectors = np.linalg.eigh(gram)
    keep = np.argsort(values)[::-1][:count]
    keep = keep[values[keep] > 1e-10 * max(values.max(initial=0), 1e-300)]
    if rows < features:
        return x.T @ vectors[:, keep] / np.sqrt(values[keep])
    return vectors[:, keep]


def _canonical(
    scores: dict[str, np.ndarray], present: dict[str, np.ndarray], dim: int, ridge: float
) -> dict[str, np.ndarray]:
    """Directions in the principal space of each modality, scaled by their correlation.

    The generalised eigenproblem becomes a symmetric one by whitening every modality.
    """
    names = [*scores]
    whiten = {}
    for m in names:
        count = max(present[m].sum(), 1)
        variance = scores[m].T @ scores[m] / count
        penalty = ridge * np.trace(variance) / max(len(variance), 1)
        values, vectors = np.linalg.eigh(variance)
        scale = 1 / np.sqrt(np.maximum(values, 0) + max(penalty, 1e-12))
        whiten[m] = vectors * scale @ vectors.T
    sizes = np.cumsum([0, *(len(whiten[m]) for m in names)])
    joint = np.zeros((sizes[-1], sizes[-1]))
    for i, m in enumerate(names):
        for j, n in enumerate(names):
            if i < j and (both := present[m] & present[n]).any():
                across = scores[m][both].T @ scores[n][both] / both.sum()
                block = whiten[m] @ across @ whiten[n]
                joint[sizes[i] : sizes[i + 1], sizes[j] : sizes[j + 1]] = block
                joint[sizes[j] : sizes[j + 1], sizes[i] : sizes[i + 1]] = block.T
    values, vectors = np.linalg.eigh(joint)
    keep = np.argsort(values)[::-1][:dim]
    # With K modalities λ is K − 1 at perfect correlation. A direction of none does not count.
    correlation = np.maximum(values[keep], 0) / max(len(names) - 1, 1)
    return {
        m: whiten[m] @ (vectors[sizes[i] : sizes[i + 1], keep] * correlation)
        for i, m in enumerate(names)
    }
