"""How known an example looks, from what a classifier says of it: higher = more known.

Scores are float64 whatever the input: a float32 softmax reaches exactly 1 at a margin of 17
between logits, and from there on cannot rank (a float64 one at 37; `max_logit` and `energy` do not
saturate). The metrics of this package take them as they are.
"""

from typing import Literal

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from unirep_jax.metrics._checks import as_array


def max_softmax(logits: Float[ArrayLike, "example class"]) -> Float[np.ndarray, "example"]:
    """Largest class probability, s = maxₖ softmax(l)ₖ.

    Args:
      logits: [example, class], finite.

    Returns:
      float64 [example], in [1/classes, 1].

    Raises:
      ValueError: empty or non-finite logits.

    Example:
      >>> max_softmax([[0.0, 0.0], [3.0, 0.0]])
      array([0.5  , 0.953])

    Reference: Hendrycks & Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", ICLR 2017; MRN ("Towards Multimodal Open Set Recognition", 2024),
    eq. 4.
    """
    logits = finite_matrix("logits", logits)
    return 1 / np.sum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)


def max_logit(logits: Float[ArrayLike, "example class"]) -> Float[np.ndarray, "example"]:
    """Largest logit, s = maxₖ lₖ, which keeps the norm of the feature that a softmax divides out.

    Args, Returns and Raises: as `max_softmax`, in any range.

    Reference: Vaze et al., "Open-Set Recognition: A Good Closed-Set Classifier Is All You Need?",
    ICLR 2022.
    """
    return finite_matrix("logits", logits).max(axis=1)


def energy(
    logits: Float[ArrayLike, "example class"], *, temperature: float = 1.0
) -> Float[np.ndarray, "example"]:
    """Negative free energy, s = τ·log Σₖ exp(lₖ/τ).

    Args, Returns and Raises: as `max_softmax`, in any range; a temperature that is not positive.

    Example:
      >>> energy([[0.0, 0.0], [3.0, 0.0]])
      array([0.693, 3.049])

    Reference: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, eq. 4.
    """
    logits = finite_matrix("logits", logits)
    _positive("temperature", temperature)
    peak = logits.max(axis=1, keepdims=True)
    sums = np.sum(np.exp((logits - peak) / temperature), axis=1)
    return peak[:, 0] + temperature * np.log(sums)


def ash(
    features: Float[ArrayLike, "*lead dim"],
    *,
    percentile: float,
    variant: Literal["p", "b", "s"] = "s",
) -> Float[np.ndarray, "*lead dim"]:
    """Prunes each feature vector after training.

    The classifier's last layer then takes what is left, and `energy` scores its logits. Of the n
    entries the k = max(1, n − round(n·percentile/100)) largest are kept:

        p: kept as they are        b: all Σa/k        s: times exp(Σa / Σ kept)

    where Σa is over all entries before pruning, and all others become 0.

    Args:
      features: [..., dim], finite; not negative, as after a ReLU, for "b" and "s".
      percentile: share to prune in percent, in [0, 100).
      variant: prune, binarise or scale.

    Returns:
      float64, as `features`. Of equal entries the first are kept; zeros stay zeros.

    Raises:
      ValueError: features that are not finite, or negative where that makes no sense; a percentile
        outside [0, 100); with "s", so few kept that the factor may exceed float64.

    Reference: Djurisic et al., "Extremely Simple Activation Shaping for Out-of-Distribution
    Detection", ICLR 2023, algorithms 1-3. ≠ the authors' code, which keeps none at high percentiles
    and then divides by 0.
    """
    features = as_array("features", features).astype(np.float64)
    if features.ndim == 0 or features.size == 0 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite vectors, got shape {features.shape}")
    if not 0 <= percentile < 100:
        raise ValueError(f"percentile must be in [0, 100), got {percentile}")
    if variant not in ("p", "b", "s"):
        raise ValueError(f'variant must be "p", "b" or "s", got {variant!r}')
    if variant != "p" and features.min() < 0:
        raise ValueError(f'variant "{variant}" needs features from 0, got {features.min()}')
    dim = features.shape[-1]
    count = max(1, dim - round(dim * percentile / 100))
    if variant == "s" and dim > 600 * count:  # the kept ones are at least average: Σa/Σ ≤ n/k
        raise ValueError(f"{count} of {dim} entries are too few to scale by exp(Σa / Σ kept)")
    first = np.argsort(-features, axis=-1, kind="stable")[..., :count]
    kept = np.zeros_like(features)
    np.put_along_axis(kept, first, np.take_along_axis(features, first, axis=-1), axis=-1)
    if variant == "p":
        return kept
    total = features.sum(axis=-1, keepdims=True)
    if variant == "b":
        binary = np.zeros_like(features)
        np.put_along_axis(binary, first, total / count, axis=-1)
        return binary
    mass = kept.sum(axis=-1, keepdims=True)
    return kept * np.exp(total / np.where(mass > 0, mass, 1))


