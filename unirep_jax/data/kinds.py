"""Kinds of modality: vectors, sequences, images ..., or word ids."""

import enum

import numpy as np


class Kind(enum.Enum):
    """What one example of a modality is; a value is the name of a kind in a feature file.

    Everything but words is made of floats. Words are integers ≥ 0, 0 for padding, and mean
    something only to an embedding: they are never standardised, averaged or cast to floats.
    """

    VECTOR = "vector"
    SEQUENCE = "sequence"
    SPECTROGRAM = "spectrogram"
    IMAGE = "image"
    VIDEO = "video"
    WORDS = "words"

    @property
    def axes(self) -> tuple[str, ...]:
        """What the axes of one example are."""
        return _AXES[self]

    def fits(self, array: np.ndarray) -> bool:
        """Whether the array [example, ...] can be of this kind."""
        return array.ndim == 1 + len(self.axes) and is_words(array) == (self is Kind.WORDS)

    def __str__(self) -> str:
        numbers = "integers" if self is Kind.WORDS else "floats"
        return f"{self.value}, {numbers} [{', '.join(('example', *self.axes))}]"


_AXES = {
    Kind.VECTOR: ("dim",),
    Kind.SEQUENCE: ("time", "dim"),
    Kind.SPECTROGRAM: ("time", "frequency"),
    Kind.IMAGE: ("height", "width", "channel"),
    Kind.VIDEO: ("time", "height", "width", "channel"),
    Kind.WORDS: ("length",),
}


def is_words(array: np.ndarray) -> bool:
    """Whether the features are word ids: nothing else comes as integers."""
    return array.dtype.kind in "iu"


def kind_of(array: np.ndarray) -> Kind | None:
    """The kind that type and shape of an array [example, ...] tell; None where they tell none.

    A spectrogram looks like a sequence, and is one unless somebody says that it is an image of time
    and frequency.
    """
    told = (kind for kind in Kind if kind is not Kind.SPECTROGRAM)
    return next((kind for kind in told if kind.fits(array)), None)
