"""Text as numbers: words, the vocabulary of a training set, and word ids."""

import collections
import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

PADDING, UNKNOWN = 0, 1
_RESERVED = ("<padding>", "<unknown>")
_MARKED_PLANES = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))  # elsewhere there are no marks
_JOINERS = "\u200c\u200d"  # inside words of Persian and of Indian languages


def split_words(text: str) -> list[str]:
    """Words and numbers of a text in lower case; punctuation is left out, not an apostrophe.

    Combining marks belong to the letter before them, and an accent is the same whether it was typed
    apart or not: words come in Unicode's normal form NFC.
    """
    lower = unicodedata.normalize("NFC", text).lower()
    return _word().findall(unicodedata.normalize("NFC", lower))


@functools.cache
def _word() -> re.Pattern[str]:
    r"""Letters and digits, each with its marks, which `\w` leaves out."""
    characters = map(chr, itertools.chain(*_MARKED_PLANES))
    marks = "".join(c for c in characters if unicodedata.category(c).startswith("M"))
    part = rf"(?:[^\W_][{marks}{_JOINERS}]*)+"
    return re.compile(rf"{part}(?:['’]{part})*")


def build_vocabulary(texts: Iterable[Sequence[str]], *, min_count: int = 2) -> tuple[str, ...]:
    """The words of training texts, most frequent first; a word's place is its id.

    Ids 0 and 1 stand for padding and for a word that is not in the vocabulary. Words that occur
    fewer than `min_count` times are such words, so that id 1 occurs in training too.

    Args:
      texts: each a sequence of words; those of the training part alone.
      min_count: occurrences that a word of the vocabulary has at least.
    """
    count = collections.Counter(word for text in texts for word in text)
    kept = [word for word, n in count.items() if n >= min_count]
    return (*_RESERVED, *sorted(kept, key=lambda word: (-count[word], word)))


def word_ids(texts: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """int32 [text, length]: the id of each word, 0 after the last one; longer texts are cut."""
    number = {word: i for i, word in enumerate(vocabulary) if i > UNKNOWN}
    ids = np.full((len(texts), length), PADDING, np.int32)
    for row, text in zip(ids, texts, strict=True):
        found = [number.get(word, UNKNOWN) for word in text[:length]]
        row[: len(found)] = found
    return ids


def word_vectors(ids: np.ndarray, vocabulary: Sequence[str], dim: int) -> np.ndarray:
    """float32 [..., dim]: a unit vector for each id, random and the same everywhere; 0 for padding.

    For methods that learn no embedding of their own. All unknown words share one vector.
    """
    table = np.zeros((len(vocabulary), dim), np.float32)
    for i in range(UNKNOWN, len(vocabulary)):
        digest = hashlib.shake_256(vocabulary[i].encode()).digest(4 * dim)
        uniform = np.frombuffer(digest, "<i4").astype(np.float64)
        table[i] = uniform / np.linalg.norm(uniform)
    return table[ids]
