"""Semi-supervised kernels: entropy, consistency, pseudo-labels, a queue of keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import (
    Positive,
    Share,
    cross_entropy,
    dot,
    kernel,
    negative_entropy,
)
from unirep_jax.losses.precision import accumulation_dtype

_LEAST = 1e-12  # share of a class under the logarithm of the fairness term, as in the authors' code


@kernel()
def entropy(logits: Float[Array, "batch class"]) -> Float[Array, "batch"]:
    """Entropy of each prediction, in nats.

        ℓᵢ = −Σ_c pᵢ_c log pᵢ_c,   p = softmax(logits)

    Between 0, with gradient 0, for a prediction that is sure and log(classes) for a uniform one. A
    class whose logit is −∞ adds 0; NaN where all are.

    Reference: Grandvalet and Bengio, "Semi-supervised Learning by Entropy Minimization", NIPS 2004.
    """
    return -negative_entropy(logits)


@kernel()
def target_divergence(
    target: Float[Array, "batch class"], logits: Float[Array, "batch class"]
) -> Float[Array, "batch"]:
    """Divergence of each target distribution from the prediction.

        ℓᵢ = Σ_c tᵢ_c (log tᵢ_c − log softmax(logitsᵢ)_c)

    Targets are constants: the gradient is that of the cross-entropy with soft labels. A target of 0
    adds 0.

    Reference: MixText (Chen et al., ACL 2020), its unsupervised loss.
    """
    dtype = accumulation_dtype(target, logits)
    t = jax.lax.stop_gradient(target).astype(dtype)
    log_p = jax.nn.log_softmax(logits.astype(dtype), axis=-1)
    some = t != 0  # true of NaN, which is no 0
    return jnp.sum(jnp.where(some, t * (jnp.log(jnp.where(some, t, 1)) - log_p), 0), axis=-1)


@kernel()
def sharpen(
    probabilities: Float[Array, "batch class"], *, temperature: Positive
) -> Float[Array, "batch class"]:
    """p^(1/T), normalised: nearer to one class for T < 1. A row of zeros becomes uniform.

    Reference: MixMatch (Berthelot et al., NeurIPS 2019), eq. 7; MixText, eq. 6.
    """
    p = probabilities.astype(accumulation_dtype(probabilities))
    # Unequal to log 0 = −∞, this has a gradient.
    logits = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny)) / temperature
    return jax.nn.softmax(logits, axis=-1)


# -- FreeMatch ---------------------------------------------------------------------------------


class AdaptiveThresholds(NamedTuple):
    """Running statistics of predictions for examples without labels.

    confidence: mean largest probability. class_mean: mean prediction. histogram: share of the
    examples that each class is predicted for.
    """

    confidence: Float[Array, ""]
    class_mean: Float[Array, "class"]
    histogram: Float[Array, "class"]

    @classmethod
    def initial(cls, classes: int) -> "AdaptiveThresholds":
        """All 1/classes."""
        even = jnp.full(classes, 1 / classes, jnp.float32)
        return cls(even[0], even, even)


class PseudoLabels(NamedTuple):
    """label: the most probable class. where: whether its probability reaches the threshold."""

    label: Int[Array, "batch"]
    where: Bool[Array, "batch"]


@kernel(static=("axis_name",))
def update_thresholds(
    thresholds: AdaptiveThresholds,
    logits: Float[Array, "batch class"],
    *,
    momentum: Share,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> AdaptiveThresholds:
    """Running means after these predictions, which are constants.

        τ ← m τ + (1 − m) mean maxp,   p̃ ← m p̃ + (1 − m) mean p,   h̃ ← m h̃ + (1 − m) hist(argmax p)

    FreeMatch updates them before it asks which predictions are sure enough.

    Args:
      where: examples that count; without any the statistics stay.
      axis_name: mapped axis whose devices hold the rest of the batch.

    Reference: FreeMatch (Wang et al., ICLR 2023), eq. 5 and 6.
    """
    where = jnp.ones(logits.shape[:1], bool) if where is None else where
    p = _probabilities(jnp.where(where[:, None], logits, 0))
    named = jax.nn.one_hot(jnp.argmax(p, axis=-1), p.shape[-1], dtype=p.dtype)
    seen = AdaptiveThresholds(jnp.max(p, axis=-1), p, named)
    means, count = _means(seen, where, axis_name)
    rate = jnp.where(count > 0, 1 - momentum, 0)

    def update(old, new):  # the state keeps its precision
        return old + rate.astype(old.dtype) * (new.astype(old.dtype) - old)

    return jax.tree.map(update, thresholds, means)


@kernel()
def pseudo_labels(
    thresholds: AdaptiveThresholds, logits: Float[Array, "batch class"]
) -> PseudoLabels:
    """The predicted class where its probability reaches the threshold of that class.

        τ_c = τ p̃_c / max p̃

    Reference: FreeMatch (Wang et al., ICLR 2023), eq. 7 and 8.
    """
    p = _probabilities(logits)
    confidence, class_mean, _ = (x.astype(p.dtype) for x in thresholds)
    of_class = confidence * class_mean / jnp.max(class_mean)
    label = jnp.argmax(p, axis=-1)
    return PseudoLabels(label, jnp.max(p, axis=-1) >= of_class[label])


@kernel()
def pseudo_label_loss(
    labels: PseudoLabels, logits: Float[Array, "batch class"]
) -> Float[Array, "batch"]:
    """Cross-entropy with the pseudo-label where its probability reaches the threshold, else 0.

    Reference: FreeMatch (Wang et al., ICLR 2023), eq. 8. Its mean is over all examples.
    """
    logits = jnp.where(labels.where[:, None], logits, 0)
    loss = cross_entropy(logits.astype(accumulation_dtype(logits)), labels.label)
    return jnp.where(labels.where, loss, 0)


@kernel(static=("axis_name",))
def fairness(
    thresholds: AdaptiveThresholds,
    logits: Float[Array, "batch class"],
    *,
    where: Bool[Array, "batch"],
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Self-adaptive fairness: penalises predictions that concentrate on few classes.

        ℓ = Σ_c a_c log b_c,  a = norm(p̃ / h̃),  b = norm(mean p / hist(argmax p)) over `where`

    A ratio to an empty class is 0. It is negative by design, minus a cross-entropy, and FreeMatch
    adds it to its loss with a positive weight. Without any example that counts it is 0.

    Args:
      logits: [batch, class] for strongly augmented examples.
      where: those with a sure pseudo-label.
      axis_name: mapped axis whose devices hold the rest of the batch. All return the same.

    Reference: FreeMatch (Wang et al., ICLR 2023), eq. 11.
    """
    logits = jnp.where(where[:, None], logits, 0)  # not after the softmax: 0 · NaN is a gradient
    p = jax.nn.softmax(logits.astype(accumulation_dtype(logits, *thresholds)), axis=-1)
    named = jax.nn.one_hot(jnp.argmax(p, axis=-1), p.shape[-1], dtype=p.dtype)
    (mean, histogram), count = _means((p, named), where, axis_name)
    a = _normalized_ratio(*(x.astype(p.dtype) for x in thresholds[1:]))
    b = _normalized_ratio(mean, histogram)
    return jnp.where(count > 0, jnp.sum(a * jnp.log(jnp.maximum(b, _LEAST))), 0)


