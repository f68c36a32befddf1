"""VGG-19 and VGGish, with the published names of their weights."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

# Channels of 3×3 convolutions; 0 halves the map.
VGG19 = (
    64,
    64,
    0,
    128,
    128,
    0,
    256,
    256,
    256,
    256,
    0,
    512,
    512,
    512,
    512,
    0,
    512,
    512,
    512,
    512,
    0,
)
VGGISH = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)


class Vgg(nn.Module):
    """[batch, height, width, channel] to the last map, [batch, 7, 7, 512] of VGG-19 at 224 pixels.

    Attributes:
      plan: by default VGG-19's five groups of convolutions.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, column E.
    """

    plan: tuple[int, ...] = VGG19

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch rows columns 512"]:
        return _features(x, self.plan)


class Vggish(nn.Module):
    """Log-mel patches [batch, 96, 64] to [batch, 128].

    Attributes:
      hidden: units of the first two dense layers.
      dim: of the embedding, before the published principal components and 8-bit rounding.

    Reference: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP
    2017.
    """

    hidden: int = 4096
    dim: int = 128

    @nn.compact
    def __call__(self, mel: Float[Array, "batch frame mel"]) -> Float[Array, "batch dim"]:
        x = _features(mel[..., None], VGGISH)
        x = jnp.reshape(x, (len(x), -1))
        for place, width in ((0, self.hidden), (2, self.hidden), (4, self.dim)):
            x = nn.relu(nn.Dense(width, name=f"embeddings.{place}")(x))
        return x


def _features(x: Array, plan: tuple[int, ...]) -> Array:
    place = 0  # in the published sequence, where a convolution and its ReLU are two
    for channels in plan:
        if channels:
            x = nn.relu(nn.Conv(channels, (3, 3), name=f"features.{place}")(x))
            place += 2
        else:
            x = nn.max_pool(x, (2, 2), (2, 2))
            place += 1
    return x
