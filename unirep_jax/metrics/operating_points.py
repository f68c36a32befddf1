"""A threshold fitted to known scores, and rates at one operating point of a detector.

Scores say how known an example looks: it is accepted iff score ≥ threshold. Which class is the
positive one differs between papers and changes the numbers, so every name here says it.
"""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from unirep_jax.metrics._checks import finite_scores, fraction
from unirep_jax.metrics.ranking import count_accepted, distinct_descending, oscr_curve


def fit_threshold(known_scores: Float[ArrayLike, "known"], *, tpr: float = 0.95) -> float:
    """The largest of the known scores that, as a threshold, accepts at least `tpr` of them.

        τ = max { t ∈ s : #{s ≥ t} / K ≥ tpr }

    An observed score, never an interpolated percentile, which may accept fewer. Fit it on held-out
    known examples; `scores >= τ` then accepts.

    Args:
      known_scores: [known], higher = more known.
      tpr: share of the known examples to accept, in (0, 1]; 1 gives the lowest score.

    Raises:
      ValueError: no score, one that is not finite, or `tpr` outside (0, 1].

    Example:
      >>> fit_threshold(np.arange(20), tpr=0.95)
      1.0

    Reference: MRN ("Towards Multimodal Open Set Recognition", 2024), eq. 4.
    """
    known = finite_scores("known_scores", known_scores)
    shares = np.arange(1, len(known) + 1) / len(known)
    needed = int(np.searchsorted(shares, fraction("tpr", tpr))) + 1  # exact: 19/20 meets 0.95
    return float(np.sort(known)[len(known) - needed])


def tnr_at_known_tpr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    *,
    tpr: float = 0.95,
) -> float:
    """Share of unknown examples rejected by the threshold that accepts `tpr` of the known ones.

        TNR = #{unknown, s < τ} / U,  τ = fit_threshold(known_scores, tpr)

    The known examples are the positives: "TNR@TPR95", and 1 − "FPR95" where ID is positive. Scores
    equal to τ are accepted.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.
      tpr: share of the known examples to accept, in (0, 1].

    Raises:
      ValueError: no score, one that is not finite, or `tpr` outside (0, 1].

    Example:
      >>> tnr_at_known_tpr([0.9, 0.8, 0.7, 0.1], [0.6, 0.2], tpr=0.75)
      1.0
    """
    unknown = finite_scores("unknown_scores", unknown_scores)
    return float(np.mean(unknown < fit_threshold(known_scores, tpr=tpr)))


def fpr_at_unknown_tpr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    *,
    tpr: float = 0.95,
) -> float:
    """Share of known examples rejected when `tpr` of the unknown ones are.

        FPR = #{known, s ≤ τ} / K,  τ = min { t ∈ s_unknown : #{s_unknown ≤ t} / U ≥ tpr }

    The unknown examples are the positives: "FPR95" of OpenOOD and pytorch-ood, another number than
    1 − `tnr_at_known_tpr`.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.
      tpr: share of the unknown examples to reject, in (0, 1].

    Raises:
      ValueError: no score, one that is not finite, or `tpr` outside (0, 1].
    """
    known = finite_scores("known_scores", known_scores)
    unknown = finite_scores("unknown_scores", unknown_scores)
    return float(np.mean(-known >= fit_threshold(-unknown, tpr=tpr)))


def detection_accuracy(
    known_scores: Float[ArrayLike, "known"], unknown_scores: Float[ArrayLike, "unknown"]
) -> float:
    """Best accuracy of telling known from unknown over all thresholds, both equally likely.

        DTACC = max_τ ½ ( #{known, s ≥ τ} / K + #{unknown, s < τ} / U )

    Accepting all is a threshold too, so it is at least ½, as it is if all scores are equal.

    Args:
      known_scores: [known], unknown_scores: [unknown]; higher = more known.

    Raises:
      ValueError: no score, or one that is not finite.

    Reference: MRN ("Towards Multimodal Open Set Recognition", 2024), appendix C.2 (DTACC).
    """
    known = finite_scores("known_scores", known_scores)
    unknown = finite_scores("unknown_scores", unknown_scores)
    thresholds = distinct_descending(known, unknown)
    tpr = count_accepted(known, thresholds) / len(known)
    fpr = count_accepted(unknown, thresholds) / len(unknown)
    return float(np.max(0.5 * (tpr + 1 - fpr)))


def ccr_at_fpr(
    known_scores: Float[ArrayLike, "known"],
    unknown_scores: Float[ArrayLike, "unknown"],
    correct: Bool[ArrayLike, "known"],
    *,
    fpr: float,
) -> float:
    """Highest share of known examples accepted and correct while at most `fpr` unknown ones are.

        max { CCR(τ) : FPR(τ) ≤ fpr }

    A point the detector reaches, no interpolation: 0 if even its highest scores hold too many
    unknown examples.

    Args:
      known_scores, unknown_scores, correct: as `metrics.oscr`.
      fpr: share of the unknown examples that may be accepted, in (0, 1]; 1 gives the accuracy.

    Raises:
      ValueError: as `metrics.oscr`, or `fpr` outside (0, 1].

    Reference: Dhamija et al., "Reducing Network Agnostophobia", NeurIPS 2018.
    """
    curve = oscr_curve(known_scores, unknown_scores, correct)
    return float(curve.ccr[np.searchsorted(curve.fpr, fraction("fpr", fpr), side="right") - 1])
