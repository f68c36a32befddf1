"""Heads of open-set classifiers: a loss, logits, and a score of how known an example looks.

`HEADS` says what there is. A head works on the network's outputs of a whole batch; how these come
about, by which encoders and fusion, is no concern of its.

≠ MLA: a step trains one modality, so an optimiser with momentum moves the others a little, too; the
damping is the geometric mean of the authors' schedule. ≠ CSSR: the score has no prototype response.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses, metrics
from unirep_jax.losses import cross_entropy
from unirep_jax.methods.method import Decision
from unirep_jax.models.heads import ClassAutoencoders, ClassPoints
from unirep_jax.models.recognizer import Outputs

ATTENTIVE = ("gqa", "cross_attention")
JOINT = ("single", "add", "concat", *ATTENTIVE)  # fusions that give one vector


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """What the heads are made with."""

    classes: int = 0  # known ones; 0: those of the data
    score: str = ""  # of the head's `scores`; "": the first of them
    width: int = 512  # of tokens
    embedding: int = 128  # features of heads with points or autoencoders
    latent: int = 64  # of an autoencoder
    temperature: float = 1.0
    weight_pull: float = 0.1
    weight_open: float = 0.1
    anneal: int = 500  # steps until the evidential divergence has its full weight
    damping: float = 0.03
    percentile: float = 90.0  # of "ash"


class Targets(NamedTuple):
    """label: in [0, classes); there: which modalities an example has, alphabetically; where: it has
    something to be classified by; state: before the step; axis_name: of the devices."""

    label: Int[Array, "batch"]
    there: Bool[Array, "modality batch"]
    where: Bool[Array, "batch"]
    state: dict[str, Any]
    axis_name: str | None

    def mean(self, values: Float[Array, "batch"], where: Bool[Array, "batch"]) -> Array:
        """Over the examples that count, on all devices."""
        return losses.masked_mean(values, where, axis_name=self.axis_name)


class Reading(NamedTuple):
    """logits and features of a `Decision`; values: what scores are computed from."""

    logits: Float[Array, "batch class"]
    features: Float[Array, "batch ..."]
    values: Float[Array, "batch ..."]


Scores = Float[np.ndarray, "example"]
Score = Callable[[HeadSettings, dict, Decision], Scores]


class Head(NamedTuple):
    """What stands behind the network.

    loss: (settings, parameters of the head, outputs, targets) -> the loss, and what changes of the
    state. read: (settings, parameters, outputs, there) -> Reading. scores: by name, (settings, all
    parameters, decision) -> float64 [example], higher = more known; the first is the default.
    fusions: that it goes with. init: (settings, key) -> its parameters. embeds: the network gives
    an embedding instead of logits. mixes: a ranking over mixed features is a further term.
    start: settings -> its state. weights: (state, network's parameters) -> the same with other
    gradients.
    """

    loss: Callable[[HeadSettings, dict, Outputs, Targets], tuple[Array, dict]]
    read: Callable[[HeadSettings, dict, Outputs, Array], Reading]
    scores: Mapping[str, Score]
    fusions: tuple[str, ...] = JOINT
    init: Callable[[HeadSettings, Key[Array, ""]], dict] = lambda settings, key: {}
    embeds: bool = False
    mixes: bool = False
    start: Callable[[HeadSettings], dict] = lambda settings: {}
    weights: Callable[[dict, dict], dict] = lambda state, weights: weights


# -- scores ----------------------------------------------------------------------------------


def _of_values(score: Callable[[np.ndarray], Scores]) -> Score:
    return lambda settings, params, decision: score(np.asarray(decision.values))


def _ash(settings: HeadSettings, params: dict, decision: Decision) -> Scores:
    """Energy of the logits that the last layer gives of pruned features."""
    last = params["network"]["classifier"]
    pruned = metrics.ash(decision.features, percentile=settings.percentile)
    return metrics.energy(pruned @ last["kernel"] + last["bias"])


_LOGIT_SCORES = {
    "max_softmax": _of_values(metrics.max_softmax),
    "max_logit": _of_values(metrics.max_logit),
    "energy": _of_values(metrics.energy),
}
_LOGIT_FIRST = {name: _LOGIT_SCORES[name] for name in ("max_logit", "max_softmax", "energy")}
_ERROR = {"error": _of_values(lambda values: values.astype("float64"))}
_EVIDENCE = {
    "expected": _of_values(metrics.max_expected_probability),
    "certainty": _of_values(metrics.evidential_certainty),
}


# -- cross-entropy: softmax, OpenAUC ----------------------------------------------------------


def _softmax_loss(settings, params, outputs: Outputs, targets: Targets):
    values, label = outputs.values, targets.label
    if values.ndim == 2:
        return targets.mean(cross_entropy(values, label), targets.where), {}
    each = [(cross_entropy(values[:, i], label), there) for i, there in enumerate(targets.there)]
    return sum(targets.mean(*pair) for pair in each), {}


def ranking(head, outputs: Outputs, targets: Targets, key, gate_keys) -> Float[Array, ""]:
    """OpenAUC: odd rows are mixed with others' and scored against the even rows."""
    label, where, axis_name = targets.label, targets.where, targets.axis_name
    even = (label.shape[0] // 2) * 2
    odd, even = slice(1, even, 2), slice(0, even, 2)
    mixed = losses.mix_classes(
        outputs.features[odd],
        label[odd],
        key=jax.random.fold_in(key, 3),
        where=where[odd],
        axis_name=axis_name,
    )
    value = losses.open_auc_loss(
        outputs.values[even],
        jax.vmap(head)(mixed.features, gate_keys[odd]),
        label[even],
        where=where[even] & mixed.where,
    )
    return losses.masked_mean(value.loss, value.counted, axis_name=axis_name)


def _softmax_read(settings, params, outputs: Outputs, there) -> Reading:
    return Reading(outputs.values, outputs.features, outputs.values)


# -- points: ARPL, RPL, GCPL ------------------------------------------------------------------


def _points_loss(kernel, bounded, settings, params, outputs: Outputs, targets: Targets):
    radius = (params["radius"],) if bounded else ()
    loss = kernel(
        outputs.values,
        params["points"],
        *radius,
        targets.label,
        temperature=settings.temperature,
        weight=settings.weight_pull,
        where=targets.where,
    )
    return targets.mean(loss, targets.where), {}


def _points_read(kernel, settings, params, outputs: Outputs, there) -> Reading:
    logits = kernel(outputs.values, params["points"])
    return Reading(logits, outputs.values, logits)


def _points(loss, logits, scores: Mapping[str, Score], *, bounded: bool = True) -> Head:
    """bounded: distances to the points have a radius that is learned."""
    init = lambda s, key: ClassPoints(s.classes, s.embedding).init(key)["params"]
    return Head(
        partial(_points_loss, loss, bounded),
        partial(_points_read, logits),
        scores,
        init=init,
        embeds=True,
    )


# -- class autoencoders: CSSR, RCSSR ----------------------------------------------------------


def _errors(scale, params, embedding):
    return losses.class_autoencoder_logits(
        embedding[:, None], params["encode"], params["decode"], scale=scale
    )


def _reconstruction_loss(scale, settings, params, outputs: Outputs, targets: Targets):
    logits = _errors(scale, params, outputs.values)
    return targets.mean(losses.averaged_softmax_loss(logits, targets.label), targets.where), {}


def _reconstruction_read(scale, relative, settings, params, outputs: Outputs, there) -> Reading:
    maps = _errors(scale, params, outputs.values)
    size = jnp.abs(outputs.values).mean(-1)[:, None] if relative else None
    logits = jnp.log(losses.averaged_softmax(maps))
    return Reading(logits, outputs.values, losses.class_autoencoder_score(maps, magnitude=size))


def _reconstruction(scale: float, *, relative: bool) -> Head:
    """scale: of the reconstruction error; relative: the score divides by the features' size."""
    init = lambda s, key: ClassAutoencoders(s.classes, s.embedding, s.latent).init(key)["params"]
    return Head(
        partial(_reconstruction_loss, scale),
        partial(_reconstruction_read, scale, relative),
        _ERROR,
        init=init,
        embeds=True,
    )


# -- evidence: TMC ----------------------------------------------------------------------------


def _evidence(outputs: Outputs) -> Float[Array, "modality batch class"]:
    return jax.nn.softplus(jnp.swapaxes(outputs.values, 0, 1))


def _evidential_loss(settings, params, outputs: Outputs, targets: Targets):
    """Of every modality's evidence and of what they say together."""
    evidence = _evidence(outputs)
    joint = losses.combine_opinions(evidence, targets.there)[None]
    evidence = jnp.concatenate([evidence, joint])
    there = jnp.vstack([targets.there, targets.where[None]])
    weight = jnp.minimum(1.0, targets.state["step"].astype(jnp.float32) / settings.anneal)
    each = [
        losses.evidential_loss(e, targets.label, kl_weight=weight, where=w)
        for e, w in zip(evidence, there, strict=True)
    ]
    return sum(targets.mean(loss, w) for loss, w in zip(each, there, strict=True)), {}


def _evidential_read(settings, params, outputs: Outputs, there) -> Reading:
    logits = losses.combine_opinions(_evidence(outputs), there)
    return Reading(logits, outputs.features, logits)


# -- modalities in turn: MLA ------------------------------------------------------------------


def _turn_loss(settings, params, outputs: Outputs, targets: Targets):
    """Cross-entropy of the modality whose turn it is, and the projector after it."""
    turn = targets.state["step"] % len(targets.there)
    where = targets.there[turn]
    logits = jnp.take(outputs.values, turn, axis=1)
    loss = targets.mean(cross_entropy(logits, targets.label), where)
    projector = losses.update_projector(
        targets.state["projector"],
        jnp.take(outputs.features, turn, axis=1),
        damping=settings.damping,
        where=where,
        axis_name=targets.axis_name,
    )
    return loss, {"projector": projector}


def _turn_read(settings, params, outputs: Outputs, there) -> Reading:
    logits = losses.fuse_by_certainty(jnp.swapaxes(outputs.values, 0, 1), there).logits
    return Reading(logits, outputs.features, logits)


def _turn_weights(state: dict, weights: dict) -> dict:
    """The gradient of the shared head is projected."""
    kernel = weights["classifier"]["kernel"]
    fixed = jax.lax.stop_gradient(kernel)
    kernel = fixed + losses.project_gradient(state["projector"], kernel - fixed)
    return weights | {"classifier": weights["classifier"] | {"kernel": kernel}}


HEADS = {
    "softmax": Head(
        _softmax_loss, _softmax_read, {**_LOGIT_SCORES, "ash": _ash}, fusions=(*JOINT, "late")
    ),
    "openauc": Head(_softmax_loss, _softmax_read, _LOGIT_FIRST, mixes=True),
    "arpl": _points(losses.arpl_loss, losses.arpl_logits, _LOGIT_FIRST),
    "rpl": _points(losses.rpl_loss, losses.rpl_logits, _LOGIT_SCORES),
    "gcpl": _points(losses.gcpl_loss, losses.gcpl_logits, _LOGIT_SCORES, bounded=False),
    "cssr": _reconstruction(-0.1, relative=True),
    "rcssr": _reconstruction(0.1, relative=False),
    "tmc": Head(_evidential_loss, _evidential_read, _EVIDENCE, fusions=("late",)),
    "mla": Head(
        _turn_loss,
        _turn_read,
        _LOGIT_SCORES,
        fusions=("late_shared",),
        start=lambda settings: {"projector": jnp.eye(settings.width)},
        weights=_turn_weights,
    ),
}
