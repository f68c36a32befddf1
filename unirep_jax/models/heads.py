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


class ClassPoints(nn.Module):
    """A point per class in feature space and a radius: prototypes, or reciprocal points.

    As the losses of prototype and (adversarial) reciprocal point learning take them.
    """

    classes: int
    dim: int

    @nn.compact
    def __call__(self) -> dict[str, Float[Array, "..."]]:
        init = nn.initializers.normal(0.1)
        return {
            "points": self.param("points", init, (self.classes, self.dim)),
            "radius": self.param("radius", nn.initializers.zeros, ()),
        }


class ClassAutoencoders(nn.Module):
    """Weights of one linear autoencoder per class, whose errors class-specific reconstruction uses.

    Features x are reconstructed by class c as tanh(x · encode_c) · decode_c.
    """

    classes: int
    dim: int
    latent: int = 64

    @nn.compact
    def __call__(self) -> dict[str, Float[Array, "..."]]:
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        return {
            "encode": self.param("encode", init, (self.classes, self.dim, self.latent)),
            "decode": self.param("decode", init, (self.classes, self.latent, self.dim)),
        }
