"""The encoders that made a set, for files and texts that are not in it: queries, new examples."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unirep_jax.data.extract.encoders import (
    Encoder,
    EncoderError,
    make_encoder,
    parse_specification,
)
from unirep_jax.data.extract.job import preparation
from unirep_jax.data.extract.manifest import MANIFEST, open_manifest
from unirep_jax.data.extract.run import CARD, fit
from unirep_jax.data.files import read_text

_CARD_BYTES = 1 << 24


class Extractor:
    """Features as those of a set, of anything else.

        read = Extractor("SET")
        model.search("speech", read("speech", ["query.wav"]), "image", pictures, k=5)

    What an encoder has learned from the training examples of the set (a vocabulary, acoustic
    units) it learns again from the same manifest, with the same result; files that it learned from
    have to be where they were.

    Args:
      path: what `unirep_jax.data.extract` has made.
      weights: folder for encoders that need weights and have none of their own.

    Raises:
      EncoderError: there is no data card, or its weights are not those of today.
    """

    def __init__(self, path: str | Path, *, weights: str | None = None):
        self._path = Path(path).expanduser()
        self._weights = weights
        self._card = read_card(self._path)
        self._root = Path(self._card["root"])
        self._made: dict[str, Encoder] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of the set."""
        return tuple(self._card["encode"])

    def __call__(self, modality: str, items: Sequence[str | Path]) -> Float[np.ndarray, "item ..."]:
        """Features of files, or of texts where the modality is text, in their order.

        Raises:
          EncoderError: the set has no such modality, or nothing is given.
          MediaError: a file cannot be read.
        """
        if modality not in self.modalities:
            valid = ", ".join(self.modalities)
            raise EncoderError(f"{self._path}: no modality {modality!r}; there is {valid}")
        if not items:
            raise EncoderError(f"{modality}: no file or text is given")
        encoder = self._encoder(modality)
        # As absolute paths: those of a set are relative to its root, these to where we are.
        texts = encoder.medium == "text"
        values = [str(i) if texts else str(Path(i).expanduser().resolve()) for i in items]
        prepare, size = preparation(encoder, self._root), encoder.batch_size
        parts = [
            encoder.encode([prepare(value) for value in values[start : start + size]])
            for start in range(0, len(values), size)
        ]
        return np.concatenate(parts).astype(self._card["dtype"])

    def _encoder(self, modality: str) -> Encoder:
        """Made, checked and fitted at its first use."""
        if modality not in self._made:
            text = f"{modality}:{self._card['encode'][modality]}"
            encoder = make_encoder(parse_specification(text), self._weights)
            expected = self._card["encoders"][modality]
            if json.loads(json.dumps(encoder.about)) != expected:
                raise EncoderError(
                    f"{self._path}: {modality} was made with {expected}, found {encoder.about}"
                )
            if encoder.fit is not None:
                split = {k: self._card[k] for k in ("test_fraction", "seed")}
                manifest = open_manifest(self._path / MANIFEST, root=self._root, **split)
                fit(encoder, manifest, self._card["columns"][modality])
            self._made[modality] = encoder
        return self._made[modality]


def read_card(folder: Path) -> dict[str, Any]:
    """The data card of an extracted set, with everything that was needed to make it.

    Raises:
      EncoderError: there is none, or it is of an older form.
    """
    path = folder / CARD
    try:
        card = dict(json.loads(read_text(path, _CARD_BYTES)))
        missing = {"root", "encode", "encoders", "columns", "dtype", "seed"} - card.keys()
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise EncoderError(f"{path} is not the card of an extracted set: {error}") from error
    if missing:
        raise EncoderError(f"{path}: no {sorted(missing)[0]!r}; extract the set again")
    return {"test_fraction": 0.25} | card
