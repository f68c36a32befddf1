"""Handwritten digits seen, heard and described: a small real set with three paired modalities.

It is made from scikit-learn's `load_digits`, which comes with that package (1,797 images of 8 × 8
pixels from the UCI set "Optical Recognition of Handwritten Digits"), and downloads nothing. It is
for demonstrations and tests, not for comparing methods: the sound is synthesised from the image,
and the caption names the class, as the text prompts of published audio-video-text sets do, so
"unsupervised" training with the text modality sees the label, here as there.
"""

import hashlib

import numpy as np

from unirep_jax.data.features import FeatureSet

_TRAIN = 1197  # neighbours in the list share a writer, so a random split would be easier
_STEPS = 8
_SAMPLE_RATE = 8000
_COLUMN_SAMPLES = 1024  # 128 ms of sound for a column of the image
_FRAME = 512  # two frames a column
_LOWEST, _HIGHEST = 300.0, 3000.0  # Hz
_NOISE = 0.2
_MEL_BANDS = 32
_WORD_DIM = 32
_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_INK = ("thin", "medium", "bold")
_WIDTH = ("narrow", "regular", "wide")
_LEAN = ("left-leaning", "upright", "right-leaning")


def load() -> FeatureSet:
    """1,797 digits on a common axis of 8 steps; the first 1,197 train, the last 600 test.

    Returns:
      video [example, 8, 8]: the columns of the image from left to right;
      audio [example, 8, 64]: log-mel spectra of the image made audible, two frames a step;
      text [example, 8, 32]: word vectors of a caption, "a thin narrow upright handwritten digit
      seven", with zeros after its end.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    image = (digits.images / 16).astype(np.float32)
    train = np.arange(len(image)) < _TRAIN
    return FeatureSet.from_arrays(
        "digits_avt",
        {
            "video": np.ascontiguousarray(image.transpose(0, 2, 1)),
            "audio": _log_mel(_sound(image)),
            "text": _word_vectors(_captions(image, digits.target, train)),
        },
        digits.target,
        train,
        class_names=_CLASSES,
    )


def _sound(image: np.ndarray) -> np.ndarray:
    """[example, sample] waveforms: columns are time, rows are pitch, brightness is loudness.

        x(s) = Σᵣ image[r, column(s)] sin(2π fᵣ s / rate + φᵣ) + noise

    with fᵣ exponentially spaced, the top row highest, and phases drawn per example and row.
    Reference: Meijer, "An experimental system for auditory image representations", 1992.
    """
    examples, rows, columns = image.shape
    rng = np.random.default_rng(0)
    frequency = np.geomspace(_HIGHEST, _LOWEST, rows)
    time = np.arange(columns * _COLUMN_SAMPLES).reshape(columns, _COLUMN_SAMPLES) / _SAMPLE_RATE
    angle = 2 * np.pi * frequency[:, None, None] * time  # [row, column, sample]
    phase = rng.uniform(0, 2 * np.pi, (examples, rows, 1)).astype(np.float32)
    # sin(α + φ) = sin α cos φ + cos α sin φ turns the synthesis into one matrix product a column.
    weights = np.concatenate([image * np.cos(phase), image * np.sin(phase)], axis=1)
    basis = np.concatenate([np.sin(angle), np.cos(angle)]).astype(np.float32)
    wave = rng.standard_normal((examples, columns, _COLUMN_SAMPLES), np.float32)
    wave *= _NOISE
    wave += np.matmul(weights.transpose(2, 0, 1), basis.transpose(1, 0, 2)).swapaxes(0, 1)
    return wave.reshape(examples, -1)


def _log_mel(wave: np.ndarray) -> np.ndarray:
    """[example, step, frame · band]: log of mel band power of each Hann-windowed frame."""
    from scipy.fft import rfft

    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    spectrum = rfft(wave.reshape(len(wave), -1, _FRAME) * window)
    power = spectrum.real**2 + spectrum.imag**2
    bands = np.log(power @ _mel_filters() + np.float32(1e-3))
    return bands.reshape(len(wave), _STEPS, -1)


def _mel_filters() -> np.ndarray:
    """[bin, band] triangles with corners evenly spaced on the mel scale, 2595 log₁₀(1 + f/700)."""
    highest = 2595 * np.log10(1 + _SAMPLE_RATE / 2 / 700)
    corner = 700 * (10 ** (np.linspace(0, highest, _MEL_BANDS + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(_FRAME, 1 / _SAMPLE_RATE)[:, None]
    rising = (frequency - corner[:-2]) / (corner[1:-1] - corner[:-2])
    falling = (corner[2:] - frequency) / (corner[2:] - corner[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def _captions(image: np.ndarray, label: np.ndarray, train: np.ndarray) -> list[list[str]]:
    """Each image in words: ink, width and lean by terciles of the training images, and class."""
    mass = image.sum(axis=(1, 2))
    row, column = np.mgrid[: image.shape[1], : image.shape[2]]

    def mean(values: np.ndarray) -> np.ndarray:
        return (image * values).sum(axis=(1, 2)) / mass

    down = row - mean(row)[:, None, None]
    right = column - mean(column)[:, None, None]
    width = np.sqrt(mean(right**2))
    lean = -mean(right * down) / mean(down**2)  # how far the upper part lies to the right
    terciles = [
        np.searchsorted(np.quantile(measure[train], [1 / 3, 2 / 3]), measure)
        for measure in (mass, width, lean)
    ]
    return [
        ["a", _INK[i], _WIDTH[w], _LEAN[s], "handwritten", "digit", _CLASSES[c]]
        for i, w, s, c in zip(*terciles, label, strict=True)
    ]


def _word_vectors(captions: list[list[str]]) -> np.ndarray:
    """[example, step, dim]: the unit vector of each word, zeros after the last one."""
    vectors = {word: _word_vector(word) for word in sorted({w for c in captions for w in c})}
    text = np.zeros((len(captions), _STEPS, _WORD_DIM), np.float32)
    for i, caption in enumerate(captions):
        text[i, : len(caption)] = [vectors[word] for word in caption]
    return text


def _word_vector(word: str) -> np.ndarray:
    """A unit vector in a direction that is random, and the same on every machine."""
    digest = hashlib.shake_256(word.encode()).digest(4 * _WORD_DIM)
    uniform = np.frombuffer(digest, "<i4").astype(np.float64)
    return uniform / np.linalg.norm(uniform)
