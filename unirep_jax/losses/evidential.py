"""Evidential kernels of TMC: opinions from evidence, their combination, and the Dirichlet loss."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import Scalar, kernel
from unirep_jax.losses.precision import accumulation_dtype


class Opinion(NamedTuple):
    """Subjective opinion from evidence: beliefs and uncertainty, which sum to 1."""

    belief: Float[Array, "*lead class"]
    uncertainty: Float[Array, "*lead"]


@kernel()
def opinion(evidence: Float[Array, "*lead class"]) -> Opinion:
    """Beliefs and uncertainty of the Dirichlet distribution with α = evidence + 1.

        S = Σ α,   b = e / S,   u = C / S

    Args:
      evidence: [..., class], not negative, as a softplus gives it.

    Returns:
      `Opinion` in float32 or wider; no evidence is uncertainty 1.

    Reference: Han et al., "Trusted Multi-View Classification", ICLR 2021, sec. 3.
    """
    evidence = evidence.astype(accumulation_dtype(evidence))
    classes = evidence.shape[-1]
    strength = jnp.sum(evidence, axis=-1, keepdims=True) + classes
    return Opinion(evidence / strength, classes / strength[..., 0])


@kernel()
def combine_opinions(
    evidence: Float[Array, "modality *lead class"],
    where: Bool[Array, "modality *lead"] | None = None,
) -> Float[Array, "*lead class"]:
    """Evidence of the combination of all modalities' opinions by Dempster's rule.

        two opinions: b = (b¹b² + b¹u² + b²u¹) / (1 − conflict),   u = u¹u² / (1 − conflict)
        any number:   e = C·( Πₘ (1 + eᵐ/C) − 1 )

    The second line is the first one folded over the modalities: the rule multiplies b + u of each
    class, and u, up to a common factor. The order of modalities plainly does not matter, nothing is
    divided by the conflict, and agreement makes the evidence grow beyond the sum.

    Args:
      evidence: [modality, ..., class], not negative.
      where: presence [modality, ...]. An absent modality has no opinion, which changes nothing.

    Returns:
      [..., class] in float32 or wider; zero evidence where no modality is present. Float32
      overflows only where the product of the eᵐ/C reaches 10³⁸.

    Example:
      >>> audio, video = jnp.array([4.0, 0.0]), jnp.array([2.0, 2.0])
      >>> both = combine_opinions(jnp.stack([audio, video]))
      >>> print(both, f"{opinion(audio).uncertainty:.3f} {opinion(both).uncertainty:.3f}")
      [10.  2.] 0.333 0.143

    Reference: Han et al., ICLR 2021, sec. 3, where two opinions are combined at a time.
    """
    evidence = evidence.astype(accumulation_dtype(evidence))
    if where is not None:
        evidence = jnp.where(where[..., None], evidence, 0)
    classes = evidence.shape[-1]
    return classes * jnp.expm1(jnp.sum(jnp.log1p(evidence / classes), axis=0))


@kernel()
def evidential_loss(
    evidence: Float[Array, "*lead class"],
    labels: Int[Array, "*lead"],
    *,
    kl_weight: Scalar = 1.0,
    where: Bool[Array, "*lead"] | None = None,
) -> Float[Array, "*lead"]:
    """Expected cross-entropy under the Dirichlet distribution, plus a KL penalty.

        ℓ = ψ(S) − ψ(α_y) + w·KL( Dir(α̃) ‖ Dir(1) ),   α = e + 1,  α̃ = α but α̃_y = 1

    TMC sums it over the modalities and their combination, with w = min(1, epoch / annealing), so
    that the price rises from 0 over the first epochs (50; 10 on SUN RGB-D).

    Args:
      evidence: [..., class], not negative.
      labels: [...], in [0, class).
      kl_weight: w, traced.
      where: examples that count.

    Returns:
      [...] in float32 or wider, 0 for removed examples. No evidence gives ψ(C) − ψ(1), the
      divergence being 0 up to rounding; one class gives 0. The divergence is evaluated with its
      large terms cancelled by hand: with log-gamma functions float32 has no digit left of it at an
      evidence of 10⁷.

    Reference: Han et al., ICLR 2021, sec. 3; Sensoy et al., "Evidential Deep Learning to Quantify
    Classification Uncertainty", NeurIPS 2018.
    """
    evidence = evidence.astype(accumulation_dtype(evidence))
    if where is not None:
        evidence, labels = jnp.where(where[..., None], evidence, 0), jnp.where(where, labels, 0)
    own = jax.nn.one_hot(labels, evidence.shape[-1], dtype=bool)
    target = jnp.sum(jnp.where(own, evidence, 0), axis=-1) + 1
    strength = jnp.sum(evidence, axis=-1) + evidence.shape[-1]
    loss = digamma(strength) - digamma(target)
    loss = loss + kl_weight * _divergence_from_uniform(jnp.where(own, 0, evidence))
    return loss if where is None else jnp.where(where, loss, 0)


def _divergence_from_uniform(evidence):
    """KL(Dir(e + 1) ‖ Dir(1)), with h below and n = Σ e + C:

        Σ (h(αⱼ) − h(1)) − (h(n) − h(C)) + (C − 1)(ψ(n) − ψ(C))

    whose three differences vanish without evidence.
    """
    classes = evidence.shape[-1]
    one, count = (jnp.full((), x, evidence.dtype) for x in (1, classes))
    total = jnp.sum(evidence, axis=-1) + classes
    classwise = jnp.sum(_gamma_remainder(evidence + 1) - _gamma_remainder(one), axis=-1)
    joint = _gamma_remainder(total) - _gamma_remainder(count)
    return classwise - joint + (classes - 1) * (digamma(total) - digamma(count))


# B₂, B₄, … of the asymptotic series of ψ and log Γ
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66)


def _gamma_remainder(x):
    """h(x) = (x − 1)ψ(x) − log Γ(x) − x, which grows like −½ log x where its terms do like x log x.

    From 16 by its asymptotic series, −½ log(2πex) + 1/2x + Σₖ B₂ₖ·(1/2k·x⁻²ᵏ − 1/(2k−1)·x¹⁻²ᵏ).
    """
    large = x > 16
    small_x, large_x = jnp.where(large, 1, x), jnp.where(large, x, 16)
    direct = (small_x - 1) * digamma(small_x) - gammaln(small_x) - small_x
    inverse = 1 / large_x
    series = -0.5 * (jnp.log(large_x) + (1 + math.log(2 * math.pi))) + 0.5 * inverse
    for k, bernoulli in enumerate(_BERNOULLI, start=1):
        term = inverse / (2 * k) - 1 / (2 * k - 1)
        series = series + bernoulli * inverse ** (2 * k - 1) * term
    return jnp.where(large, series, direct)
