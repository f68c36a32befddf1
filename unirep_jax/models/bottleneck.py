"""A variational bottleneck from one feature space into another."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Bottleneck(nn.Module):
    """Called on ONE feature vector; an encoder to a normal distribution and a decoder.

    Both have two hidden layers. Calling it maps the vector through the distribution's mean; in
    training, `decode` a draw (`losses.reparameterize`) of what `encode` gives. Nothing draws the
    distribution to a prior.

    Attributes:
      dim: length of the output.
      hidden: width of the hidden layers.
      latent: length of the latent variable.

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), VIBₖ of eq. 9; layers as in the authors' code.
    """

    dim: int
    hidden: int = 1024
    latent: int = 256

    def setup(self) -> None:
        self.encoder = [nn.Dense(self.hidden), nn.Dense(self.hidden), nn.Dense(2 * self.latent)]
        self.decoder = [nn.Dense(self.hidden), nn.Dense(self.hidden), nn.Dense(self.dim)]

    def encode(
        self, x: Float[Array, "inputs"]
    ) -> tuple[Float[Array, "latent"], Float[Array, "latent"]]:
        """Mean and log variance of the latent variable."""
        mean, log_variance = jnp.split(_layers(self.encoder, x), 2)
        return mean, log_variance

    def decode(self, latent: Float[Array, "latent"]) -> Float[Array, "dim"]:
        return _layers(self.decoder, latent)

    def __call__(self, x: Float[Array, "inputs"]) -> Float[Array, "dim"]:
        mean, _ = self.encode(x)
        return self.decode(mean)


def _layers(layers, x):
    for layer in layers[:-1]:
        x = nn.relu(layer(x))
    return layers[-1](x)
