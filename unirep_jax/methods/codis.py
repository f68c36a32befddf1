"""CODIS: codes assigned by optimal transport, and predicted across modalities.

Duan et al., "Multi-modal Alignment using Representation Codebook", CVPR 2022, as MICU's baseline.
Sequences and codes are unit vectors; a teacher, the moving average of the encoders, looks at the
same batch without dropout, and transport assigns its sequences to the codes, all used alike:

    L = λ₁ L_contrast + λ₂ L_transport + λ₃ L_prediction
    L_contrast   = InfoNCE between student and teacher over time averages, all pairs, m = n included
    L_transport  = Σ_e aᵐ(e) (1 − zᵐ·e)                     cost of the assignment aᵐ of modality m
    L_prediction = −Σ_e aᵐ(e) log softmax_e(zⁿ·e / τ)        code assigned to m told from n ≠ m

The codebook is learned by gradient. The authors' code is not public; the paper's abstract names the
pieces, and these equations are our reading of it, in the style of CODIS: one assignment, the
teacher's, serves both losses, no gradient passes it; Sinkhorn's iterations solve the transport;
contrast has the batch for negatives instead of a queue. The state holds the codes of the last
loss, from which sequences are read.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.methods.batch import shapes_of
from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms, ordered_pairs


@dataclasses.dataclass(frozen=True)
class CODIS(CodebookMethod):
    """Hyper-parameters and the functions made of them."""

    temperature: float = 0.1
    epsilon: float = 0.1  # of the transport, whose cost is 2 − 2 cos
    iterations: int = 100
    momentum: float = 0.99  # of the teacher

    weight_contrast: float = 1.0
    weight_transport: float = 1.0
    weight_prediction: float = 1.0

    # -- modules -----------------------------------------------------------------------------

    def init_heads(self, key: Key[Array, ""], modalities: int) -> dict:
        return {"codebook": jax.random.normal(key, (self.codes, self.dim))}

    def init(self, key, shapes, statistics) -> tuple[dict, dict]:
        params, state = super().init(key, shapes, statistics)
        # Copies: buffers are donated to the step one by one.
        return params, state | {"teacher": jax.tree.map(jnp.array, params["network"])}

    def project(self, z: Float[Array, "*lead dim"]) -> Float[Array, "*lead dim"]:
        return losses.unit(z)

    # -- loss --------------------------------------------------------------------------------

    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, Terms]]:
        """The loss on this device's share of the batch; the state after it; the terms to log."""
        codebook = losses.unit(params["codebook"])
        fixed = jax.lax.stop_gradient(codebook)
        state = state | {"codebook": state["codebook"]._replace(codebook=fixed)}
        encoded = self.encode(params, state, batch, key, axis_name)
        teacher = jax.lax.stop_gradient(self._teach(state, encoded))
        assignment = self._assign(teacher, fixed, encoded.present, axis_name)

        z, mean, present, both = encoded.z, encoded.mean, encoded.present, encoded.both
        similarity = jnp.einsum("mbtd,kd->mbtk", z, codebook)
        cost = jnp.sum(assignment * (1 - similarity), axis=-1).mean(-1)
        predict = lambda m, n: losses.code_prediction_loss(
            z[n], codebook, assignment[m], temperature=self.temperature
        ).mean(-1)
        pairs = ordered_pairs(len(z))
        terms = {
            "contrast": mean(self._contrast(z, teacher, both, axis_name), both),
            "transport": mean(cost, present),
            "prediction": sum((mean(predict(*p), both[p]) for p in pairs), jnp.zeros(()))
            / max(len(pairs), 1),
        }
        follow = lambda old, new: self.momentum * old + (1 - self.momentum) * new
        state = state | {"teacher": jax.tree.map(follow, state["teacher"], params["network"])}
        return self.weighted(terms), (state, terms | self.health(encoded, axis_name))

    def _teach(self, state: dict, encoded: Encoded) -> Float[Array, "m batch time dim"]:
        """The teacher's sequences of the same augmented inputs."""
        network, variables = self.network(shapes_of(encoded.inputs)), {"params": state["teacher"]}
        encode = lambda x: network.apply(variables, x, train=False, method="encode")
        return self.project(jax.vmap(encode, out_axes=1)(encoded.inputs))

    def _contrast(self, z, teacher, both, axis_name) -> Float[Array, "m m batch"]:
        """InfoNCE of every modality of the student with every one of the teacher."""
        student, teacher = (losses.unit(x.mean(2)) for x in (z, teacher))

        def compare(queries, keys, where):
            return losses.info_nce(
                queries, keys, temperature=self.temperature, where=where, axis_name=axis_name
            )

        return jax.vmap(jax.vmap(compare, (None, 0, 0)), (0, None, 0))(student, teacher, both)

    def _assign(
        self,
        teacher: Float[Array, "m batch time dim"],
        codebook: Float[Array, "code dim"],
        present: Bool[Array, "m batch"],
        axis_name: str | None,
    ) -> Float[Array, "m batch time code"]:
        """What share of each step goes to each code; per modality, all steps of the whole batch."""
        modalities, batch, time, dim = teacher.shape
        tokens = teacher.reshape(modalities, batch * time, dim)
        where = jnp.repeat(present, time, axis=1)
        if axis_name is not None:
            tokens, where = jax.lax.all_gather((tokens, where), axis_name, axis=1, tiled=True)
        plan = losses.sinkhorn_plan(
            tokens,
            jnp.broadcast_to(codebook[None], (modalities, *codebook.shape)),
            epsilon=self.epsilon,
            iterations=self.iterations,
            marginals=(where, jnp.ones((1, self.codes), bool)),
        ).plan
        if axis_name is not None:
            first = jax.lax.axis_index(axis_name) * batch * time
            plan = jax.lax.dynamic_slice_in_dim(plan, first, batch * time, axis=1)
        total = jnp.sum(plan, axis=-1, keepdims=True)
        share = plan / jnp.where(total > 0, total, 1)
        return share.reshape(modalities, batch, time, self.codes)
