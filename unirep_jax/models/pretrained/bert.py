"""BERT, RoBERTa and sentence encoders built on them, such as MiniLM."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unirep_jax.models.pretrained.layers import ACTIVATIONS, BERT, Layer, Tokens, padding_bias


class Bert(nn.Module):
    """[batch, token] ids to the last hidden states [batch, token, width].

    Attributes:
      vocabulary, width, depth, heads, hidden, positions, types: sizes, as config.json has them.
      epsilon: of LayerNorm.
      activation: of the feed-forward parts.
      first_position: of the first token; RoBERTa counts from one beyond its padding id.
      pooler: also gives tanh(W h₀ + b) of the first token, as CLAP's text model takes it.

    References: Devlin et al., "BERT", NAACL 2019; Liu et al., "RoBERTa", 2019; Reimers and
    Gurevych, "Sentence-BERT", EMNLP 2019, for `mean_pooling`.
    """

    vocabulary: int = 30522
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    types: int = 2
    epsilon: float = 1e-12
    activation: str = "gelu"
    first_position: int = 0
    pooler: bool = False

    @classmethod
    def from_config(cls, config: dict[str, Any], *, pooler: bool = False) -> "Bert":
        """Sizes of a published config.json."""
        roberta = config["model_type"] in ("roberta", "clap_text_model")
        return cls(
            config["vocab_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["max_position_embeddings"],
            config["type_vocab_size"],
            config["layer_norm_eps"],
            config["hidden_act"],
            config.get("pad_token_id", 1) + 1 if roberta else 0,
            pooler,
        )

    @nn.compact
    def __call__(
        self, ids: Int[Array, "batch token"], mask: Float[Array, "batch token"]
    ) -> Tokens | tuple[Tokens, Float[Array, "batch width"]]:
        """`mask` is 1 for tokens and 0 for the padding behind them."""
        embed = lambda name, count: nn.Embed(count, self.width, name=f"embeddings.{name}")
        place = self.first_position + jnp.arange(ids.shape[1])
        x = embed("word_embeddings", self.vocabulary)(ids)
        x = x + embed("position_embeddings", self.positions)(place)[None]
        x = x + embed("token_type_embeddings", self.types)(jnp.zeros_like(ids))
        x = nn.LayerNorm(self.epsilon, name="embeddings.LayerNorm")(x)
        bias = padding_bias(mask)
        activation = ACTIVATIONS[self.activation]
        for i in range(self.depth):
            layer = Layer(
                BERT,
                self.heads,
                self.hidden,
                False,
                self.epsilon,
                activation,
                name=f"encoder.layer.{i}",
            )
            x = layer(x, bias)
        if not self.pooler:
            return x
        return x, nn.tanh(nn.Dense(self.width, name="pooler.dense")(x[:, 0]))


def mean_pooling(x: Tokens, mask: Float[Array, "batch token"]) -> Float[Array, "batch width"]:
    """The mean of the tokens that are there."""
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return jnp.einsum("btd,bt->bd", x, mask) / count


def unit(x: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
    """Vectors of length 1; zero stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