def _probabilities(logits):
    logits = jax.lax.stop_gradient(logits)
    return jax.nn.softmax(logits.astype(accumulation_dtype(logits)), axis=-1)


def _normalized_ratio(above, below):
    some = below != 0  # true of NaN
    ratio = jnp.where(some, above / jnp.where(some, below, 1), 0)
    return ratio / jnp.maximum(jnp.sum(ratio), _LEAST)


def _means(tree, where, axis_name):
    """Means over the rows that count, of all devices, and how many these are."""

    def total(x):
        keep = where.reshape(-1, *(1 for _ in x.shape[1:]))
        return jnp.sum(jnp.where(keep, x, 0), axis=0)

    sums, count = jax.tree.map(total, tree), jnp.sum(where, dtype=jnp.float32)
    if axis_name is not None:
        sums, count = jax.lax.psum((sums, count), axis_name)
    return jax.tree.map(lambda s: s / jnp.maximum(count, 1).astype(s.dtype), sums), count


# -- momentum contrast -------------------------------------------------------------------------


@kernel()
def momentum_contrast(
    query: Float[Array, "batch dim"],
    key: Float[Array, "batch dim"],
    queue: Float[Array, "slot dim"],
    *,
    temperature: Positive,
    where: Bool[Array, "batch"] | None = None,
    slot_where: Bool[Array, "slot"] | None = None,
) -> Float[Array, "batch"]:
    """InfoNCE of a query with its own key, against the keys of a queue.

        ℓᵢ = −log( exp(qᵢ·kᵢ/τ) / (exp(qᵢ·kᵢ/τ) + Σ_s exp(qᵢ·queue_s/τ)) )

    Keys and queue are constants.

    Args:
      query, key: [batch, dim]; pass unit vectors for cosines. queue: as `enqueue` keeps it.
      temperature: τ > 0. Traced.
      where: rows that count; the others have loss 0 and may hold anything.
      slot_where: slots that are filled. Without any the loss is 0.

    Reference: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR
    2020, eq. 1.
    """
    dtype = accumulation_dtype(query, key, queue)
    key, queue = jax.lax.stop_gradient((key, queue))
    where = jnp.ones(len(query), bool) if where is None else where
    slot_where = jnp.ones(len(queue), bool) if slot_where is None else slot_where
    query, key = (jnp.where(where[:, None], v.astype(dtype), 0) for v in (query, key))
    queue = jnp.where(slot_where[:, None], queue.astype(dtype), 0)
    positive = jnp.sum(query * key, axis=1, keepdims=True)
    logits = jnp.concatenate([positive, dot(query, queue, "bd,sd->bs")], axis=1) / temperature
    counts = jnp.concatenate([jnp.ones(1, bool), slot_where])
    counts = jnp.broadcast_to(counts[None], logits.shape)
    loss = cross_entropy(logits, jnp.zeros(len(query), int), counts)
    return jnp.where(where, loss, 0)


