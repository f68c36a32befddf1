"""Ten digits spoken, written, drawn and signed: four real modalities, paired by class.

Spoken digits are the Free Spoken Digit Dataset, images MNIST, pen paths UCI pendigits, hand signs
the Sign Language Digits Dataset. A row pairs one recording with an image, a path and a sign of the
same digit, so modalities share the class and nothing else.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureFileError, FeatureSet

_FRAMES, _BANDS, _POINTS, _SIDE, _SIGN_SIDE = 64, 40, 32, 28, 48
_MODALITIES = ("audio", "image", "pen", "sign")


def load(path: str | Path) -> FeatureSet:
    """The pairs of `digits4.npz` as modalities audio, image, pen and sign; groups are speakers.

    A single image is a sequence of its rows, so every modality has a time axis. All training pairs
    come first, then the test pairs; each modality's test examples are apart from its training
    examples, but within a part an image, path or sign may serve several recordings. The six
    speakers are the same in both parts.

    Args:
      path: the file or its folder. It holds audio [recording, 64, 40], image [image, 28, 28], pen
        [path, 32, 3], sign [sign, 48, 48], a label for each of them, audio_speaker, class_name, and
        pair_train and pair_test [pair, 4]: rows of audio, image, pen and sign.

    Returns:
      Features in float32: audio [pair, 64, 40] log-mel frames, image [pair, 28, 28] and sign [pair,
      48, 48] rows of grey values in 0 … 1, pen [pair, 32, 3] points (x, y, pen down).

    Raises:
      FeatureFileError: the file is not that, or a pair joins different digits.
    """
    path = Path(path)
    path = path / "digits4.npz" if path.is_dir() else path
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
        pairs = np.concatenate(parts)
        features = {}
        for column, (modality, array) in enumerate(arrays.items()):
            rows = array[pairs[:, column]].astype(np.float32)
            features[modality] = rows / 255 if array.dtype.kind in "iu" else rows
        speaker = archive.read("audio_speaker", "integer", (len(arrays["audio"]),))
        return FeatureSet.from_arrays(
            "digits4",
            features,
            labels["audio"][pairs[:, 0]],
            np.arange(len(pairs)) < len(parts[0]),
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
