"""Encoders that need no weights: pixels, frames, log-mel spectrograms and word ids."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.extract.encoders import Encoder
from unirep_jax.data.extract.media import read_audio, read_image, read_video
from unirep_jax.data.extract.mel import mel_filters, spectrogram
from unirep_jax.data.kinds import Kind
from unirep_jax.data.words import build_vocabulary, split_words, word_ids, word_vectors

_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.01
_LOWEST, _HIGHEST = 125.0, 7500.0  # hertz, as VGGish


def pixels(*, size: int = 64) -> Encoder:
    """[1, size, size, 3] in 0 … 1: the middle square of a picture, resized with averaging."""
    return Encoder("image", lambda path: _square(read_image(path), size)[None], np.stack)


def frames(*, size: int = 64, rate: float = 1.0, count: int = 10) -> Encoder:
    """[count, size, size, 3] in 0 … 1: frames of a video, `rate` a second; the last one repeats."""
    from PIL import Image

    def prepare(path: Path | str) -> np.ndarray:
        taken = read_video(path, rate=rate, count=count)
        return np.stack([_square(Image.fromarray(frame), size) for frame in taken])

    return Encoder("video", prepare, np.stack, batch_size=8)


def log_mel(*, seconds: float = 10.0, steps: int = 0, mels: int = 64, rate: int = 16000) -> Encoder:
    """[steps, mels]: log(mel + 0.01) of sound, as the input of VGGish; 25 ms windows every 10 ms.

    Sound is cut to `seconds`, or followed by silence. With `steps` > 0 it is cut where it ends, and
    its frames are averaged in so many equal parts; 0 keeps them all.
    """
    window, hop = round(_WINDOW_SECONDS * rate), round(_HOP_SECONDS * rate)
    fft = 1 << (window - 1).bit_length()
    highest = min(_HIGHEST, rate / 2)
    filters = mel_filters(rate, fft, mels, _LOWEST, highest, over_mel=True)

    def prepare(path: Path | str) -> np.ndarray:
        wave = read_audio(path, rate, seconds=seconds)
        if not steps:
            wave = np.pad(wave, (0, max(0, round(seconds * rate) - len(wave))))
        magnitude = spectrogram(wave, window=window, hop=hop, fft=fft, centred=False)
        return average_steps(np.log(magnitude @ filters + 0.01), steps).astype(np.float32)

    # Of equal parts it is a sequence of means; of all frames a picture of time and frequency.
    return Encoder("audio", prepare, np.stack, kind=None if steps else Kind.SPECTROGRAM)


def average_steps(frames: np.ndarray, steps: int) -> np.ndarray:
    """[frame, dim] to [steps, dim]: means of equal parts, which share frames if there are few."""
    if not steps:
        return frames
    edges = np.linspace(0, len(frames), steps + 1)
    starts = np.floor(edges[:-1]).astype(int)
    stops = np.maximum(np.ceil(edges[1:]).astype(int), starts + 1)
    return np.stack([frames[a:b].mean(axis=0) for a, b in zip(starts, stops, strict=True)])


def words(*, length: int = 32, min_count: int = 2, dim: int = 0) -> Encoder:
    """int32 [length]: ids of the words of a text, 0 being padding; of a vocabulary made of training
    texts.

    With `dim` > 0, [length, dim]: a random unit vector for each word, for methods that learn no
    embedding of their own. Words that occur less than `min_count` times share id 1.
    """
    vocabulary: list[str] = []

    def fit(texts: Iterable[Path | str]) -> dict[str, Any]:
        vocabulary[:] = build_vocabulary(
            (split_words(str(text))[:length] for text in texts), min_count=min_count
        )
        return {"vocabulary": list(vocabulary)}

    def encode(texts: list[list[str]]) -> np.ndarray:
        ids = word_ids(texts, vocabulary, length)
        return word_vectors(ids, vocabulary, dim) if dim else ids

    kind = None if dim else Kind.WORDS
    return Encoder("text", lambda text: split_words(str(text)), encode, 1024, fit, kind=kind)


def _square(image: Any, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    square = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square, np.float32) / 255