@kernel(static=("axis_name",))
def enqueue(
    queue: Float[Array, "slot dim"],
    keys: Float[Array, "batch dim"],
    step: Int[Array, ""],
    *,
    axis_name: str | None = None,
) -> Float[Array, "slot dim"]:
    """Ring-buffer update: replaces the oldest keys of the queue; a function of the step.

    Args:
      queue: [slot, dim], at least as many slots as keys over all devices.
      keys: those of this step.
      step: how many batches were put in before.
      axis_name: mapped axis whose devices hold the rest of the batch, in whose order they go in.

    Raises:
      ValueError: more keys than slots.

    Reference: as `momentum_contrast`, section 3.1.
    """
    keys = jax.lax.stop_gradient(keys).astype(queue.dtype)
    if axis_name is not None:
        keys = jax.lax.all_gather(keys, axis_name, tiled=True)
    if len(keys) > len(queue):
        raise ValueError(f"enqueue: a queue of {len(queue)} slots cannot take {len(keys)} keys")
    first = _product_modulo(step, len(keys), len(queue))
    slots = (first + jnp.arange(len(keys), dtype=first.dtype)) % len(queue)
    return queue.at[slots].set(keys)


def _product_modulo(number, factor, modulus):
    """number · factor mod modulus by doubling: no integer on the way reaches twice the modulus."""
    number, product = number % modulus, jnp.zeros_like(number)
    for bit in bin(factor % modulus)[2:]:
        product = 2 * product % modulus
        product = (product + number) % modulus if bit == "1" else product
    return product
