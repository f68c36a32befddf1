"""EfficientNet-Lite0, with the published names of its weights."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.pretrained.frozen import Depthwise, FrozenBatchNorm, same_padding

Map = Float[Array, "batch height width channel"]
_EPSILON = 1e-3


class Blocks(NamedTuple):
    """Blocks one after the other; the first has the stride."""

    repeats: int
    size: int
    stride: int
    expansion: int
    width: int


LITE0 = (
    Blocks(1, 3, 1, 1, 16),
    Blocks(2, 3, 2, 6, 24),
    Blocks(2, 5, 2, 6, 40),
    Blocks(3, 3, 2, 6, 80),
    Blocks(3, 5, 1, 6, 112),
    Blocks(4, 5, 2, 6, 192),
    Blocks(1, 3, 1, 6, 320),
)


class Block(nn.Module):
    """1×1 to more channels, each by itself, 1×1 to fewer; a shortcut where the shape stays."""

    size: int
    stride: int
    expansion: int
    width: int

    @nn.compact
    def __call__(self, x: Map) -> Map:
        hidden = x
        if self.expansion > 1:
            hidden = _pointwise(x, self.expansion * x.shape[-1], "_expand_conv")
            hidden = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn0")(hidden))
        hidden = Depthwise(self.size, self.stride, name="_depthwise_conv")(hidden)
        hidden = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn1")(hidden))
        hidden = _pointwise(hidden, self.width, "_project_conv")
        hidden = FrozenBatchNorm(_EPSILON, name="_bn2")(hidden)
        return hidden + x if hidden.shape == x.shape else hidden


def _pointwise(x: Map, width: int, name: str) -> Map:
    return nn.Conv(width, (1, 1), use_bias=False, name=name)(x)


class EfficientNetLite(nn.Module):
    """[batch, height, width, 3] to [batch, 1280] averages of the last map, or to the map.

    Attributes:
      blocks: by default those of Lite0.
      head: channels of the last map.
      classes: gives the logits of so many classes instead, where it is not 0.
      pooled: False gives the map [batch, rows, columns, 1280].

    References: Tan and Le, "EfficientNet", ICML 2019, table 1; the Lite variants have ReLU6, no
    squeeze-and-excitation, and a stem and head of fixed width.
    """

    blocks: tuple[Blocks, ...] = LITE0
    head: int = 1280
    classes: int = 0
    pooled: bool = True

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"]) -> Array:
        margin = same_padding(images.shape[1:3], 3, 2)[1:3]
        x = nn.Conv(32, (3, 3), (2, 2), margin, use_bias=False, name="_conv_stem")(images)
        x = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn0")(x))
        number = 0
        for part in self.blocks:
            for i in range(part.repeats):
                stride = 1 if i else part.stride
                x = Block(part.size, stride, part.expansion, part.width, name=f"_blocks.{number}")(
                    x
                )
                number += 1
        x = _pointwise(x, self.head, "_conv_head")
        x = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn1")(x))
        if not self.pooled:
            return x
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.classes, name="_fc")(x) if self.classes else x
