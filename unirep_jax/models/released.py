"""The encoder of MICU and DCID as their authors released it."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.encoders import Encoder
from unirep_jax.models.released_weights import DIM, HEADS, LAYERS, LSTM_DIM
from unirep_jax.models.text import BiLSTM


class ReleasedEncoder(nn.Module):
    """One modality of one example, as published, to the sequence that is quantised.

    Sound passes the temporal encoder alone; video is pooled by attention before, and word vectors
    pass two layers of an LSTM in both directions, tokens of zeros after the last word included.
    """

    modality: str

    @nn.compact
    def __call__(self, x: Float[Array, "time ..."]) -> Float[Array, "time dim"]:
        if self.modality == "text":
            everywhere = jnp.ones(len(x), bool)
            for _ in range(LAYERS):
                x = BiLSTM(LSTM_DIM)(x, everywhere)
        encoder = Encoder(DIM, time=len(x), layers=LAYERS, heads=HEADS, dropout=0.0)
        return encoder(x, train=False)
