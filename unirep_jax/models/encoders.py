"""Encoders from any feature shape to a common sequence, and the decoders that reconstruct them.

Every module works on ONE example; callers `jax.vmap` over the batch. Each example then has its own
dropout key, and a batch gives the same numbers however it is spread over devices.
"""

from collections.abc import Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Features = Float[Array, "..."]


def align_time(x: Float[Array, "steps *rest"], time: int) -> Float[Array, "time channels"]:
    """A sequence of any length as `time` steps, losing nothing where the length is a multiple.

    Consecutive steps are folded into channels ([64, 6] becomes [16, 24] for time 16); one step is
    repeated; any other length is first interpolated linearly to the next multiple of `time`.
    """
    x = x.reshape(x.shape[0], -1)
    steps, channels = x.shape
    if steps == 1:
        return jnp.broadcast_to(x, (time, channels))
    whole = -(-steps // time) * time
    if whole != steps:
        x = jax.image.resize(x, (whole, channels), "linear", antialias=False)
    return x.reshape(time, -1)


def common_time(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Steps of the shortest sequence, given the shape of one example per modality.

    Plain vectors and single steps do not count; 1 when there is nothing else.
    """
    return min((s[0] for s in shapes.values() if len(s) > 1 and s[0] > 1), default=1)


class AttentionPool(nn.Module):
    """[steps, height, width, channels] to [steps, channels]: channel gate, then spatial attention.

    The gate is squeeze-and-excitation with a residual; the attention compares every position with
    the frame's average. Structure of the visual encoder of Tian et al. (AVE, ECCV 2018), as DCID
    and MICU use it.
    """

    hidden: int = 256
    squeeze: int = 8

    @nn.compact
    def __call__(self, x: Float[Array, "steps height width channels"]) -> Features:
        steps, height, width, channels = x.shape
        x = x.reshape(steps, height * width, channels)
        average = x.mean(1)
        gate = nn.relu(nn.Dense(max(channels // self.squeeze, 1), use_bias=False)(average))
        gate = nn.sigmoid(nn.Dense(channels, use_bias=False)(gate))
        query = nn.relu(nn.Dense(self.hidden)(average))[:, None]
        key = nn.relu(nn.Dense(self.hidden)(x * (1 + gate[:, None])))
        # tanh bounds the logits, so that no single position can take all the attention.
        attention = nn.softmax(nn.tanh(nn.Dense(1)(key * query))[..., 0], axis=1)
        # The gate is the same at every position: applied after the sum instead of before it.
        return (1 + gate) * jnp.einsum("ts,tsc->tc", attention, x)


class TransformerBlock(nn.Module):
    """Post-norm self-attention and feed-forward over time, as in the authors' DCID and MICU."""

    heads: int
    dropout: float
    broadcast_dropout: bool = True  # all heads lose the same places

    @nn.compact
    def __call__(self, x: Float[Array, "time dim"], *, train: bool) -> Float[Array, "time dim"]:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        norm = partial(nn.LayerNorm, epsilon=1e-5)
        attention = nn.MultiHeadDotProductAttention(
            self.heads,
            dropout_rate=self.dropout,
            deterministic=not train,
            broadcast_dropout=self.broadcast_dropout,
        )
        x = norm()(x + drop(attention(x)))
        hidden = drop(nn.relu(nn.Dense(4 * x.shape[-1])(x)))
        return norm()(x + drop(nn.Dense(x.shape[-1])(hidden)))


class ConvolutionBlock(nn.Module):
    """Residual convolution over three neighbouring steps, written as one matrix product."""

    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "time dim"], *, train: bool) -> Float[Array, "time dim"]:
        # Zeros before the first and after the last step tell the block where a sequence ends.
        y = jnp.pad(nn.LayerNorm()(x), ((1, 1), (0, 0)))
        window = jnp.concatenate([y[:-2], y[1:-1], y[2:]], axis=-1)
        y = nn.gelu(nn.Dense(x.shape[-1])(window))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return x + nn.Dense(x.shape[-1])(y)


class Encoder(nn.Module):
    """One modality's features to a sequence [time, dim].

    Accepts [steps, channels], maps [steps, height, width, channels] (attention pooling) and plain
    vectors [channels] (one step, repeated).

    Attributes:
      dim: width of the output.
      time: steps of the output, common to all modalities.
      temporal: "transformer" (the paper's, without position encoding) or "convolution" (knows the
        order of steps, learns from little data).
      layers, heads, dropout, broadcast_dropout: of the temporal blocks.
    """

    dim: int
    time: int
    temporal: str = "transformer"
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    broadcast_dropout: bool = True

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "time dim"]:
        if x.ndim == 4:
            x = AttentionPool(self.dim)(x)
        # Modalities have one length from here on, so that step t of one is comparable to step t of
        # another, and the fine loss needs no alignment of its own.
        x = nn.Dense(self.dim)(align_time(jnp.atleast_2d(x), self.time))
        if self.temporal == "transformer":
            for _ in range(self.layers):
                block = TransformerBlock(self.heads, self.dropout, self.broadcast_dropout)
                x = block(x, train=train)
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for _ in range(self.layers):
            x = ConvolutionBlock(self.dropout)(x, train=train)
        return nn.LayerNorm()(x)


def reconstruction_target(x: Features, time: int) -> Features:
    """What a decoder aims at: the aligned sequence, or the maps at `time` frames."""
    if x.ndim == 4:
        return jax.image.resize(x, (time, *x.shape[1:]), "linear", antialias=False)
    return align_time(jnp.atleast_2d(x), time)


class Decoder(nn.Module):
    """Codes [time, dim] back to the features of one modality, one hidden layer per step.

    Maps are decoded as a sum of `basis` learned spatial patterns with predicted channel vectors:
    a fiftieth of the arithmetic of decoding every position.
    """

    shape: tuple[int, ...]
    hidden: int = 256
    basis: int = 8

    @nn.compact
    def __call__(self, x: Float[Array, "time dim"]) -> Features:
        x = nn.relu(nn.Dense(self.hidden)(x))
        if len(self.shape) == 2:
            return nn.Dense(self.shape[-1])(x)
        time, height, width, channels = self.shape
        channel = nn.Dense(self.basis * channels)(x).reshape(time, self.basis, channels)
        # Patterns are shared by all steps and examples; codes only choose the channel vectors.
        init = nn.initializers.lecun_normal()
        pattern = self.param("pattern", init, (self.basis, height * width))
        bias = self.param("bias", nn.initializers.zeros, (height * width, channels))
        maps = jnp.einsum("tkc,ks->tsc", channel, pattern) + bias[None]
        return maps.reshape(self.shape)
