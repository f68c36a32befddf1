"""Small heads on top of the unified sequence."""

import flax.linen as nn
from jaxtyping import Array, Float


class JigsawHead(nn.Module):
    """Weights of the two-layer permutation classifier, in the form `losses.jigsaw_loss` takes."""

    inputs: int
    classes: int
    hidden: int = 512

    @nn.compact
    def __call__(self) -> dict[str, Float[Array, "..."]]:
        kernel, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        return {
            "hidden_kernel": self.param("hidden_kernel", kernel, (self.inputs, self.hidden)),
            "hidden_bias": self.param("hidden_bias", zeros, (self.hidden,)),
            "output_kernel": self.param("output_kernel", kernel, (self.hidden, self.classes)),
            "output_bias": self.param("output_bias", zeros, (self.classes,)),
        }
