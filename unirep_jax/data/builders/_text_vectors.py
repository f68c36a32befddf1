"""Word vectors of texts, made by the user with a language model and kept beside the features."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unirep_jax.data.archive import Archive, FeatureFileError
from unirep_jax.data.builders._manual import DataFolderError

NAMES = ("text_vectors.npz", "text_vectors")


class TextVectors:
    """Vectors [token, dim] by text, from `text_vectors.npz` or a folder `text_vectors` of `.npy`.

    The file has `text`, strings [text], and `vector`, floats [text, token, dim]: one vector for
    each token, zeros after the last. A folder is memory-mapped.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...] | None):
        """shape: of the vectors of a text; None takes [dim] and [token, dim] of any size."""
        found = [folder / name for name in NAMES if (folder / name).exists()]
        if len(found) != 1:
            state = "both are there" if found else "missing"
            raise DataFolderError(folder, [f"{' or '.join(NAMES)}: {state}"])
        self.path = found[0]
        with Archive(self.path) as archive:
            texts = archive.read("text", "string", (None,)).tolist()
            wanted = None if shape is None else (len(texts), *shape)
            self._vectors = archive.read("vector", "float", wanted, memory_map=True)
        found = self._vectors.shape
        if len(found) not in (2, 3) or found[0] != len(texts) or 0 in found:
            expected = f"floats ({len(texts)}, dim) or ({len(texts)}, token, dim)"
            raise FeatureFileError(self.path, "vector", expected, str(found))
        self._place = {text: place for place, text in enumerate(texts)}
        if len(self._place) < len(texts):
            twice = next(text for place, text in enumerate(texts) if self._place[text] != place)
            raise FeatureFileError(self.path, "text", "every text once", f"{twice!r} twice")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the vectors of a text."""
        return self._vectors.shape[1:]

    def check(self, texts: Iterable[str]) -> None:
        """Every text has vectors, or one error names all that have none."""
        absent = [
            f"no vectors of {text!r}" for text in dict.fromkeys(texts) if text not in self._place
        ]
        if absent:
            raise DataFolderError(self.path, absent)

    def __getitem__(self, text: str) -> np.ndarray:
        return self._vectors[self._place[text]]
