"""A mixture of experts over one vector. The module works on ONE example; callers `jax.vmap`."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax.losses.experts import Gates, noisy_top_k_gates
from unirep_jax.losses.precision import accumulation_dtype


class Experts(nn.Module):
    """Adaptive fusion: the outputs of the few experts that suit an example, weighed by its gates.

        f = Σ_e gates_e · (W2_e relu(W1_e z + b1_e) + b2_e)

    The outputs are logits, or embeddings for another head; experts that ended in a softmax would
    bound the confidence of the mixture by e / (e + classes − 1). All experts are evaluated, which
    is one matrix product per layer; to collect the weights of the chosen ones costs more memory
    traffic than it saves arithmetic.

    Attributes:
      outputs: width of the output, the number of classes for logits.
      experts: how many, E.
      count: how many of them an example uses, K.
      hidden: width of an expert's hidden layer.

    Reference: MRN, eq. 2; Shazeer et al., ICLR 2017.
    """

    outputs: int
    experts: int = 15
    count: int = 4
    hidden: int = 512

    @nn.compact
    def __call__(
        self, z: Float[Array, "dim"], *, key: Key[Array, ""] | None = None
    ) -> tuple[Float[Array, "output"], Gates]:
        """Outputs, and gates and load [expert]; without a key the gates are free of noise.

        The load-balancing loss takes the gates and loads of a whole batch.
        """
        z = z.astype(accumulation_dtype(z))
        # Small but not zero: with all logits equal, every example would choose the first experts.
        small = nn.initializers.normal(1e-2)
        w_gate = self.param("gate", small, (z.shape[0], self.experts))
        w_noise = self.param("noise", small, (z.shape[0], self.experts))
        logits, noise_logits = (
            # A choice: reduced precision would make it another one.
            jnp.matmul(z, w, precision="highest")[None]
            for w in (w_gate, w_noise)
        )
        key = None if key is None else key[None]
        gates = noisy_top_k_gates(logits, noise_logits, key=key, count=self.count)
        gates = Gates(*(values[0] for values in gates))

        he = nn.initializers.he_normal(batch_axis=(0,))
        lecun = nn.initializers.lecun_normal(batch_axis=(0,))
        zeros = nn.initializers.zeros
        w_hidden = self.param("hidden_kernel", he, (self.experts, z.shape[0], self.hidden))
        b_hidden = self.param("hidden_bias", zeros, (self.experts, self.hidden))
        w_output = self.param("output_kernel", lecun, (self.experts, self.hidden, self.outputs))
        b_output = self.param("output_bias", zeros, (self.experts, self.outputs))
        hidden = nn.relu(jnp.einsum("d,edh->eh", z, w_hidden) + b_hidden)
        output = jnp.einsum("eh,eho->o", gates.gates[:, None] * hidden, w_output)
        return output + gates.gates @ b_output, gates
