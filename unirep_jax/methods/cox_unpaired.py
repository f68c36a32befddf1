"""COX without any pair: what its phases train, and what it finds in all examples between steps.

`methods.cox` says what the phases are; `methods.emergent` has the arithmetic over all examples.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from unirep_jax import losses
from unirep_jax.data.resident import Whole
from unirep_jax.losses import cross_entropy
from unirep_jax.methods import emergent, exploration
from unirep_jax.methods.out_of_modal_learner import Terms, linear


def terms(method, params, state, batch, z, keys, axis_name) -> tuple[Terms, dict]:
    """Eq. 14's warm-up, the connection of centroids, and eq. 15, each in its phase."""
    pool, anchors, centroids = batch["unlabelled"], state["anchors"], state["centroids"]
    ends = method.ends()
    during = lambda first, last: ((state["step"] >= first) & (state["step"] < last)).astype(
        jnp.float32
    )
    mean = lambda loss, where: losses.masked_mean(loss, where, axis_name=axis_name)
    exploring = (state["step"] >= ends[2]).astype(jnp.float32)
    same = (pool["index"][:, None] == anchors.index[None]) & anchors.where[None]
    place, is_anchor = jnp.argmax(same, axis=1), jnp.any(same, axis=1)
    logits = linear(params["head"], z)
    label = jnp.where(is_anchor, anchors.label[place], 0)
    known = mean(cross_entropy(logits, label), is_anchor)  # after eq. 14; eq. 15
    found: Terms = {"anchors": (during(ends[0], ends[1]) + exploring, known)}

    centre = method.mapped(params, centroids.embeddings)
    apart = sum(jnp.mean((centroids.features - x) ** 2, axis=1) for x in centre.values())
    connection = jnp.mean(jnp.where(centroids.where, apart, 0))
    found["centroids"] = (method.weight_connection * during(ends[1], ends[2]), connection)

    own = {m: x[place] for m, x in anchors.embeddings.items()}
    maps = method.mapped(params, own, keys["latent"])
    target = jax.lax.stop_gradient(z) if method.hold_features else z
    apart = sum(jnp.mean((target - x) ** 2, axis=1) for x in maps.values())
    found["connection"] = (method.weight_connection * exploring, mean(apart, is_anchor))
    examples = exploration.Known(anchors.features, anchors.logits, anchors.label, anchors.where)
    value = method.explore(params, state, pool, z, examples, keys["pair"], axis_name)
    found["explore"] = (method.weight_explore * exploring, value)
    return found, {"anchored": mean(is_anchor.astype(jnp.float32), jnp.ones_like(is_anchor))}


def refresh(method, params: dict, state: dict, wholes: Mapping[str, Whole]) -> dict:
    """The state with the anchors or centroids of the phase that begins, or goes on, here."""
    unlabelled, in_modal = wholes["unlabelled"], wholes["in_modal"]
    ends = method.ends()

    def features(pool):
        z = method.apply(params, method.inputs(state, pool))
        return z, linear(params["head"], z), pool["present"][method.modality]

    def select(state):  # eq. 14
        z, logits, there = emergent.of_all(features, unlabelled)
        return state | {
            "anchors": emergent.agreed_anchors(
                state["anchors"], unlabelled.rows, there, method.votes(params, z), z, logits
            )
        }

    def centre(state):
        z, logits, there = emergent.of_all(features, unlabelled)
        embeddings, label, present = emergent.of_all(
            lambda pool: (method.embeddings(state, pool), pool["label"], pool["present"]),
            in_modal,
        )
        return state | {
            "centroids": emergent.class_centroids(
                z, jnp.argmax(logits, axis=1), there, embeddings, label, present, method.classes
            )
        }

    def correspond(state):  # the set A of eq. 15
        z, logits, there = emergent.of_all(features, unlabelled)
        mapped, label, present = emergent.of_all(
            lambda pool: (
                method.mapped(params, method.embeddings(state, pool)),
                pool["label"],
                pool["present"],
            ),
            in_modal,
        )
        names = [m for m, _ in method.in_modal]
        embed = lambda places: method.embeddings(state, in_modal.take(in_modal.rows[places]))
        return state | {
            "anchors": emergent.corresponding_anchors(
                unlabelled.rows,
                there,
                z,
                logits,
                jnp.stack([mapped[m] for m in names]),
                label,
                jnp.all(jnp.stack([present[m] for m in names]), axis=0),
                embed,
                count=len(state["anchors"].index),
            )
        }

    step, same = state["step"], lambda state: state
    state = jax.lax.cond(step == ends[0], select, same, state)
    state = jax.lax.cond(step == ends[1], centre, same, state)
    return jax.lax.cond(step >= ends[2], correspond, same, state)
