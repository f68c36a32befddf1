"""The vision transformer, with the published names of its weights."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.pretrained.layers import ACTIVATIONS, VIT, Layer, Tokens


class ViT(nn.Module):
    """[batch, height, width, 3] to the last hidden states [batch, 1 + patch, width], class first.

    Attributes:
      size, patch: pixels of a side.
      width, depth, heads, hidden: of the transformer.
      epsilon: of LayerNorm.
      activation: of the feed-forward parts.

    Reference: Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021.
    """

    size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    epsilon: float = 1e-12
    activation: str = "gelu"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ViT":
        """Sizes of a published config.json."""
        return cls(
            config["image_size"],
            config["patch_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["layer_norm_eps"],
            config["hidden_act"],
        )

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"]) -> Tokens:
        side = (self.patch, self.patch)
        project = nn.Conv(
            self.width, side, side, "VALID", name="embeddings.patch_embeddings.projection"
        )
        x = project(images).reshape(len(images), -1, self.width)
        init = nn.initializers.normal(0.02)
        first = self.param("embeddings.cls_token", init, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
        positions = 1 + (self.size // self.patch) ** 2
        x = x + self.param("embeddings.position_embeddings", init, (1, positions, self.width))
        activation = ACTIVATIONS[self.activation]
        for i in range(self.depth):
            layer = Layer(
                VIT,
                self.heads,
                self.hidden,
                True,
                self.epsilon,
                activation,
                name=f"encoder.layer.{i}",
            )
            x = layer(x)
        return nn.LayerNorm(self.epsilon, name="layernorm")(x)
