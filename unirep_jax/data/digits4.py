"""Ten digits spoken, written, drawn and signed: four real modalities, paired by class.

Spoken digits are the Free Spoken Digit Dataset, images MNIST, pen paths UCI pendigits, hand signs
the Sign Language Digits Dataset. A row pairs one recording with an image, a path and a sign of the
same digit, so modalities share the class and nothing else.
"""

import itertools
from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureFileError, FeatureSet
from unirep_jax.data.files import file_in

_FRAMES, _BANDS, _POINTS, _SIDE, _SIGN_SIDE = 64, 40, 32, 28, 48
_MODALITIES = ("audio", "image", "pen", "sign")


def load(path: str | Path, *, pair_seed: int | None = None) -> FeatureSet:
    """The pairs of `digits4.npz` as modalities audio, image, pen and sign; groups are speakers.

    A single image is a sequence of its rows, so every modality has a time axis. All training pairs
    come first, then the test pairs, one for each recording; each modality's test examples are apart
    from its training examples, but within a part an image, path or sign may serve several
    recordings. The six speakers are the same in both parts.

    Args:
      path: the file or its folder. It holds audio [recording, 64, 40], image [image, 28, 28], pen
        [path, 32, 3], sign [sign, 48, 48], a label for each of them, audio_speaker, class_name, and
        pair_train and pair_test [pair, 4]: rows of audio, image, pen and sign.
      pair_seed: by default the pairs are those of the file. With a seed ≥ 0 every recording gets an
        image, a path and a sign drawn anew from those of its digit that image_train, pen_train and
        sign_train assign to its part; each serves as many recordings as any other, or one more.

    Returns:
      Features in float32: audio [pair, 64, 40] log-mel frames, image [pair, 28, 28] and sign [pair,
      48, 48] rows of grey values in 0 … 1, pen [pair, 32, 3] points (x, y, pen down).

    Raises:
      FeatureFileError: the file is not that, a pair joins different digits, or an example is in
        pairs of both parts.
    """
    path = file_in(path, "digits4.npz")
    with Archive(path) as archive:
        arrays = {
            "audio": archive.read("audio", "float", (None, _FRAMES, _BANDS)),
            "image": archive.read("image", "integer", (None, _SIDE, _SIDE)),
            "pen": archive.read("pen", "float", (None, _POINTS, 3)),
            "sign": archive.read("sign", "integer", (None, _SIGN_SIDE, _SIGN_SIDE)),
        }
        labels = {
            m: archive.read(f"{m}_label", "integer", (len(array),)) for m, array in arrays.items()
        }
        parts = [_pairs(archive, key, labels) for key in ("pair_train", "pair_test")]
        _refuse_overlap(archive, *parts)
        pairs = np.concatenate(parts)
        train = np.arange(len(pairs)) < len(parts[0])
        if pair_seed is not None:
            pairs = _draw_pairs(archive, labels, pairs, train, np.random.default_rng(pair_seed))
        features = {}
        for column, (modality, array) in enumerate(arrays.items()):
            rows = array[pairs[:, column]].astype(np.float32)
            features[modality] = rows / 255 if array.dtype.kind in "iu" else rows
        speaker = archive.read("audio_speaker", "integer", (len(arrays["audio"]),))
        return FeatureSet.from_arrays(
            "digits4",
            features,
            labels["audio"][pairs[:, 0]],
            train,
            group=speaker[pairs[:, 0]],
            class_names=tuple(archive.read("class_name", "string", (None,))),
            source=path,
        )


def _pairs(archive: Archive, key: str, labels: dict[str, np.ndarray]) -> np.ndarray:
    """[pair, 4] rows of the four arrays, checked to exist and to be of one class."""
    pairs = archive.read(key, "integer", (None, len(_MODALITIES)))
    digits = []
    for modality, rows in zip(_MODALITIES, pairs.T, strict=True):
        count = len(labels[modality])
        outside = (rows < 0) | (rows >= count)
        if outside.any():
            row = np.argmax(outside)
            found = f"{rows[row]} in row {row}"
            raise FeatureFileError(archive.path, key, f"{modality} within 0 … {count - 1}", found)
        digits.append(labels[modality][rows])
    differ = np.any(np.array(digits) != digits[0], axis=0)
    if differ.any():
        row = np.argmax(differ)
        found = f"{', '.join(str(d[row]) for d in digits)} in row {row}"
        raise FeatureFileError(archive.path, key, "four examples of one digit", found)
    return pairs


def _refuse_overlap(archive: Archive, train: np.ndarray, test: np.ndarray) -> None:
    for modality, left, right in zip(_MODALITIES, train.T, test.T, strict=True):
        both = np.intersect1d(left, right)
        if len(both):
            expected = f"no {modality} that is in pair_train too"
            raise FeatureFileError(archive.path, "pair_test", expected, str(both[0]))


def _draw_pairs(
    archive: Archive,
    labels: dict[str, np.ndarray],
    pairs: np.ndarray,
    train: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The pairs with the same recordings, and everything else drawn within its digit and part."""
    digit = labels["audio"][pairs[:, 0]]
    drawn = pairs.copy()
    for column, modality in enumerate(_MODALITIES[1:], 1):
        key = f"{modality}_train"
        part = archive.read(key, "boolean", (len(labels[modality]),))
        for value, d in itertools.product((True, False), np.unique(digit)):
            rows = np.flatnonzero((train == value) & (digit == d))
            pool = np.flatnonzero((part == value) & (labels[modality] == d))
            if len(rows) and not len(pool):
                raise FeatureFileError(archive.path, key, f"{value} for some digit {d}", "none")
            in_turn = np.resize(rng.permutation(pool), len(rows))
            drawn[rows, column] = rng.permutation(in_turn)
    return drawn
