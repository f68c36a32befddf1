"""Text of a stranger that a terminal or a page can show."""

from functools import lru_cache

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\u200c\u200d"  # invisible, but part of words of many scripts


@lru_cache(maxsize=1 << 12)  # names come again in every measurement
def safe_text(text: str) -> str:
    """The text on one line, without characters that are not seen or cannot be encoded.

    Every kind of space becomes a plain one. Control characters, halves of surrogate pairs,
    and what turns the direction of writing around become U+FFFD.
    """
    return "".join(map(_safe, text))


def _safe(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character.isspace() else _REPLACEMENT
