"""CLIP: an image and a text encoder into one space, with the published names of their weights."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unirep_jax.models.pretrained.bert import unit
from unirep_jax.models.pretrained.layers import ACTIVATIONS, CLIP, Layer, Tokens

Vectors = Float[Array, "batch dim"]


class _Transformer(nn.Module):
    """The layers of either encoder."""

    depth: int
    heads: int
    hidden: int
    epsilon: float
    activation: str

    @nn.compact
    def __call__(self, x: Tokens, bias: Float[Array, "..."] | None = None) -> Tokens:
        activation = ACTIVATIONS[self.activation]
        for i in range(self.depth):
            layer = Layer(
                CLIP, self.heads, self.hidden, True, self.epsilon, activation, name=f"layers.{i}"
            )
            x = layer(x, bias)
        return x


def _transformer(config: dict[str, Any]) -> dict[str, Any]:
    keys = ("num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {"layers": tuple(config[key] for key in keys)} | {
        "width": config["hidden_size"],
        "epsilon": config.get("layer_norm_eps", 1e-5),
        "activation": config.get("hidden_act", "quick_gelu"),
    }


class ClipImage(nn.Module):
    """[batch, size, size, 3] to unit vectors [batch, dim].

    Attributes:
      dim: of the shared space.
      size, patch: pixels of a side.
      width: of the transformer.
      layers: its depth, heads and hidden units.
      epsilon: of LayerNorm.
      activation: of the feed-forward parts.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021.
    """

    dim: int = 512
    size: int = 224
    patch: int = 32
    width: int = 768
    layers: tuple[int, int, int] = (12, 12, 3072)
    epsilon: float = 1e-5
    activation: str = "quick_gelu"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClipImage":
        """Sizes of a published config.json of the two encoders together."""
        vision = _VISION | config.get("vision_config", {})
        return cls(
            config.get("projection_dim", 512),
            vision["image_size"],
            vision["patch_size"],
            **_transformer(vision),
        )

    @nn.compact
    def __call__(self, images: Float[Array, "batch size size 3"]) -> Vectors:
        side = (self.patch, self.patch)
        project = nn.Conv(
            self.width,
            side,
            side,
            "VALID",
            use_bias=False,
            name="vision_model.embeddings.patch_embedding",
        )
        x = project(images).reshape(len(images), -1, self.width)
        first = self.param(
            "vision_model.embeddings.class_embedding", nn.initializers.normal(0.02), (self.width,)
        )
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
        count = 1 + (self.size // self.patch) ** 2
        positions = nn.Embed(count, self.width, name="vision_model.embeddings.position_embedding")
        x = x + positions(jnp.arange(count))[None]
        x = nn.LayerNorm(self.epsilon, name="vision_model.pre_layrnorm")(x)  # so it is published
        x = _Transformer(*self.layers, self.epsilon, self.activation, name="vision_model.encoder")(
            x
        )
        x = nn.LayerNorm(self.epsilon, name="vision_model.post_layernorm")(x[:, 0])
        return unit(nn.Dense(self.dim, use_bias=False, name="visual_projection")(x))


class ClipText(nn.Module):
    """[batch, token] ids to unit vectors [batch, dim], read at the end token.

    Attributes:
      dim: of the shared space.
      vocabulary, positions, width: sizes.
      layers: depth, heads and hidden units of the transformer.
      epsilon: of LayerNorm.
      activation: of the feed-forward parts.
      end: id of the end token; the text is read at its first place.
    """

    dim: int = 512
    vocabulary: int = 49408
    positions: int = 77
    width: int = 512
    layers: tuple[int, int, int] = (12, 8, 2048)
    epsilon: float = 1e-5
    activation: str = "quick_gelu"
    end: int = 49407

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClipText":
        """Sizes of a published config.json of the two encoders together."""
        text = _TEXT | config.get("text_config", {})
        # The first published configurations have 2 here; their end token is the largest id.
        end = text["eos_token_id"] if text["eos_token_id"] != 2 else text["vocab_size"] - 1
        return cls(
            config.get("projection_dim", 512),
            text["vocab_size"],
            text["max_position_embeddings"],
            end=end,
            **_transformer(text),
        )

    @nn.compact
    def __call__(self, ids: Int[Array, "batch token"]) -> Vectors:
        count = ids.shape[1]
        embed = lambda name, size: nn.Embed(size, self.width, name=f"text_model.embeddings.{name}")
        x = embed("token_embedding", self.vocabulary)(ids)
        x = x + embed("position_embedding", self.positions)(jnp.arange(count))[None]
        causal = jnp.where(jnp.tril(jnp.ones((count, count))) > 0, 0.0, -1e9)[None, None]
        transformer = _Transformer(
            *self.layers, self.epsilon, self.activation, name="text_model.encoder"
        )
        x = nn.LayerNorm(self.epsilon, name="text_model.final_layer_norm")(transformer(x, causal))
        last = jnp.argmax(ids == self.end, axis=1)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        return unit(nn.Dense(self.dim, use_bias=False, name="text_projection")(x))


# What a published configuration leaves out.
_VISION = {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_TEXT = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "eos_token_id": 49407,
}
