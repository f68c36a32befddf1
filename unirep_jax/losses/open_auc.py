"""OpenAUC kernels: pseudo-unknown features by mixing classes, and the pairwise ranking loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax.losses._kernel import Positive, Scalar, kernel
from unirep_jax.losses.precision import accumulation_dtype


class MixedFeatures(NamedTuple):
    """features: [batch, dim] between two classes; where: [batch], which of them are."""

    features: Float[Array, "batch dim"]
    where: Bool[Array, "batch"]


class OpenAucLoss(NamedTuple):
    """loss: [batch]; counted: [batch], the pairs over which the loss is averaged."""

    loss: Float[Array, "batch"]
    counted: Bool[Array, "batch"]


@kernel(static=("axis_name",))
def mix_classes(
    features: Float[Array, "batch dim"],
    labels: Int[Array, "batch"],
    *,
    key: Key[Array, ""],
    concentration: Positive = 2.0,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> MixedFeatures:
    """Mixes each feature with one of another class, as a pseudo-unknown example.

        z̃ᵢ = λ·zᵢ + (1 − λ)·z_π(i),   λ ~ Beta(a, a) once per call, π a random permutation

    The gradient reaches both features.

    Args:
      features: [batch, dim].
      labels: [batch].
      key: the same on every device of `axis_name`.
      concentration: a > 0.
      where: examples that may be mixed.
      axis_name: mapped axis holding the rest of the batch, all of which is permuted.

    Returns:
      `MixedFeatures` in float32 or wider; `where` is False, and the feature zero, where partners
      are of one class or either is removed.

    Reference: Wang et al., "OpenAUC: Towards AUC-Oriented Open-Set Recognition", NeurIPS 2022. The
    authors mix one half of a batch, and compare the other half with it; mixing the odd rows and
    comparing the even ones is the same on any number of devices.
    """
    batch = labels.shape[0]
    rows = jnp.ones(batch, bool) if where is None else where
    features = features.astype(accumulation_dtype(features))
    everything = (jnp.where(rows[:, None], features, 0), labels, rows)
    own = jnp.arange(batch)
    if axis_name is not None:
        own = own + jax.lax.axis_index(axis_name).astype(own.dtype) * batch
        everything = jax.lax.all_gather(everything, axis_name, tiled=True)
    order_key, share_key = jax.random.split(key)
    partner = jax.random.permutation(order_key, everything[1].shape[0])[own]
    share = jax.random.beta(share_key, concentration, concentration, dtype=features.dtype)
    other, other_label, other_row = (x[partner] for x in everything)
    mixed = rows & other_row & (labels != other_label)
    # Selected before the sum: what is removed may hold NaN.
    first, second = (jnp.where(mixed[:, None], x, 0) for x in (features, other))
    return MixedFeatures(share * first + (1 - share) * second, mixed)


@kernel()
def open_auc_loss(
    logits: Float[Array, "batch class"],
    mixed_logits: Float[Array, "batch class"],
    labels: Int[Array, "batch"],
    *,
    margin: Scalar = 1.0,
    where: Bool[Array, "batch"] | None = None,
) -> OpenAucLoss:
    """Ranking loss of each known example that is classified right against a pseudo-unknown one.

        ℓᵢ = (maxₖ l(z̃ᵢ)ₖ − maxₖ l(zᵢ)ₖ + margin)²   where argmaxₖ l(zᵢ)ₖ = yᵢ

    Its mean over the counted pairs, `masked_mean(loss, counted)`, is a surrogate of 1 − OpenAUC;
    where none is counted that is 0. Add it to the cross-entropy with a weight of 0.1.

    Args:
      logits: of known examples, [batch, class].
      mixed_logits: of the pseudo-unknown example each is compared with, by the same classifier.
      labels: of the known examples, [batch].
      margin: by how much a known example should score higher.
      where: pairs that count, among them `MixedFeatures.where`.

    Returns:
      `OpenAucLoss` with the loss in float32 or wider, 0 for pairs not counted. Ties go to the
      class of lowest index, which also takes the gradient.

    Reference: Wang et al., NeurIPS 2022, with the square loss, the margin and the denominator (the
    counted pairs) of the authors' code.
    """
    dtype = accumulation_dtype(logits, mixed_logits)
    rows = jnp.ones(labels.shape, bool) if where is None else where
    right = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    # What a NaN predicts is not known to be wrong, and must not pass for a loss of 0.
    counted = rows & (right | jnp.isnan(logits).any(axis=-1))
    known, unknown = (
        _largest(jnp.where(counted[:, None], x, 0).astype(dtype)) for x in (logits, mixed_logits)
    )
    return OpenAucLoss(jnp.where(counted, (unknown - known + margin) ** 2, 0), counted)


def _largest(logits):
    """Largest logit of each row, whose gradient goes to its index.

    That of `max` goes to the entries equal to it, which rounding decides once the compiler computes
    them twice: fused with the mixing, none or another entry would get it.
    """
    place = jnp.argmax(logits, axis=-1, keepdims=True)
    chosen = place == jnp.arange(logits.shape[-1], dtype=place.dtype)[None, :]
    return jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
