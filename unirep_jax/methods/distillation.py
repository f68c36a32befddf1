"""Plain cross-modal distillation: what pairs alone carry from known modalities to an unknown one.

With zₖ the embeddings of in-modal modality k and tₖ a linear head on them,

    H(y, h(x)) + λ T² KL(softmax(1/K Σₖ tₖ(zₖ) / T) ‖ softmax(h(x) / T)) on pairs
    + Σₖ H(y, tₖ(zₖ)) on all labelled in-modal examples, which the learner does not feel

The teachers learn from all in-modal examples, the learner from its own pairs: without pairs there
is nothing to distil.

Reference: Gupta, Hoffman and Malik, "Cross Modal Distillation for Supervision Transfer", CVPR 2016;
Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, for T².
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax import losses
from unirep_jax.losses import cross_entropy
from unirep_jax.methods.batch import standardize
from unirep_jax.methods.out_of_modal import ERM
from unirep_jax.methods.out_of_modal_learner import linear, linear_head


@dataclasses.dataclass(frozen=True)
class Distillation(ERM):
    """The learner follows what linear heads on the in-modal embeddings say of its pairs.

    in_modal: modality and length of its embeddings, filled in by `for_data`.
    """

    in_modal: tuple[tuple[str, int], ...] = ()
    weight_distillation: float = 1.0
    temperature: float = 2.0

    def for_data(self, shapes, classes):
        """The method for these data.

        Raises:
          ValueError: no such modality, or none besides it.
        """
        method = super().for_data(shapes, classes)
        lengths = {m: math.prod(s) for m, s in sorted(shapes.items()) if m != method.modality}
        if not lengths:
            raise ValueError(f"there is no modality besides {method.modality!r}")
        return dataclasses.replace(method, in_modal=tuple(lengths.items()))

    def init(self, key, shapes, statistics):
        """As the other methods, with a teacher for each in-modal modality."""
        params, state = super().init(key, shapes, statistics)
        params["teacher"] = {
            m: linear_head(jax.random.fold_in(key, 2 + place), length, self.classes)
            for place, (m, length) in enumerate(self.in_modal)
        }
        return params, state

    def terms(self, params, state, batch, key, axis_name):
        if "labelled" not in batch:
            return {}, state, {}
        pool = batch["labelled"]
        terms, z = self.labelled(params, state, pool, key, axis_name)
        pools = [batch[name] for name in ("labelled", "in_modal") if name in batch]
        taught = sum(self._teaching(params, state, pool, axis_name) for pool in pools)
        terms["teachers"] = (1.0, taught / len(pools))
        says = self._teachers(params, state, pool)
        everybody = jnp.stack([pool["present"][m] for m in says])
        mean = jnp.mean(jnp.stack([*says.values()]), axis=0) / self.temperature
        target = jax.lax.stop_gradient(jax.nn.softmax(mean))
        divergence = losses.target_divergence(target, linear(params["head"], z) / self.temperature)
        where = pool["present"][self.modality] & jnp.all(everybody, axis=0)
        value = self.temperature**2 * losses.masked_mean(divergence, where, axis_name=axis_name)
        terms["distillation"] = (self.weight_distillation, value)
        return terms, state, {}

    def _teachers(self, params, state, pool) -> dict[str, Float[Array, "batch class"]]:
        """Logits of each teacher on its own modality."""
        x = standardize({m: pool["features"][m] for m, _ in self.in_modal}, state["statistics"])
        return {m: linear(params["teacher"][m], v.reshape(len(v), -1)) for m, v in x.items()}

    def _teaching(self, params, state, pool, axis_name) -> Float[Array, ""]:
        """Σₖ H(y, tₖ(zₖ)), a mean over the examples that have the modality."""
        total = jnp.float32(0)
        for m, logits in self._teachers(params, state, pool).items():
            loss = cross_entropy(logits, pool["label"])
            total += losses.masked_mean(loss, pool["present"][m], axis_name=axis_name)
        return total