def max_expected_probability(
    evidence: Float[ArrayLike, "example class"],
) -> Float[np.ndarray, "example"]:
    """Largest class probability expected under a Dirichlet distribution.

        s = maxₖ αₖ / S,   α = e + 1,   S = Σ α

    Args:
      evidence: [example, class], finite, not negative.

    Returns:
      float64 [example]; 1/classes without evidence.

    Raises:
      ValueError: empty, non-finite or negative evidence.

    Reference: Han et al., "Trusted Multi-View Classification", ICLR 2021.
    """
    evidence = _evidence(evidence)
    return (evidence.max(axis=1) + 1) / (evidence.sum(axis=1) + evidence.shape[1])


def evidential_certainty(
    evidence: Float[ArrayLike, "example class"],
) -> Float[np.ndarray, "example"]:
    """How much evidence there is, for whichever class: s = 1 − u = Σe / (Σe + C).

    Args, Returns and Raises: as `max_expected_probability`; 0 without evidence.

    Reference: Han et al., "Trusted Multi-View Classification", ICLR 2021.
    """
    evidence = _evidence(evidence)
    total = evidence.sum(axis=1)
    return total / (total + evidence.shape[1])


def maximum_concept_matching(
    image_embeddings: Float[ArrayLike, "example dim"],
    text_embeddings: Float[ArrayLike, "class dim"],
    *,
    temperature: float = 0.01,
) -> Float[np.ndarray, "example"]:
    """Scoring layer of CLIP for embeddings of your own: s = maxₖ softmax(cos(x, tₖ) / τ)ₖ.

    The encoders are yours: no weights come with this package. The text embeddings are those of the
    known classes' names, one each.

    Args:
      image_embeddings: [example, dim], finite, of any norm; or of any other modality.
      text_embeddings: [class, dim].
      temperature: τ; 0.01 is CLIP's own, and 1 the choice of the reference.

    Returns:
      float64 [example]. A zero vector has cosine 0 to all.

    Raises:
      ValueError: empty or non-finite embeddings, dimensions that differ, τ not positive.

    Reference: Ming et al., "Delving into Out-of-Distribution Detection with Vision-Language
    Representations", NeurIPS 2022.
    """
    images = finite_matrix("image_embeddings", image_embeddings)
    texts = finite_matrix("text_embeddings", text_embeddings)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"image_embeddings have {images.shape[1]} dimensions, "
            f"text_embeddings {texts.shape[1]}: they must be of one space"
        )
    _positive("temperature", temperature)
    return max_softmax(unit_rows(images) @ unit_rows(texts).T / temperature)


def finite_matrix(name, values):
    array = as_array(name, values)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty matrix, got shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name}[{row}] is {array[row]}: it must be finite")
    return array


def _evidence(values):
    array = finite_matrix("evidence", values)
    if array.min() < 0:
        raise ValueError(f"evidence must be at least 0, got {array.min()}")
    return array


def _positive(name, value):
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def unit_rows(vectors):
    largest = np.abs(vectors).max(axis=1, keepdims=True)  # whose square may overflow
    scaled = vectors / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(norms > 0, norms, 1)
