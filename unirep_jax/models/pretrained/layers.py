"""Transformer layers that BERT, ViT, CLIP and CLAP share, under the names that each publishes."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Tokens = Float[Array, "batch token width"]


class Names(NamedTuple):
    """Published names of the eight parts of a layer."""

    norm_1: str
    query: str
    key: str
    value: str
    out: str
    norm_2: str
    up: str
    down: str


BERT = Names(
    "attention.output.LayerNorm",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "output.LayerNorm",
    "intermediate.dense",
    "output.dense",
)
VIT = Names(
    "layernorm_before",
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
    "layernorm_after",
    "intermediate.dense",
    "output.dense",
)
CLIP = Names(
    "layer_norm1",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
)


def gelu(x: Array) -> Array:
    return nn.gelu(x, approximate=False)


def quick_gelu(x: Array) -> Array:
    """The approximation of the first CLIP models."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu, "relu": nn.relu}


class Layer(nn.Module):
    """Self-attention and feed-forward, each with its residual.

    Attributes:
      names: of the parts.
      heads: of the attention.
      hidden: units of the feed-forward part.
      before: LayerNorm comes before each part (ViT, CLIP), not after its residual (BERT).
      epsilon: of LayerNorm.
      activation: of the feed-forward part.
    """

    names: Names
    heads: int
    hidden: int
    before: bool
    epsilon: float = 1e-12
    activation: Callable[[Array], Array] = gelu

    @nn.compact
    def __call__(self, x: Tokens, bias: Float[Array, "..."] | None = None) -> Tokens:
        """`bias` is added to the attention's logits [batch, head, token, token]."""
        norm_1 = nn.LayerNorm(self.epsilon, name=self.names.norm_1)
        norm_2 = nn.LayerNorm(self.epsilon, name=self.names.norm_2)
        if self.before:
            x = x + self._attention(norm_1(x), bias)
            return x + self._feed_forward(norm_2(x))
        x = norm_1(x + self._attention(x, bias))
        return norm_2(x + self._feed_forward(x))

    def _attention(self, x: Tokens, bias: Float[Array, "..."] | None) -> Tokens:
        width = x.shape[-1]
        query, key, value = (
            nn.Dense(width, name=name)(x)
            for name in (self.names.query, self.names.key, self.names.value)
        )
        return nn.Dense(width, name=self.names.out)(attend(query, key, value, self.heads, bias))

    def _feed_forward(self, x: Tokens) -> Tokens:
        hidden = self.activation(nn.Dense(self.hidden, name=self.names.up)(x))
        return nn.Dense(x.shape[-1], name=self.names.down)(hidden)


def attend(
    query: Tokens, key: Tokens, value: Tokens, heads: int, bias: Float[Array, "..."] | None
) -> Tokens:
    """Scaled dot-product attention by heads; `bias` is added to the logits."""
    split = lambda x: x.reshape(*x.shape[:-1], heads, -1)
    query, key, value = split(query), split(key), split(value)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query / math.sqrt(query.shape[-1]), key)
    weights = jax.nn.softmax(logits if bias is None else logits + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*query.shape[:-2], -1)


def padding_bias(mask: Float[Array, "batch token"]) -> Float[Array, "batch 1 1 token"]:
    """Logits of −10⁹ for tokens that are not there."""
    return jnp.where(mask[:, None, None, :] > 0, 0.0, -1e9)
