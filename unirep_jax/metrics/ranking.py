"""Areas under curves of known against unknown scores: AUROC, AUPR, and OSCR with its curve.

Scores say how known an example looks: it is accepted iff score ≥ threshold.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from unirep_jax.metrics._checks import boolean_vector, finite_scores, same_length


def auroc(
    known_scores: Float[ArrayLike, "known"], unknown_scores: Float[ArrayLike, "unknown"]
) -> float | Float[Array, ""]:
    """Probability that a known example scores above an unknown one; ties count half.

        AUROC = 1/(K·U) Σᵢ Σⱼ ( 1[sᵢ > sⱼ] + ½·1[sᵢ = sⱼ] )

    O(n log n). Works under `jax.jit`, where scores of one dtype are compared exactly, integers and
    subnormal numbers too; those of two take the wider one's, integers and floats float32 or wider.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.

    Returns:
      A float in [0, 1], ½ if all scores are equal. Under jit a scalar, NaN where scores not finite
      would raise.

    Raises:
      ValueError: no known or no unknown score, or one that is not finite.

    Example:
      >>> auroc([3, 2, 2], [2, 1])
      0.8333333333333334

    Reference: Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve", 1982.
    """
    return _pairs_in_order(*_score_pair(known_scores, unknown_scores))


def oscr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    correct: Bool[ArrayLike, "known"],
) -> float | Float[Array, ""]:
    """Area under the open-set classification rate curve; ties count half.

        OSCR = 1/(K·U) Σᵢ correctᵢ Σⱼ ( 1[sᵢ > sⱼ] + ½·1[sᵢ = sⱼ] )

    This is the exact trapezoidal area under `oscr_curve`, hence also OpenAUC, and

        AUROC − (1 − accuracy) ≤ OSCR ≤ min(AUROC, accuracy).

    O(n log n). Works under `jax.jit` as `auroc` does. Widespread evaluators
    are off by one or append points; `unirep_jax.metrics.published` has them.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.
      correct: [known], whether the class of a known example is right before any rejection.

    Returns:
      A float in [0, 1]. Under jit a scalar, NaN where scores not finite would raise.

    Raises:
      ValueError: as `auroc`; `correct` is not boolean or not as long as `known_scores`.

    Example:
      >>> oscr([3, 2, 2], [2, 1], [True, False, True])
      0.5833333333333334

    Reference: Dhamija et al., "Reducing Network Agnostophobia", NeurIPS 2018 (the curve); Wang
    et al., "OpenAUC: Towards AUC-Oriented Open-Set Recognition", NeurIPS 2022 (this form).
    """
    known, unknown = _score_pair(known_scores, unknown_scores, correct)
    correct = boolean_vector("correct", correct)
    same_length(known_scores=known, correct=correct)
    return _pairs_in_order(known, unknown, correct)


class OscrCurve(NamedTuple):
    """Rates when accepting scores ≥ threshold, from no example accepted (threshold ∞) to all.

    ccr: share of known examples accepted and correct; fpr: share of unknown examples accepted.
    """

    thresholds: Float[np.ndarray, "point"]
    ccr: Float[np.ndarray, "point"]
    fpr: Float[np.ndarray, "point"]


def oscr_curve(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    correct: Bool[ArrayLike, "known"],
) -> OscrCurve:
    """Correct classification rate against false positive rate, one point per distinct score.

        CCR(τ) = #{known, correct, s ≥ τ} / K      FPR(τ) = #{unknown, s ≥ τ} / U

    Args and Raises: as `oscr`. The last point is (accuracy, 1); no point is added to the data's but
    the first, (0, 0).
    """
    known = finite_scores("known_scores", known_scores)
    unknown = finite_scores("unknown_scores", unknown_scores)
    correct = boolean_vector("correct", correct)
    same_length(known_scores=known, correct=correct)
    # One point per distinct score: no threshold accepts a part of a tie.
    thresholds = np.append(distinct_descending(known, unknown), np.inf)
    thresholds = np.roll(thresholds, 1)
    return OscrCurve(
        thresholds,
        ccr=count_accepted(known[correct], thresholds) / len(known),
        fpr=count_accepted(unknown, thresholds) / len(unknown),
    )


def aupr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    *,
    positive: Literal["known", "unknown"] = "known",
    convention: Literal["step", "trapezoid", "arpl"] = "step",
) -> float:
    """Area under the precision-recall curve of finding the positive examples.

        step:      Σₖ (Rₖ − Rₖ₋₁)·Pₖ over the distinct scores, from the most positive on
        trapezoid: the linearly interpolated area from (R, P) = (0, 1)
        arpl:      the same from (0, 0), example by example, every tie against the detector

    Step is average precision, as in scikit-learn. Trapezoid is what CSSR and OpenOOD publish; it
    interpolates where precision is not linear. Under arpl a perfect detector gets 1 − 1/(2n), with
    n positives. Where scores are tied, as saturated softmax values are, the three differ visibly;
    and all depend on the ratio of known to unknown examples.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.
      positive: "known" gives AUIN; "unknown" gives AUOUT, low scores being the positive ones.
      convention: "step", or one of the others to compare with numbers published under it.

    Returns:
      A float in (0, 1]; if all scores are equal, under "step", the share of positives.

    Raises:
      ValueError: no known or no unknown score, one that is not finite, or an unknown option.
    """
    known = finite_scores("known_scores", known_scores)
    unknown = finite_scores("unknown_scores", unknown_scores)
    if positive not in ("known", "unknown"):
        raise ValueError(f'positive must be "known" or "unknown", got {positive!r}')
    wanted, other = (known, unknown) if positive == "known" else (-unknown, -known)
    if convention == "arpl":
        # lexsort orders by its last key: scores first, and within a tie the unwanted ones.
        wanted_first = np.concatenate([np.ones(len(wanted)), np.zeros(len(other))])
        order = np.lexsort((wanted_first, -np.concatenate([wanted, other])))
        hits = np.cumsum(wanted_first[order])
        recall, precision = hits / len(wanted), hits / np.arange(1, len(hits) + 1)
        return float(np.trapezoid(np.append(0, precision), np.append(0, recall)))
    thresholds = distinct_descending(wanted, other)
    hits = count_accepted(wanted, thresholds)
    recall, precision = hits / len(wanted), hits / (hits + count_accepted(other, thresholds))
    if convention == "step":
        return float(np.sum(np.diff(recall, prepend=0) * precision))
    if convention == "trapezoid":
        return float(np.trapezoid(np.append(1, precision), np.append(0, recall)))
    raise ValueError(f'convention must be "step", "trapezoid" or "arpl", got {convention!r}')


def distinct_descending(
    known: Float[np.ndarray, "known"], unknown: Float[np.ndarray, "unknown"]
) -> Float[np.ndarray, "threshold"]:
    """All thresholds that make a difference, but for the one that accepts nothing."""
    return np.unique(np.concatenate([known, unknown]))[::-1]


def count_accepted(
    scores: Float[np.ndarray, "example"], thresholds: Float[np.ndarray, "threshold"]
):
    """#{s ≥ τ} for every threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _score_pair(known_scores, unknown_scores, *others):
    """Both as checked float64 NumPy arrays or, if any input is traced, as JAX arrays."""
    pair = {"known_scores": known_scores, "unknown_scores": unknown_scores}
    if not any(isinstance(array, jax.core.Tracer) for array in (*pair.values(), *others)):
        return tuple(finite_scores(name, scores) for name, scores in pair.items())
    for name, scores in pair.items():
        if np.ndim(scores) != 1 or np.size(scores) == 0:
            raise ValueError(f"{name} must be a non-empty vector, got shape {np.shape(scores)}")
    return tuple(jnp.asarray(scores) for scores in pair.values())


