"""Token sequences from features extracted beforehand, vectors or sequences.

Every token encoder works on ONE example; callers `jax.vmap` over the batch, with a "dropout" key
each. It is called as `encoder(x, present, train=...)` and returns tokens [position, width] with a
mask [position] of those that are there. What an absent example holds, even NaN, has no effect on
gradients.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class VectorTokens(nn.Module):
    """A vector as `tokens` tokens: one hidden layer, then a linear map to each token.

    Cross-attention to a single token is a linear map that ignores the query (a softmax over one key
    is 1), so a modality that others attend to wants several.

    Attributes:
      width: of a token.
      tokens: how many.
      hidden: width of the hidden layer.
      dropout: of the hidden layer.
    """

    width: int = 512
    tokens: int = 4
    hidden: int = 512
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "dim"], present: Bool[Array, ""], *, train: bool
    ) -> tuple[Float[Array, "token width"], Bool[Array, "token"]]:
        x = nn.gelu(nn.Dense(self.hidden)(jnp.where(present, x, 0)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(self.tokens * self.width)(x).reshape(self.tokens, self.width)
        return nn.LayerNorm()(x), jnp.broadcast_to(present, x.shape[:1])


class SequenceTokens(nn.Module):
    """A sequence of feature vectors, or of maps flattened, as one token per step.

    A linear map plus a learned position, then residual convolutions over three steps.

    Attributes:
      width: of a token.
      layers: convolutions.
      dropout: of every residual branch.
    """

    width: int = 512
    layers: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "time *rest"], present: Bool[Array, ""], *, train: bool
    ) -> tuple[Float[Array, "time width"], Bool[Array, "time"]]:
        x = nn.Dense(self.width)(jnp.where(present, x.reshape(x.shape[0], -1), 0))
        x = x + self.param("position", nn.initializers.normal(0.02), x.shape)
        for _ in range(self.layers):
            y = jnp.pad(nn.LayerNorm()(x), ((1, 1), (0, 0)))
            window = jnp.concatenate([y[:-2], y[1:-1], y[2:]], axis=-1)
            y = nn.Dense(self.width)(nn.gelu(nn.Dense(self.width)(window)))
            x = x + nn.Dropout(self.dropout, deterministic=not train)(y)
        return nn.LayerNorm()(x), jnp.broadcast_to(present, x.shape[:1])
