"""The learner of an out-of-modal modality: one example of any shape to a vector."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.encoders import Encoder, common_time
from unirep_jax.models.vision_transformer import VisionTransformer

NETWORKS = ("convolution", "vision_transformer")


class Learner(nn.Module):
    """Called on ONE example; `readout(hidden(x))` is `learner(x)`, so hidden states can be mixed.

    Attributes:
      dim: of the vector.
      network: "convolution": the blocks over time of `Encoder`, which on a plain vector are
        residual blocks of a multilayer perceptron, and on frames follow attention pooling; or
        "vision_transformer" for images, depth maps, spectrograms and frames of them.
      width, layers, dropout: of the blocks.
      heads, patch: of the vision transformer.
    """

    dim: int
    network: str = "convolution"
    width: int = 128
    layers: int = 2
    dropout: float = 0.0
    heads: int = 3
    patch: tuple[int, int] = (16, 16)

    def setup(self) -> None:
        self.projection = nn.Dense(self.dim)
        if self.network == "vision_transformer":
            self.body = VisionTransformer(
                self.patch, self.width, self.layers, self.heads, self.dropout
            )
        elif self.network == "convolution":
            self.body = _Steps(self.width, self.layers, self.dropout)
        else:
            raise ValueError(f"network={self.network!r} is none of {', '.join(NETWORKS)}")

    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "dim"]:
        return self.readout(self.hidden(x, train=train), train=train)

    def hidden(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "..."]:
        """All that the blocks make of an example: [time, width], of a transformer [width]."""
        return self.body(x, train=train)

    def readout(self, hidden: Float[Array, "..."], *, train: bool) -> Float[Array, "dim"]:
        """One linear map of all of it."""
        return self.projection(jnp.ravel(hidden))


class _Steps(nn.Module):
    """`Encoder` at as many steps as the example itself has."""

    width: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "time width"]:
        time = common_time({"x": x.shape})
        return Encoder(self.width, time, "convolution", self.layers, dropout=self.dropout)(
            x, train=train
        )
