"""CLAP: a sound encoder (HTSAT, a Swin transformer) and a text encoder into one space.

The models without feature fusion, of clips of ten seconds; fused ones are refused.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax.models.pretrained.bert import Bert, unit
from unirep_jax.models.pretrained.frozen import FrozenBatchNorm
from unirep_jax.models.pretrained.layers import attend, gelu

Grid = Float[Array, "batch row column width"]
Vectors = Float[Array, "batch dim"]
_SWIN = "audio_model.audio_encoder"


class WindowLayer(nn.Module):
    """Self-attention within windows of a grid, and feed-forward.

    Attributes:
      heads: of the attention.
      window: positions along a side of a window.
      shift: by which the grid is rolled before it is cut, so that windows of layers overlap.
      ratio: hidden units per unit of the width.
      epsilon: of LayerNorm.

    Reference: Liu et al., "Swin Transformer", ICCV 2021, section 3.2.
    """

    heads: int
    window: int
    shift: int
    ratio: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        _, rows, columns, width = x.shape
        window = min(self.window, rows, columns)
        shift = self.shift if window < min(rows, columns) else 0
        normed = nn.LayerNorm(self.epsilon, name="layernorm_before")(x)
        # Positions that the padding adds take part in the attention, as they do in the original.
        padding = ((0, 0), (0, -rows % window), (0, -columns % window), (0, 0))
        grid = jnp.roll(jnp.pad(normed, padding), (-shift, -shift), (1, 2))
        mixed = self._attention(grid, window, shift)
        mixed = jnp.roll(mixed, (shift, shift), (1, 2))[:, :rows, :columns]
        x = x + mixed
        hidden = nn.LayerNorm(self.epsilon, name="layernorm_after")(x)
        hidden = gelu(nn.Dense(int(self.ratio * width), name="intermediate.dense")(hidden))
        return x + nn.Dense(width, name="output.dense")(hidden)

    def _attention(self, x: Grid, window: int, shift: int) -> Grid:
        batch, rows, columns, width = x.shape
        windows = _windows(x, window)
        query, key, value = (
            nn.Dense(width, name=f"attention.self.{part}")(windows)
            for part in ("query", "key", "value")
        )
        table = self.param(
            "attention.self.relative_position_bias_table",
            nn.initializers.normal(0.02),
            ((2 * window - 1) ** 2, self.heads),
        )
        bias = table[_relative_places(window)].transpose(2, 0, 1)[None]
        if shift:
            apart = _apart(rows, columns, window, shift)
            bias = bias + jnp.tile(jnp.where(apart, -100.0, 0.0)[:, None], (batch, 1, 1, 1))
        mixed = attend(query, key, value, self.heads, bias)
        mixed = nn.Dense(width, name="attention.output.dense")(mixed)
        grid = mixed.reshape(batch, rows // window, columns // window, window, window, width)
        return grid.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)


def _windows(x: Grid, window: int) -> Float[Array, "batch_window position width"]:
    batch, rows, columns, width = x.shape
    cut = x.reshape(batch, rows // window, window, columns // window, window, width)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, width)


def _relative_places(window: int) -> np.ndarray:
    """[position, position]: row of the bias table for a pair of positions in a window."""
    place = np.stack(np.divmod(np.arange(window * window), window), axis=1)
    apart = place[:, None] - place[None] + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


def _apart(rows: int, columns: int, window: int, shift: int) -> np.ndarray:
    """bool [window, position, position]: pairs that only the roll has brought into one window."""
    region = lambda n: (np.arange(n) >= n - window).astype(int) + (np.arange(n) >= n - shift)
    regions = 3 * region(rows)[:, None] + region(columns)[None]
    cut = regions.reshape(rows // window, window, columns // window, window)
    cut = cut.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return cut[:, :, None] != cut[:, None, :]


class Stage(nn.Module):
    """Window layers, every second one shifted; then, but for the last stage, a quarter of the grid.

    Attributes:
      depth, heads, window, ratio, epsilon: of the layers.
      merge: four neighbours become one position of twice the width.
    """

    depth: int
    heads: int
    window: int
    ratio: float
    epsilon: float
    merge: bool

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        for i in range(self.depth):
            shift = self.window // 2 if i % 2 else 0
            x = WindowLayer(
                self.heads, self.window, shift, self.ratio, self.epsilon, name=f"blocks.{i}"
            )(x)
        if not self.merge:
            return x
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        parts = [x[:, row::2, column::2] for column in range(2) for row in range(2)]
        x = nn.LayerNorm(1e-5, name="downsample.norm")(jnp.concatenate(parts, axis=-1))
        return nn.Dense(x.shape[-1] // 2, use_bias=False, name="downsample.reduction")(x)


class ClapAudio(nn.Module):
    """Log-mel spectrograms [batch, frame, mel] to unit vectors [batch, dim].

    Attributes:
      dim: of the shared space.
      width: of the first stage; each further one is twice as wide.
      depths, heads: of the stages.
      mels, size: of the spectrogram, and of a side of the square that it is folded into.
      patch, stride, window: pixels of a patch, between patches, and patches of a window.
      ratio: hidden units per unit of the width.
      epsilon: of LayerNorm.

    References: Wu et al., "Large-scale Contrastive Language-Audio Pretraining", ICASSP 2023; Chen
    et al., "HTS-AT", ICASSP 2022.
    """

    dim: int = 512
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    mels: int = 64
    size: int = 256
    patch: int = 4
    stride: int = 4
    window: int = 8
    ratio: float = 4.0
    epsilon: float = 1e-5

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClapAudio":
        """Sizes of a published config.json of the two encoders together.

        Raises:
          ValueError: the model has feature fusion.
        """
        audio = config["audio_config"]
        if audio.get("enable_fusion", False):
            raise ValueError(
                "this CLAP has feature fusion; expected one without, such as clap-htsat-unfused"
            )
        stride = audio.get("patch_stride", 4)
        return cls(
            config.get("projection_dim", 512),
            audio.get("patch_embeds_hidden_size", 96),
            tuple(audio.get("depths", cls.depths)),
            tuple(audio.get("num_attention_heads", cls.heads)),
            audio.get("num_mel_bins", 64),
            audio.get("spec_size", 256),
            audio.get("patch_size", 4),
            stride if isinstance(stride, int) else stride[0],
            audio.get("window_size", 8),
            audio.get("mlp_ratio", 4.0),
            audio.get("layer_norm_eps", 1e-5),
        )

    @nn.compact
    def __call__(self, mel: Float[Array, "batch frame mel"]) -> Vectors:
        x = FrozenBatchNorm(1e-5, name=f"{_SWIN}.batch_norm")(mel)
        x = self._fold(x)[..., None]
        margin = (self.patch - self.stride) // 2
        x = nn.Conv(
            self.width,
            (self.patch, self.patch),
            (self.stride, self.stride),
            margin,
            name=f"{_SWIN}.patch_embed.proj",
        )(x)
        x = nn.LayerNorm(1e-5, name=f"{_SWIN}.patch_embed.norm")(x)
        for i, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)):
            x = Stage(
                depth,
                heads,
                self.window,
                self.ratio,
                self.epsilon,
                i + 1 < len(self.depths),
                name=f"{_SWIN}.layers.{i}",
            )(x)
        x = nn.LayerNorm(1e-5, name=f"{_SWIN}.norm")(x).mean(axis=(1, 2))
        return unit(_projection(x, self.dim, "audio_projection"))

    def _fold(self, x: Float[Array, "batch frame mel"]) -> Float[Array, "batch size size"]:
        """Stretches time to a multiple of the square's side, and stacks its parts over the mels."""
        parts = self.size // self.mels
        stretch = jnp.asarray(cubic_matrix(x.shape[1], self.size * parts), x.dtype)
        x = jnp.einsum("st,btm->bsm", stretch, x)
        x = x.reshape(len(x), parts, self.size, self.mels)
        return x.transpose(0, 1, 3, 2).reshape(len(x), self.size, self.size)


