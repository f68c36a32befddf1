"""COX with pairs: eq. 9, what is ours beside it, and the exploration of eq. 13.

`methods.cox` has the equations and says what is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax import losses
from unirep_jax.losses import cross_entropy
from unirep_jax.methods import exploration
from unirep_jax.methods.out_of_modal_learner import Terms, linear


def terms(method, params, state, batch, z, maps, keys, axis_name) -> Terms:
    """Eq. 9 on the pairs and, after the warm-up, the second term of eq. 13."""
    pool, features = batch["labelled"], z["labelled"]
    there = pool["present"]
    classification = method.classification(params, features, pool, axis_name)
    found: Terms = {"classification": (1.0, classification)}
    target = jax.lax.stop_gradient(features) if method.hold_features else features
    connection = jnp.float32(0)
    for m, x in maps["labelled"].items():  # eq. 9
        loss = jnp.mean((target - x) ** 2, axis=1)
        where = there[m] & there[method.modality]
        connection += losses.masked_mean(loss, where, axis_name=axis_name)
    found["connection"] = (method.weight_connection, connection)
    found["shared"] = (method.weight_shared, _shared(method, params, batch, maps, axis_name))
    if "unlabelled" in batch:
        begun = (state["step"] >= method.explores_from()).astype(jnp.float32)
        value = _explore(method, params, state, batch, z, keys, axis_name)
        found["explore"] = (method.weight_explore * begun, value)
        value = _agreed(method, params, batch["unlabelled"], z["unlabelled"], axis_name)
        found["agreed"] = (method.weight_agreed * begun, value)
    return found


def _shared(method, params, batch, maps, axis_name) -> Float[Array, ""]:
    """1/K Σₖ H(y, h(mₖ)), the mean over pools: the term with p(y | xᴵ) of eq. 8 and 23."""
    total = jnp.float32(0)
    for n, vectors in maps.items():
        for m, x in vectors.items():
            loss = cross_entropy(linear(params["head"], x), batch[n]["label"])
            total += losses.masked_mean(loss, batch[n]["present"][m], axis_name=axis_name)
    return total / (len(maps) * len(method.in_modal))


def _agreed(method, params, pool, z, axis_name) -> Float[Array, ""]:
    """H(agreed class, h(z)) on the unlabelled examples on which the heads agree."""
    found = losses.agreement(method.votes(params, z))
    loss = cross_entropy(linear(params["head"], z), found.label)
    where = found.agree & pool["present"][method.modality]
    return losses.masked_mean(loss, where, axis_name=axis_name)


def _explore(method, params, state, batch, z, keys, axis_name) -> Float[Array, ""]:
    """What D is drawn to: anchors (eq. 13), a consensus, or its own labels."""
    pool, labelled, unknown = batch["unlabelled"], batch["labelled"], z["unlabelled"]
    if method.target == "anchors":
        logits = linear(params["head"], z["labelled"])
        there = labelled["present"][method.modality]
        anchors = exploration.Known(z["labelled"], logits, labelled["label"], there)
        anchors = jax.lax.stop_gradient(anchors)
        if axis_name is not None:
            anchors = jax.lax.all_gather(anchors, axis_name, tiled=True)
        pair_keys = keys["unlabelled"]["pair"]
        return method.explore(params, state, pool, unknown, anchors, pair_keys, axis_name)
    votes, where = method.disagreement(params, state, pool, unknown)
    logits = linear(params["head"], unknown)
    if method.target == "labels":
        loss = cross_entropy(logits, pool["label"])
    else:
        target = exploration.consensus(
            logits, votes, heads=method.heads_share, temperature=method.consensus_sharpness
        )
        loss = losses.target_divergence(target, logits)
    return losses.masked_mean(loss, where, axis_name=axis_name)


def advantage(method, params, state, batch, axis_name) -> Float[Array, "head"]:
    """The running average of what heads are ahead of the learner on pairs held out."""
    pool = batch["validation"]
    z = method.apply(params, method.inputs(state, pool))
    here = pool["present"][method.modality]
    now = exploration.advantage(
        method.votes(params, z), linear(params["head"], z), pool["label"], here, axis_name
    )
    average = method.gate_momentum * state["advantage"] + (1 - method.gate_momentum) * now
    return jax.lax.stop_gradient(average)
