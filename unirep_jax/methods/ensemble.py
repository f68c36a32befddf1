"""A deep ensemble: classifiers that differ in their initialisation, trained at once, averaged.

Members see the same batches with augmentation and dropout of their own. ≠ the paper, which also
trains them on examples in different orders and with adversarial examples.

Reference: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles", NeurIPS 2017.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax.methods.method import ClassifyingMethod, Decision, Shapes, TrainedMethod


def init(
    one: TrainedMethod, members: int, key: Key[Array, ""], shapes: Shapes, statistics: dict
) -> tuple[dict, dict]:
    """Parameters and state of all members, [member, ...]."""
    parts = [one.init(jax.random.fold_in(key, i), shapes, statistics) for i in range(members)]
    return jax.tree.map(lambda *x: jnp.stack(x), *parts)


def loss(
    one: TrainedMethod, params: dict, state: dict, batch: dict, **options: Any
) -> tuple[Float[Array, ""], tuple[dict, dict[str, Float[Array, ""]]]]:
    """The sum of the members' losses, so that each has the gradient that it would have alone; their
    states; the means of their terms."""

    def member(params, state, place):
        key = jax.random.fold_in(options["key"], place)
        return one.loss(params, state, batch, **options | {"key": key})

    places = jnp.arange(len(jax.tree.leaves(params)[0]))
    values, (state, terms) = jax.vmap(member)(params, state, places)
    return values.sum(), (state, jax.tree.map(jnp.mean, terms))


def classify(
    one: ClassifyingMethod,
    params: dict,
    state: dict,
    features: Mapping[str, Float[Array, "batch ..."]],
    present: Mapping[str, Bool[Array, "batch"]],
) -> dict[str, Decision]:
    """Logits are the logarithm of the mean probability; features and gates stand side by side."""
    decide = lambda params, state: one.classify(params, state, features, present)
    return {m: _averaged(d) for m, d in jax.vmap(decide)(params, state).items()}


def _averaged(decision: Decision) -> Decision:
    members, batch = decision.logits.shape[:2]
    logits = jax.nn.logsumexp(jax.nn.log_softmax(decision.logits), axis=0) - jnp.log(members)
    beside = lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, -1)
    gates = None if decision.gates is None else beside(decision.gates) / members
    return Decision(logits, beside(decision.features), decision.present[0], logits, gates)
