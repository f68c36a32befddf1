"""An example call of every public kernel, from which tests derive what holds for all of them.

Shapes are words, so that a test may delete rows along an axis, empty it, or make it long.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax import losses

SIZES = {
    "anchor": 5,
    "batch": 5,
    "class": 5,
    "code": 6,
    "column": 5,
    "dim": 4,
    "expert": 4,
    "head": 2,
    "hidden": 3,
    "input": 6,
    "item": 5,
    "latent": 2,
    "modality": 3,
    "other": 2,
    "permutation": 2,
    "piece": 3,
    "position": 4,
    "query": 4,
    "row": 6,
    "slot": 7,
    "step": 2,
    "time": 4,
    "token": 5,
    "width": 2,
}

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng, shape):
    return rng.normal(size=shape)


def positive(rng, shape):
    return rng.uniform(0.5, 2, size=shape)


def shares(rng, shape):
    """Positive, with sum 1 over the last axis."""
    x = rng.uniform(0.2, 1, size=shape)
    return x / x.sum(-1, keepdims=True)


def log_shares(rng, shape):
    return np.log(shares(rng, shape))


def symmetric(rng, shape):
    x = rng.normal(size=shape)
    return x + x.T


@dataclasses.dataclass(frozen=True)
class Example:
    """One call of a kernel.

    floats: axes of each float argument. draws: how one is drawn, else normal.
    integers: axes of each integer argument, and the axis whose places it names.
    masks: axes of each argument that removes rows. removable: axes along which rows are removed as
    if they had never been there; those of all masks by default.
    options: hyper-parameters and structure. scalars: which of the options are traced.
    call: how the kernel takes them, else all by name. random: draws depend on the place of a row.
    """

    floats: Mapping[str, str]
    draws: Mapping[str, Draw] = dataclasses.field(default_factory=dict)
    integers: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    masks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    removable: tuple[str, ...] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] | None = None
    random: bool = False

    def arrays(self, sizes: Mapping[str, int] = SIZES, seed: int = 0) -> dict[str, np.ndarray]:
        """NumPy arguments: float64, int32, and masks that remove nothing."""
        rng = np.random.default_rng(seed)
        shape = lambda axes: tuple(sizes[a] if a in sizes else int(a) for a in axes.split())
        arrays = {k: self.draws.get(k, normal)(rng, shape(axes)) for k, axes in self.floats.items()}
        for name, (axes, upto) in self.integers.items():
            high = max(sizes[upto], 1)
            arrays[name] = rng.integers(0, high, shape(axes)).astype(np.int32)
        return arrays | {name: np.ones(shape(axes), bool) for name, axes in self.masks.items()}

    def axes(self, name: str) -> list[str]:
        own = {**self.floats, **self.masks, **{k: v[0] for k, v in self.integers.items()}}
        return own[name].split()

    def mask_axes(self) -> list[str]:
        if self.removable is not None:
            return list(self.removable)
        return sorted({axis for axes in self.masks.values() for axis in axes.split()})

    def run(self, kernel: Callable, arrays: Mapping[str, Any], **options: Any) -> Any:
        options = {**self.options, **options}
        if self.call is not None:
            return self.call(kernel, **arrays, **options)
        return kernel(**arrays, **options)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def total(tree):
    """A number that every float of the tree changes, but for infinities that say "none"."""
    numbers = [jnp.where(jnp.isinf(x), 0, x) for x in floats(tree)]
    return sum(jnp.sum(x + x * x / 2) for x in numbers)


def thresholds(confidence, class_mean, histogram):
    return losses.AdaptiveThresholds(confidence, class_mean, histogram)


THRESHOLDS = {"confidence": "", "class_mean": "class", "histogram": "class"}
THRESHOLD_DRAWS = {"class_mean": shares, "histogram": shares, "confidence": positive}
STATE = {"codebook": "code dim", "count": "code", "weight": "code dim"}


def state(codebook, count, weight, age):
    return losses.CodebookState(codebook, count, weight, age)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


PAIR = {"x": "batch dim", "y": "batch dim"}
LOGITS = {"logits": "batch class"}
POINTS = {"features": "batch dim", "points": "class dim"}
LABELS = {"labels": ("batch", "class")}
BATCH = {"where": "batch"}

EXAMPLES = {
    "agreement": Example({"logits": "head batch class"}),
    "anchor_divergence": Example(
        {**LOGITS, "anchor_logits": "anchor class"}, masks={"pairs": "batch anchor"}
    ),
    "argmax_aggregate": Example(
        {"queries": "query dim", "memory": "item dim"},
        masks={"where": "item"},
        options={"block_size": 2},
    ),
    "arpl_logits": Example(POINTS),
    "arpl_loss": Example(
        POINTS,
        integers=LABELS,
        masks=BATCH,
        options={"radius": 0.5, "temperature": 0.5, "weight": 0.1},
        call=lambda k, features, points, labels, radius, **rest: k(
            features, points, radius, labels, **rest
        ),
    ),
    "averaged_softmax": Example(
        {"logits": "batch position class"}, masks={"where": "batch position"}
    ),
    "averaged_softmax_loss": Example(
        {"logits": "batch position class"}, integers=LABELS, masks={"where": "batch position"}
    ),
    "candidate_pairs": Example(
        {},
        integers={"candidates": ("head batch", "class"), "label": ("anchor", "class")},
        masks={"where": "anchor"},
    ),
    "class_autoencoder_logits": Example(
        {
            "features": "batch position dim",
            "encoders": "class dim latent",
            "decoders": "class latent dim",
        },
        options={"scale": -0.1, "block_size": 2},
    ),
    "class_autoencoder_score": Example(
        {"logits": "batch position class", "magnitude": "batch position"},
        draws={"magnitude": positive},
        masks={"where": "batch position"},
    ),
    "club_upper_bound": Example(
        {"target": "batch time dim", "mean": "batch time dim", "log_variance": "batch time dim"},
        masks=BATCH,
    ),
    "code_matching_loss": Example(
        {"log_distributions": "modality batch code"},
        draws={"log_distributions": log_shares},
        masks={"where": "modality batch"},
    ),
    "code_prediction_loss": Example(
        {"features": "batch dim", "codebook": "code dim", "assignment": "batch code"},
        draws={"assignment": shares},
        options={"temperature": 0.5},
    ),
    "combine_opinions": Example(
        {"evidence": "modality batch class"},
        draws={"evidence": positive},
        masks={"where": "modality batch"},
    ),
    "commitment_loss": Example({"z": "batch dim", "code": "batch dim"}),
    "cross_entropy": Example(
        LOGITS,
        integers={"target": ("batch", "class")},
        masks={"where": "batch class"},
        removable=("batch",),
    ),
    "cross_predictive_coding": Example(
        {"predictions": "modality batch time step dim", "features": "modality batch time dim"},
        masks={"where": "modality batch"},
        options={"temperature": 0.5, "block_size": 2},
    ),
    "ema_codebook_update": Example(
        {**STATE, "z": "modality token dim"},
        draws={"count": positive},
        integers={"age": ("code", "code"), "indices": ("modality token", "code")},
        masks={"where": "modality token"},
        options={"decay": 0.9, "epsilon": 1e-3, "share": 0.5},
        call=lambda k, codebook, count, weight, age, z, indices, **rest: k(
            state(codebook, count, weight, age), z, indices, **rest
        ),
    ),
    "enqueue": Example({"queue": "slot dim", "keys": "batch dim"}, integers={"step": ("", "slot")}),
    "entropy": Example(LOGITS),
    "evidential_loss": Example(
        {"evidence": "batch class"},
        draws={"evidence": positive},
        integers=LABELS,
        masks=BATCH,
        options={"kl_weight": 0.5},
    ),
    "fairness": Example(
        {**THRESHOLDS, **LOGITS},
        draws=THRESHOLD_DRAWS,
        masks=BATCH,
        call=lambda k, confidence, class_mean, histogram, logits, **rest: k(
            thresholds(confidence, class_mean, histogram), logits, **rest
        ),
    ),
    "fine_coarse_info_nce": Example(
        {"features": "modality batch time dim"},
        masks={"where": "modality batch"},
        options={"temperature": 0.5, "cosine": True},
    ),
    "fuse_by_certainty": Example(
        {"logits": "modality batch class"}, masks={"where": "modality batch"}
    ),
    "gaussian_log_likelihood": Example(
        {"target": "batch dim", "mean": "batch dim", "log_variance": "batch dim"}
    ),
    "gcpl_logits": Example(POINTS),
    "gcpl_loss": Example(
        POINTS, integers=LABELS, masks=BATCH, options={"temperature": 0.5, "weight": 0.1}
    ),
    "gram_volume": Example({"vectors": "batch modality dim"}),
    "info_nce": Example(
        {"queries": "batch dim", "keys": "batch dim"},
        masks=BATCH,
        options={"temperature": 0.5, "block_size": 2},
    ),
    "jigsaw_loss": Example(
        {
            "pieces": "batch piece width",
            "hidden_kernel": "input hidden",
            "hidden_bias": "hidden",
            "output_kernel": "hidden permutation",
            "output_bias": "permutation",
        },
        options={"block_size": 2},
        call=lambda k, pieces, **rest: k(pieces, jnp.array([[0, 1, 2], [2, 1, 0]]), **rest),
    ),
    "load_balance_loss": Example(
        {"gates": "batch expert", "load": "batch expert"},
        draws={"gates": shares, "load": shares},
        masks=BATCH,
    ),
    "log_code_distribution": Example(
        {"features": "batch time dim", "codebook": "code dim"}, options={"temperature": 0.5}
    ),
    "marginal_divergence": Example(
        {**LOGITS, "anchor_logits": "anchor class"},
        masks={"where": "batch", "anchor_where": "anchor"},
    ),
    "masked_mean": Example({"values": "batch dim"}, masks={"where": "batch dim"}),
    "maximum_mean_discrepancy": Example(
        {"x": "row dim", "y": "column dim"},
        masks={"where_x": "row", "where_y": "column"},
        options={"bandwidth": 1.0, "block_size": 2},
    ),
    "mix_classes": Example(
        {"features": "batch dim"},
        integers=LABELS,
        masks=BATCH,
        options={"key": jax.random.key(0), "concentration": 2.0},
        random=True,
    ),
    "mix_items": Example(
        {"queries": "query dim", "memory": "item dim"},
        masks={"where": "item"},
        options={"temperature": 0.5, "block_size": 2},
    ),
    "momentum_contrast": Example(
        {"query": "batch dim", "key": "batch dim", "queue": "slot dim"},
        masks={"where": "batch", "slot_where": "slot"},
        options={"temperature": 0.5},
    ),
    "most_confident": Example({"score": "batch"}, masks=BATCH, options={"count": 2}),
    "multimarginal_plan": Example(
        {"vectors": "3 batch dim"}, masks=BATCH, options={"epsilon": 0.5, "threshold": 1e-6}
    ),
    "nearest_code": Example({"z": "batch dim", "codebook": "code dim"}),
    "nearest_correspondence": Example(
        {"features": "query dim", "mapped": "head item dim"},
        masks={"where": "item", "query_where": "query"},
        options={"block_size": 2},
    ),
    "nearest_pairs": Example(
        {"features": "batch dim", "anchor_features": "anchor dim"},
        masks={"where": "batch anchor"},
    ),
    "noisy_top_k_gates": Example(
        {"logits": "batch expert", "noise_logits": "batch expert"},
        options={"count": 2, "noise_epsilon": 1e-2},
        call=lambda k, logits, noise_logits, **rest: k(
            logits, noise_logits, key=keys(len(logits)), **rest
        ),
    ),
    "open_auc_loss": Example(
        {**LOGITS, "mixed_logits": "batch class"},
        integers=LABELS,
        masks=BATCH,
        options={"margin": 0.5},
    ),
    "opinion": Example({"evidence": "batch class"}, draws={"evidence": positive}),
    "pair_distance": Example(PAIR),
    "perplexity": Example({"counts": "batch code"}, draws={"counts": positive}),
    "project_gradient": Example({"projector": "dim dim", "gradient": "dim class"}),
    "pseudo_label_loss": Example(
        LOGITS,
        integers={"label": ("batch", "class")},
        masks=BATCH,
        call=lambda k, logits, label, where: k(losses.PseudoLabels(label, where), logits),
    ),
    "pseudo_labels": Example(
        {**THRESHOLDS, **LOGITS},
        draws=THRESHOLD_DRAWS,
        call=lambda k, confidence, class_mean, histogram, logits: k(
            thresholds(confidence, class_mean, histogram), logits
        ),
    ),
    "random_aggregate": Example(
        {"queries": "query dim", "memory": "item dim"},
        masks={"where": "item"},
        options={"key": jax.random.key(0)},
        random=True,
    ),
    "reciprocal_entropy": Example(POINTS),
    "reparameterize": Example(
        {"mean": "batch dim", "log_variance": "batch dim"}, options={"key": jax.random.key(0)}
    ),
    "restart_dead_codes": Example(
        {**STATE, "z": "modality batch time dim"},
        draws={"count": positive},
        integers={"age": ("code", "code")},
        masks={"where": "modality batch"},
        options={"key": jax.random.key(0), "patience": 1},
        random=True,
        call=lambda k, codebook, count, weight, age, z, **rest: k(
            state(codebook, count, weight, age), z, **rest
        ),
    ),
    "rpl_logits": Example(POINTS),
    "rpl_loss": Example(
        POINTS,
        integers=LABELS,
        masks=BATCH,
        options={"radius": 0.5, "temperature": 0.5, "weight": 0.1},
        call=lambda k, features, points, labels, radius, **rest: k(
            features, points, radius, labels, **rest
        ),
    ),
    "sample_groups": Example(
        {"plans": "other batch batch"},
        draws={"plans": positive},
        options={"key": jax.random.key(0), "count": 2},
    ),
    "sharpen": Example(
        {"probabilities": "batch class"},
        draws={"probabilities": shares},
        options={"temperature": 0.5},
    ),
    "sinkhorn_plan": Example(
        {"x": "row dim", "y": "column dim"},
        masks={"where_x": "row", "where_y": "column"},
        options={"epsilon": 2.0, "threshold": 1e-6, "gradient": "implicit"},
        call=lambda k, x, y, where_x, where_y, **rest: k(
            x, y, marginals=(where_x, where_y), **rest
        ),
    ),
    "soft_aggregate": Example(
        {"queries": "query dim", "memory": "item dim"},
        masks={"where": "item"},
        options={"temperature": 0.5, "block_size": 2},
    ),
    "straight_through": Example({"z": "batch dim", "code": "batch dim"}),
    "symmetric_info_nce": Example(PAIR, masks=BATCH, options={"temperature": 0.5, "block_size": 2}),
    "target_divergence": Example({"target": "batch class", **LOGITS}, draws={"target": shares}),
    "top_groups": Example(
        {"plans": "other batch batch"}, draws={"plans": positive}, options={"count": 2}
    ),
    "top_k_gates": Example(
        {"logits": "batch expert", "noise_logits": "batch expert", "noise": "batch expert"},
        options={"count": 2, "noise_epsilon": 1e-2},
    ),
    "transport_volume_loss": Example(
        {"vectors": "3 batch dim", "matching": "2 batch batch"}, draws={"matching": positive}
    ),
    "unit": Example({"vectors": "batch dim"}),
    "update_projector": Example(
        {"projector": "dim dim", "features": "batch dim"},
        draws={"projector": symmetric},
        masks=BATCH,
        options={"damping": 5.0},
    ),
    "update_thresholds": Example(
        {**THRESHOLDS, **LOGITS},
        draws=THRESHOLD_DRAWS,
        masks=BATCH,
        options={"momentum": 0.9},
        call=lambda k, confidence, class_mean, histogram, logits, **rest: k(
            thresholds(confidence, class_mean, histogram), logits, **rest
        ),
    ),
    "volume_info_nce": Example(
        {"anchors": "batch dim", "first": "batch dim", "second": "batch dim"},
        integers={"composition": ("batch", "other")},
        masks=BATCH,
        options={"temperature": 0.5, "label_smoothing": 0.1, "block_size": 2},
        call=lambda k, anchors, first, second, **rest: k(anchors, first, second, **rest),
    ),
    "volume_matrix": Example(
        {"anchors": "batch dim", "first": "item dim", "second": "item dim"},
        options={"block_size": 2},
        call=lambda k, anchors, first, second, **rest: k(anchors, first, second, **rest),
    ),
}

NO_KERNELS = {"permutations_from_ranks", "sample_ranks"}  # integers in, integers out, no arithmetic