class ClapText(nn.Module):
    """[batch, token] ids of RoBERTa to unit vectors [batch, dim].

    Attributes:
      text_model: RoBERTa with its pooler.
      dim: of the shared space.
    """

    text_model: Bert
    dim: int = 512

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClapText":
        """Sizes of a published config.json of the two encoders together."""
        text = _TEXT | config["text_config"]
        return cls(Bert.from_config(text, pooler=True), config.get("projection_dim", 512))

    @nn.compact
    def __call__(
        self, ids: Int[Array, "batch token"], mask: Float[Array, "batch token"]
    ) -> Vectors:
        _, pooled = self.text_model(ids, mask)
        return unit(_projection(pooled, self.dim, "text_projection"))


def _projection(x: Vectors, dim: int, name: str) -> Vectors:
    x = nn.relu(nn.Dense(dim, name=f"{name}.linear1")(x))
    return nn.Dense(dim, name=f"{name}.linear2")(x)


def cubic_matrix(before: int, after: int) -> np.ndarray:
    """[after, before]: cubic interpolation of a line, first and last points kept.

    Keys' kernel with a = −0.75; beyond the ends, the end points repeat.
    """
    if before == after:
        return np.eye(before)
    place = np.arange(after) * (before - 1) / (after - 1)
    matrix = np.zeros((after, before))
    for offset in range(-1, 3):
        source = np.floor(place).astype(int) + offset
        weight = _keys(np.abs(place - source))
        np.add.at(matrix, (np.arange(after), np.clip(source, 0, before - 1)), weight)
    return matrix


def _keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


_TEXT = {
    "model_type": "clap_text_model",
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 1,
}
