"""Mel spectrograms in NumPy, as the encoders' own code computes them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Scale = Callable[[np.ndarray], np.ndarray]


def htk(hertz: np.ndarray) -> np.ndarray:
    """The mel scale of HTK: 2595 log₁₀(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def slaney(hertz: np.ndarray) -> np.ndarray:
    """The mel scale of Slaney's Auditory Toolbox: linear to 1 kHz, logarithmic above."""
    hertz = np.asarray(hertz, np.float64)
    above = 15 + np.log(np.maximum(hertz, 1000) / 1000) * 27 / np.log(6.4)
    return np.where(hertz < 1000, 3 * hertz / 200, above)


def _hertz(scale: Scale, mel: np.ndarray, highest: float) -> np.ndarray:
    """The inverse of a scale, by bisection: both are increasing."""
    low, high = np.zeros_like(mel), np.full_like(mel, 2 * highest + 1)
    for _ in range(80):
        middle = (low + high) / 2
        below = scale(middle) < mel
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def mel_filters(
    rate: int,
    fft: int,
    mels: int,
    lowest: float,
    highest: float,
    *,
    scale: Scale = htk,
    over_mel: bool = False,
    unit_area: bool = False,
) -> Float[np.ndarray, "bin mel"]:
    """Triangular filters over the bins of a Fourier transform.

    Args:
      rate: samples a second.
      fft: samples of the transform.
      mels: filters.
      lowest, highest: edges of the first and the last filter, in hertz.
      scale: on which centres are evenly spaced.
      over_mel: flanks are straight over mels, as in VGGish, not over hertz.
      unit_area: every filter has the same area over hertz (Slaney's norm).
    """
    bins = np.linspace(0, rate / 2, fft // 2 + 1)
    first, last = (scale(np.asarray(edge, np.float64)) for edge in (lowest, highest))
    edges = np.linspace(first, last, mels + 2)
    hertz = _hertz(scale, edges, highest)
    bins, edges = (scale(bins), edges) if over_mel else (bins, hertz)
    rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    return filters * 2 / (hertz[2:] - hertz[:-2]) if unit_area else filters


def spectrogram(
    wave: Float[np.ndarray, "sample"], *, window: int, hop: int, fft: int, centred: bool
) -> Float[np.ndarray, "frame bin"]:
    """|STFT| with a periodic Hann window; `centred` reflects half a transform at both ends.

    Frames of `window` samples, padded to `fft` behind.
    """
    wave = np.asarray(wave, np.float64)
    if centred:
        wave = np.pad(wave, fft // 2, mode="reflect")
    if len(wave) < window:
        wave = np.pad(wave, (0, window - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1], fft))
