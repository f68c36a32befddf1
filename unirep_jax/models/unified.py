"""The network that unified-codebook methods share: an encoder and a decoder per modality."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.encoders import Decoder, Encoder, reconstruction_target
from unirep_jax.models.linear_path import LinearPath

Inputs = dict[str, Float[Array, "..."]]


class UnifiedNetwork(nn.Module):
    """Features of any modalities of one example to sequences [modality, time, dim], and back.

    Attributes:
      shapes: (modality, shape of one example) of the modalities that calls may name.
      dim, time, temporal, layers, heads, dropout: of every `Encoder`.
      specific: decode from the code joined with modality-specific features of the input.
      linear: a `LinearPath` beside every encoder, whose own output begins at zero.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    dim: int
    time: int
    temporal: str
    layers: int
    heads: int
    dropout: float
    specific: bool = False
    linear: bool = False

    def setup(self) -> None:
        self.encoders = {
            m: Encoder(self.dim, self.time, self.temporal, self.layers, self.heads, self.dropout)
            for m, _ in self.shapes
        }
        target = partial(reconstruction_target, time=self.time)
        self.decoders = {
            m: Decoder(jax.eval_shape(target, jnp.zeros(shape)).shape) for m, shape in self.shapes
        }
        if self.linear:
            zeros = nn.initializers.zeros
            names = [m for m, _ in self.shapes]
            self.linears = {m: LinearPath(self.dim) for m in names}
            self.gates = {m: self.param(f"gate_{m}", zeros, (self.dim,)) for m in names}
        if self.specific:
            self.specifics = {m: Encoder(self.dim, self.time, layers=0) for m, _ in self.shapes}

    def encode(self, inputs: Inputs, *, train: bool) -> Float[Array, "modality time dim"]:
        sequences = [self.encoders[m](x, train=train) for m, x in inputs.items()]
        if self.linear:  # the same vector at every step, corrected by the encoder
            paths = [self.linears[m](x)[None] for m, x in inputs.items()]
            gates = [self.gates[m][None] for m in inputs]
            sequences = [p + g * z for p, g, z in zip(paths, gates, sequences, strict=True)]
        return jnp.stack(sequences)

    def specific_features(self, inputs: Inputs) -> Float[Array, "modality time dim"]:
        """Sequences of what is particular to each modality, where `specific`."""
        sequences = [nn.relu(self.specifics[m](x, train=False)) for m, x in inputs.items()]
        return jnp.stack(sequences)

    def reconstruction_error(
        self, codes: Float[Array, "modality time dim"], inputs: Inputs
    ) -> Float[Array, "modality"]:
        """Mean squared error of each modality's features decoded from its codes."""
        errors = []
        if self.specific:
            codes = jnp.concatenate([codes, self.specific_features(inputs)], axis=-1)
        for code, (m, x) in zip(codes, inputs.items(), strict=True):
            target = reconstruction_target(x, self.time)
            errors.append(jnp.mean((self.decoders[m](code) - target) ** 2))
        return jnp.stack(errors)

    def __call__(self, inputs: Inputs) -> Float[Array, "modality"]:
        return self.reconstruction_error(self.encode(inputs, train=False), inputs)
