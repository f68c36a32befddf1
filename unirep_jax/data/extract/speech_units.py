"""Speech as a bag of acoustic units: what is said, with no weights but those of the data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unirep_jax.data.extract.encoders import Encoder
from unirep_jax.data.extract.media import MediaError, read_audio
from unirep_jax.data.extract.mel import mel_filters, spectrogram

_RATE, _WINDOW, _HOP, _FFT = 16000, 400, 160, 512
_MELS, _CEPSTRA = 40, 13
_FRAMES, _STRIDE = 15, 3  # 150 ms of sound is a piece, and one begins every 30 ms
_SILENCE = 4.0  # below the loudest frame, in nepers of the mean log energy
_FILES, _PIECES = 2000, 60_000  # that units are learned from, at most
_ITERATIONS = 25

Pieces = Float[np.ndarray, "piece value"]


def speech_units(*, units: int = 512, seconds: float = 8.0, seed: int = 0) -> Encoder:
    """[units]: how much of each acoustic unit there is in a sound, a vector of length 1.

    Pieces of 150 ms, of 13 mel cepstra that are standardised over the sound without its silent
    ends, are compared with the centroids of a k-means of the training sounds. A piece belongs to
    unit u by exp(−‖piece − uᵤ‖), of sum 1; the vector is the square root of the mean over pieces.

    References: k-means units of cepstra are the first targets of HuBERT (Hsu et al., TASLP 2021);
    bags of audio words, Pancoast and Akbacak, Interspeech 2012.
    """
    centroids = np.zeros((0, _FRAMES * _CEPSTRA))
    filters = mel_filters(_RATE, _FFT, _MELS, 60, 7600)

    def prepare(path: Path | str) -> Pieces:
        wave = read_audio(path, _RATE, seconds=seconds)
        magnitude = spectrogram(wave, window=_WINDOW, hop=_HOP, fft=_FFT, centred=False)
        return cepstral_pieces(np.log(magnitude @ filters + 1e-3))

    def fit(paths: Iterable[Path | str]) -> dict[str, Any]:
        nonlocal centroids
        known = list(paths)
        chosen = np.linspace(0, len(known) - 1, min(_FILES, len(known))).astype(int)
        pieces = [found for i in chosen if len(found := _prepared(prepare, known[i]))]
        if not pieces:
            raise ValueError("no training sound that units could be learned from")
        rng = np.random.default_rng(seed)
        every = rng.permutation(np.concatenate(pieces))[:_PIECES]
        centroids = k_means(every, min(units, len(every)), rng)
        return {"learned_from": {"sounds": len(pieces), "pieces": len(every)}}

    def encode(items: list[Pieces]) -> np.ndarray:
        bags = np.stack([_bag(item, centroids) for item in items])
        return np.pad(bags, ((0, 0), (0, units - bags.shape[1]))).astype(np.float32)

    return Encoder("audio", prepare, encode, fit=fit)


def _prepared(prepare: Any, path: Path | str) -> Pieces:
    try:
        return prepare(path)
    except MediaError:  # is reported where every file is read
        return np.zeros((0, _FRAMES * _CEPSTRA))


def cepstral_pieces(log_mel: Float[np.ndarray, "frame mel"]) -> Pieces:
    """Overlapping pieces of standardised cepstra; a short sound is one piece, zeros behind it."""
    from scipy.fft import dct

    loudness = log_mel.mean(axis=1)
    loud = np.flatnonzero(loudness > loudness.max() - _SILENCE)
    margin = 3
    kept = log_mel[max(0, loud[0] - margin) : loud[-1] + margin + 1]
    cepstra = dct(kept, norm="ortho", axis=1)[:, :_CEPSTRA]
    cepstra = (cepstra - cepstra.mean(axis=0)) / (cepstra.std(axis=0) + 1e-6)
    cepstra = np.pad(cepstra, ((0, max(0, _FRAMES - len(cepstra))), (0, 0)))
    pieces = np.lib.stride_tricks.sliding_window_view(cepstra, _FRAMES, axis=0)[::_STRIDE]
    return pieces.reshape(len(pieces), -1)


def k_means(points: Pieces, count: int, rng: np.random.Generator) -> Pieces:
    """Centroids by Lloyd's iteration from random points; one without points takes a random one."""
    centroids = points[rng.choice(len(points), count, replace=False)].copy()
    for _ in range(_ITERATIONS):
        nearest = _squared_distances(points, centroids).argmin(axis=1)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        starts = np.cumsum(sizes) - sizes
        filled = np.flatnonzero(sizes)
        sums = np.add.reduceat(points[order], starts[filled])
        centroids[filled] = sums / sizes[filled, None]
        empty = np.flatnonzero(sizes == 0)
        centroids[empty] = points[rng.choice(len(points), len(empty), replace=False)]
    return centroids


def _squared_distances(points: Pieces, centroids: Pieces) -> Float[np.ndarray, "point centroid"]:
    products = points @ centroids.T
    norms = np.einsum("ij,ij->i", points, points)[:, None] + np.einsum(
        "ij,ij->i", centroids, centroids
    )
    return np.maximum(norms - 2 * products, 0)


def _bag(pieces: Pieces, centroids: Pieces) -> Float[np.ndarray, "unit"]:
    distances = np.sqrt(_squared_distances(pieces, centroids))
    weights = np.exp(distances.min(axis=1, keepdims=True) - distances)
    return np.sqrt((weights / weights.sum(axis=1, keepdims=True)).mean(axis=0))
