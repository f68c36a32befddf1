"""The encoder of the out-of-modal modality: one example of any shape to a vector."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.encoders import AttentionPool, ConvolutionBlock, align_time, common_time
from unirep_jax.models.vision_transformer import VisionTransformer

NETWORKS = ("convolution", "vision_transformer")


class Learner(nn.Module):
    """Called on ONE example: a network from scratch for its shape, then a linear map.

    It is `readout(hidden(x, depth), depth)` at any depth, so that hidden states can be mixed there.

    Attributes:
      dim: of the vector.
      network: "convolution" (`StepConvolution`: sequences, vectors, maps; learns from little data)
        or "vision_transformer" (`VisionTransformer`: images, depth maps, spectrograms, frames of
        them, and with patches of one step sequences).
      width, layers, dropout: of the blocks.
      heads, patch: of the vision transformer; ViT-T/16 is 192 wide with 12 layers.
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
            self.body = StepConvolution(self.width, self.layers, self.dropout)
        else:
            raise ValueError(f"network={self.network!r} is none of {', '.join(NETWORKS)}")

    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "dim"]:
        return self.readout(self.hidden(x, self.layers, train=train), self.layers, train=train)

    def hidden(self, x: Float[Array, "..."], depth: int, *, train: bool) -> Float[Array, "..."]:
        """What the first `depth` blocks make of an example: [time, width], or tokens."""
        return self.body.hidden(x, depth, train=train)

    def readout(
        self, hidden: Float[Array, "..."], depth: int, *, train: bool
    ) -> Float[Array, "dim"]:
        """The vector, by the blocks beyond `depth` and one linear map of all they give."""
        return self.projection(jnp.ravel(self.body.readout(hidden, depth, train=train)))


class StepConvolution(nn.Module):
    """The convolutional `Encoder` at as many steps as the example itself has, in two parts.

    Maps [time, height, width, channels] are pooled by attention first. An image without time is
    read row by row. On a plain vector, one step, the blocks are residual perceptrons.
    """

    width: int
    layers: int
    dropout: float

    def setup(self) -> None:
        self.pool = AttentionPool(self.width)
        self.embedding = nn.Dense(self.width)
        self.blocks = [ConvolutionBlock(self.dropout) for _ in range(self.layers)]
        self.drop = nn.Dropout(self.dropout)
        self.norm = nn.LayerNorm()

    def hidden(
        self, x: Float[Array, "..."], depth: int, *, train: bool
    ) -> Float[Array, "time width"]:
        x = self.pool(x) if x.ndim == 4 else x
        x = self.embedding(align_time(jnp.atleast_2d(x), common_time({"x": x.shape})))
        x = self.drop(x, deterministic=not train)
        for block in self.blocks[:depth]:
            x = block(x, train=train)
        return x

    def readout(
        self, hidden: Float[Array, "time width"], depth: int, *, train: bool
    ) -> Float[Array, "time width"]:
        for block in self.blocks[depth:]:
            hidden = block(hidden, train=train)
        return self.norm(hidden)
