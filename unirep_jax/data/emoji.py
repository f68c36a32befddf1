"""Emoji: two vendors' drawings of a pictogram and its English keywords, in 54 Unicode subgroups.

Drawings are those of Noto Emoji and EmojiTwo, keywords those of emojilib.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureSet
from unirep_jax.data.files import file_in
from unirep_jax.data.words import build_vocabulary, split_words, word_ids, word_vectors

_SIDE, _COLORS = 32, 3
_WORDS = 24  # the longest list of keywords has 20 or so


def load(path: str | Path, *, word_dim: int | None = None, pictures: bool = False) -> FeatureSet:
    """The pictograms of `emoji.npz` as modalities noto, emojitwo and keywords.

    An example is one pictogram, so its modalities share more than the class. A drawing is a
    sequence of its rows. EmojiTwo stops early in Unicode, so it is absent for a third of the
    pictograms; keywords are absent where there are none. The split is the one marked in the file,
    70 to 30 within each subgroup; every pictogram is a group of its own.

    Args:
      path: the file or its folder. It holds noto and emojitwo [pictogram, 32, 32, 3], has_emojitwo,
        keywords, label, train [pictogram] and class_name [class].
      word_dim: by default keywords are word ids, for a method with its own embedding. With a number
        each word is a random unit vector of so many dimensions, which suits every method.
      pictures: drawings as images [32, 32, 3] instead of sequences of rows.

    Returns:
      Features: noto and emojitwo, float32 [pictogram, 32, 96], each row 32 pixels of 3 colours in
      0 … 1; keywords, int32 [pictogram, 24] ids over the words of the training part (0 = padding,
      1 = a word that occurs there less than twice), or float32 [pictogram, 24, word_dim].

    Raises:
      FeatureFileError: the file is not that.
    """
    path = file_in(path, "emoji.npz")
    with Archive(path) as archive:
        label = archive.read("label", "integer", (None,))
        count = len(label)
        train = archive.read("train", "boolean", (count,))
        drawings = {}
        for vendor in ("noto", "emojitwo"):
            pixels = archive.read(vendor, "integer", (count, _SIDE, _SIDE, _COLORS))
            shape = pixels.shape if pictures else (count, _SIDE, _SIDE * _COLORS)
            drawings[vendor] = pixels.reshape(shape).astype(np.float32) / 255
        words = [split_words(text) for text in archive.read("keywords", "string", (count,))]
        vocabulary = build_vocabulary(text for text, t in zip(words, train, strict=True) if t)
        ids = word_ids(words, vocabulary, _WORDS)
        vectors = None if word_dim is None else word_vectors(ids, vocabulary, word_dim)
        return FeatureSet.from_arrays(
            "emoji",
            drawings | {"keywords": ids if vectors is None else vectors},
            label,
            train,
            present={
                "emojitwo": archive.read("has_emojitwo", "boolean", (count,)),
                "keywords": np.array([bool(text) for text in words], bool),
            },
            class_names=tuple(archive.read("class_name", "string", (None,))),
            source=path,
        )