def _pairs_in_order(known, unknown, counts=None):
    """Share of pairs with the known score above the unknown one, ties counted half.

    Pairs of a known example that does not count are out of order. NaN for traced scores not finite.
    """
    traced = isinstance(known, jax.Array)
    xp = jnp if traced else np
    finite = xp.isfinite(known).all() & xp.isfinite(unknown).all()
    known, unknown = _order_keys(known, unknown) if traced else (known, unknown)
    order, unknown = xp.argsort(known), xp.sort(unknown)
    known = known[order]  # sorted queries are searched much faster
    below = xp.searchsorted(unknown, known, side="left")
    not_above = xp.searchsorted(unknown, known, side="right")
    # A mean of shares, not a count of pairs, which would overflow int32 at 46,000 of each.
    share = (below + not_above) / (2 * len(unknown))
    mean = (share if counts is None else xp.where(counts[order], share, 0)).mean()
    # Values cannot be checked while tracing, and NaN would sort into a plausible wrong answer.
    return jnp.where(finite, mean, jnp.nan) if traced else float(mean)


def _order_keys(*scores):
    """Integers in the order of the traced scores, equal where these are.

    Accelerators and CPUs take subnormal numbers for 0 where they compare floats.
    """
    dtypes = {array.dtype for array in scores}
    if len(dtypes) > 1:
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.promote_types(*dtypes)
            integers = any(jnp.issubdtype(d, jnp.integer) for d in dtypes)
            if integers and jnp.issubdtype(dtype, jnp.floating):
                dtype = jnp.promote_types(dtype, jnp.float32)
        scores = tuple(array.astype(dtype) for array in scores)
    return tuple(_order_key(array) for array in scores)


def _order_key(scores):
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        return scores
    width = 8 * scores.dtype.itemsize
    bits = jax.lax.bitcast_convert_type(scores, jnp.dtype(f"int{width}"))
    lowest = jnp.iinfo(bits.dtype).min  # the bits of −0
    # Negative numbers grow with their magnitude's bits: turned around, below those from 0 on.
    return jnp.where(bits < 0, lowest - bits, bits)
