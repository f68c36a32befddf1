"""Bidirectional LSTM over word ids, and attention pooling of its states.

Every module works on ONE text; callers `jax.vmap` over the batch, with a "dropout" key each.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class BiLSTM(nn.Module):
    """An LSTM in both directions, [time, dim] to [time, 2·hidden].

    Steps that `where` leaves out are skipped wherever they stand: they change no state and give
    zeros. All inputs are projected in one product, and both directions take their steps in one
    loop: half as many steps, one after the other, as two LSTMs.

    Attributes:
      hidden: states per direction.
      recurrent_bias: a second bias beside the first, as PyTorch has it. It adds nothing that the
        first could not say, but their sum moves twice as far in a step.
    """

    hidden: int
    recurrent_bias: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "time dim"], where: Bool[Array, "time"]
    ) -> Float[Array, "time features"]:
        time, dim = x.shape
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        kernel = self.param("kernel", init, (2, dim, 4 * self.hidden))
        recurrent = self.param("recurrent", _orthogonal, (2, self.hidden, 4 * self.hidden))
        bias = self.param("bias", nn.initializers.zeros, (2, 4 * self.hidden))

        if self.recurrent_bias:
            bias += self.param("recurrent_bias", nn.initializers.zeros, bias.shape)
        gates = jnp.einsum("ti,nio->tno", x, kernel) + bias[None]
        steps = (_turn_backward(gates), _turn_backward(jnp.stack([where, where], axis=1)))

        def step(state, now):
            cell, hidden = state
            gates, valid = now
            gates = gates + jnp.einsum("nh,nho->no", hidden, recurrent)
            enter, forget, value, leave = jnp.split(gates, 4, axis=-1)
            new = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * nn.tanh(value)
            cell = jnp.where(valid[:, None], new, cell)
            hidden = jnp.where(valid[:, None], nn.sigmoid(leave) * nn.tanh(new), hidden)
            return (cell, hidden), hidden

        start = jnp.zeros((2, self.hidden), gates.dtype)
        _, states = jax.lax.scan(step, (start, start), steps)
        states = _turn_backward(states).reshape(time, -1)
        return jnp.where(where[:, None], states, 0)


def _turn_backward(x: Array) -> Array:
    """[time, direction, ...] with the time of the second direction reversed."""
    return jnp.stack([x[:, 0], x[::-1, 1]], axis=1)


def _orthogonal(key: Array, shape: tuple[int, int, int]) -> Float[Array, "direction hidden gates"]:
    """An orthogonal matrix per direction and gate."""
    directions, hidden, gates = shape
    keys = jax.random.split(key, (directions, gates // hidden))
    one = lambda k: nn.initializers.orthogonal()(k, (hidden, hidden))
    return jnp.moveaxis(jax.vmap(jax.vmap(one))(keys), 1, 2).reshape(shape)


class TextEncoder(nn.Module):
    """Embedding and bidirectional LSTM: word ids to one token per word, id 0 being padding.

    Attributes:
      vocabulary: number of ids, with that of padding.
      hidden: states per direction; a token has twice as many.
      embedding: width of a word vector.
      dropout: of word vectors and of states.

    Reference: Zhou et al., "Attention-based bidirectional long short-term memory networks for
    relation classification", ACL 2016, eq. 1-8; text encoder of MRN.
    """

    vocabulary: int
    hidden: int = 256
    embedding: int = 300
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, ids: Int[Array, "time"], present: Bool[Array, ""], *, train: bool
    ) -> tuple[Float[Array, "time dim"], Bool[Array, "time"]]:
        """Tokens, zero at padding, and which are words; an absent text has none."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        mask = (ids != 0) & present
        init = nn.initializers.normal(1.0)
        x = nn.Embed(self.vocabulary, self.embedding, embedding_init=init)(jnp.where(mask, ids, 0))
        return drop(BiLSTM(self.hidden)(drop(x), mask)), mask


class WordAttention(nn.Module):
    """Attention pooling of the words' states H [time, dim] to one vector.

        α = softmax_t(wᵀ tanh(H_t)),   h = tanh(Σ_t α_t H_t)

    A text without words gives zeros, with zero gradient.

    Reference: Zhou et al., ACL 2016, eq. 9-12.
    """

    @nn.compact
    def __call__(
        self, states: Float[Array, "time dim"], mask: Bool[Array, "time"]
    ) -> Float[Array, "dim"]:
        scores = nn.Dense(1, use_bias=False)(nn.tanh(states))[:, 0]
        some = mask.any()
        attention = nn.softmax(jnp.where(mask | ~some, scores, -jnp.inf))
        pooled = nn.tanh(attention @ states)
        return jnp.where(some, pooled, 0)
