"""Which tokens of an example speak for the class that a classifier names: Grad-CAM over tokens."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.methods.batch import shapes_of
from unirep_jax.methods.recognition import OpenSetClassifier
from unirep_jax.methods.recognition_heads import HEADS, JOINT


def token_relevance(
    method: OpenSetClassifier,
    params: dict,
    state: dict,
    features: Mapping[str, Float[Array, "batch ..."]],
    present: Mapping[str, Bool[Array, "batch"]],
) -> dict[str, Float[Array, "batch position"]]:
    """How much every token of every modality speaks for the class that is named.

        α_d = mean over tokens i of ∂f_c / ∂t_id,   rᵢ = relu(Σ_d α_d t_id),   c = argmax f

    On a picture, whose tokens are the positions of the last map of its ResNet, this is Grad-CAM;
    steps, words and the tokens of a vector are treated likewise. Between tokens and f lie fusion,
    experts without noise, and head.

    Args:
      method: as it was trained, one that gives all modalities one decision.
      params, state: of the trained network.
      features, present: a batch, as `classify` takes it.

    Returns:
      By modality, at least 0, in units of the logit; 0 for tokens that are not there.

    Raises:
      ValueError: every modality decides for itself, or the method is an ensemble.

    Reference: Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2; Figures 7 and 12 of MRN.
    """
    if method.fusion not in JOINT or method.members > 1:
        raise ValueError("relevance needs one network that fuses all modalities to one vector")
    inputs = method.inputs(features, state["statistics"])
    network = method.network(shapes_of(inputs))
    variables = {"params": params["network"], "batch_stats": state["batch_stats"]}
    read = lambda x, there: network.apply(variables, x, there, train=False, method="read")
    decide = lambda t, mask: network.apply(variables, t, mask, None, method="decide")
    tokens, mask = jax.vmap(read)(inputs, dict(present))
    there = jnp.stack([present[m] for m in sorted(present)])

    def named(tokens):  # examples do not depend on each other: one gradient for all
        outputs = jax.vmap(decide)(tokens, mask)
        reading = HEADS[method.head].read(method, params.get("head", {}), outputs, there)
        return jnp.sum(jnp.max(reading.logits, axis=-1))

    gradient = jax.grad(named)(tokens)
    return {m: _relevance(tokens[m], gradient[m], mask[m]) for m in sorted(tokens)}


def _relevance(tokens, gradient, mask) -> Float[Array, "batch position"]:
    count = jnp.maximum(mask.sum(axis=1, dtype=gradient.dtype), 1)
    weight = jnp.sum(jnp.where(mask[..., None], gradient, 0), axis=1) / count[:, None]
    value = jnp.einsum("bpd,bd->bp", jnp.where(mask[..., None], tokens, 0), weight)
    return jnp.where(mask, jax.nn.relu(value), 0)
