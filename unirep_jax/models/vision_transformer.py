"""A vision transformer of one image, depth map, spectrogram or sequence of frames."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

Tokens = Float[Array, "frame token width"]


class VisionTransformer(nn.Module):
    """[height, width, channels] or [height, width] to [width of the network], from the class token.

    Pre-norm blocks, learned positions, a last LayerNorm. The defaults are ViT-T/16: 5.5 M
    parameters at 224 × 224 × 3. An image whose sides are no multiples of the patch is padded with
    zeros on the right and below. Frames [time, height, width, channels] go through the same network
    one by one, and their vectors are averaged. A sequence [time, channels] with the patch
    (1, channels) has one token per step.

    It is `readout(hidden(x, depth), depth)`, so that hidden states can be mixed at any depth.

    Attributes:
      patch: rows and columns of a patch.
      width, depth, heads: of the network; its hidden layers are four times as wide.
      dropout: of attention's and the hidden layers' outputs.

    Reference: Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021, section 3.1; the tiny
    width is that of Touvron et al., "Training data-efficient image transformers", ICML 2021.
    """

    patch: tuple[int, int] = (16, 16)
    width: int = 192
    depth: int = 12
    heads: int = 3
    dropout: float = 0.0

    def setup(self) -> None:
        self.embedding = Embedding(self.patch, self.width)
        self.blocks = [Block(self.heads, self.dropout) for _ in range(self.depth)]
        self.norm = nn.LayerNorm()

    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "width"]:
        return self.readout(self.hidden(x, self.depth, train=train), self.depth, train=train)

    def hidden(self, x: Float[Array, "..."], depth: int, *, train: bool) -> Tokens:
        """Tokens after the first `depth` blocks."""
        tokens = self.embedding(x)
        for block in self.blocks[:depth]:
            tokens = block(tokens, train=train)
        return tokens

    def readout(self, tokens: Tokens, depth: int, *, train: bool) -> Float[Array, "width"]:
        """The vector, by the blocks beyond `depth`."""
        for block in self.blocks[depth:]:
            tokens = block(tokens, train=train)
        return self.norm(tokens[:, 0]).mean(axis=0)


class Embedding(nn.Module):
    """Patches of every frame by one linear map, after a class token; each has its position."""

    patch: tuple[int, int]
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Tokens:
        x = x[..., None] if x.ndim == 2 else x
        frames = x.reshape(-1, *x.shape[-3:])
        tokens = nn.Dense(self.width)(patches(frames, self.patch))
        first = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        first = jnp.broadcast_to(first, (len(frames), 1, self.width))
        tokens = jnp.concatenate([first, tokens], axis=1)
        init = nn.initializers.normal(0.02)
        return tokens + self.param("positions", init, (1, *tokens.shape[1:]))


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward over the tokens."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: Tokens, *, train: bool) -> Tokens:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(self.heads, deterministic=True)
        x = x + drop(attention(nn.LayerNorm()(x)))
        hidden = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)), approximate=False)
        return x + drop(nn.Dense(x.shape[-1])(drop(hidden)))


def patches(
    frames: Float[Array, "frame height width channels"], patch: tuple[int, int]
) -> Float[Array, "frame patch value"]:
    """Patches row by row, zeros where they reach beyond the image."""
    rows, columns = patch
    count, height, width, channels = frames.shape
    padding = ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0))
    frames = jnp.pad(frames, padding)
    down, across = frames.shape[1] // rows, frames.shape[2] // columns
    grid = frames.reshape(count, down, rows, across, columns, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, down * across, -1)
