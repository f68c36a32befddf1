"""A vision transformer of one image, depth map, spectrogram or sequence of frames."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class VisionTransformer(nn.Module):
    """[height, width, channels] or [height, width] to [width of the network], from the class token.

    Pre-norm blocks, learned positions, a last LayerNorm (Dosovitskiy et al., ICLR 2021). The
    defaults are ViT-T/16: 5.5 M parameters at 224 × 224 × 3. An image whose sides are no multiples
    of the patch is padded with zeros on the right and below. Frames [time, height, width, channels]
    go through the same network, and their vectors are averaged.

    Attributes:
      patch: rows and columns of a patch.
      width, depth, heads: of the network; its hidden layers are four times as wide.
      dropout: of attention's and the hidden layers' outputs.
    """

    patch: tuple[int, int] = (16, 16)
    width: int = 192
    depth: int = 12
    heads: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "width"]:
        if x.ndim == 2:
            x = x[..., None]
        frames = x.reshape(-1, *x.shape[-3:])
        tokens = nn.Dense(self.width, name="embed")(patches(frames, self.patch))
        first = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        first = jnp.broadcast_to(first, (len(frames), 1, self.width))
        tokens = jnp.concatenate([first, tokens], axis=1)
        init = nn.initializers.normal(0.02)
        tokens = tokens + self.param("positions", init, (1, *tokens.shape[1:]))
        for i in range(self.depth):
            tokens = Block(self.heads, self.dropout, name=f"block_{i}")(tokens, train=train)
        return nn.LayerNorm(name="norm")(tokens[:, 0]).mean(axis=0)


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward, over the second axis from the end."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "*lead token width"], *, train: bool):
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(self.heads, deterministic=True)
        x = x + drop(attention(nn.LayerNorm()(x)))
        hidden = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + drop(nn.Dense(x.shape[-1])(drop(hidden)))


def patches(
    frames: Float[Array, "time height width channels"], patch: tuple[int, int]
) -> Float[Array, "time patch value"]:
    """Patches row by row, zeros where they reach beyond the image."""
    rows, columns = patch
    time, height, width, channels = frames.shape
    padding = ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0))
    frames = jnp.pad(frames, padding)
    down, across = frames.shape[1] // rows, frames.shape[2] // columns
    grid = frames.reshape(time, down, rows, across, columns, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(time, down * across, -1)
