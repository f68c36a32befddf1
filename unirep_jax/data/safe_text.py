"""Names that others chose, made safe for a terminal or page, a figure, and a file."""

import hashlib
import re
from functools import lru_cache

FILE_BYTES = 100  # of a name, which file systems limit to 255 with what is put around it
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


def figure_text(name: str, length: int = 60) -> str:
    """The name for a text of Matplotlib: nothing in it is read as mathematics, nothing too long."""
    text = safe_text(name)
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text.replace("$", r"\$")


def file_name(name: str) -> str:
    """The name for a file or folder, without anything that has a meaning in a path.

    What had to be changed or cut ends in a hash of the name, so that no two become one.
    """
    text = re.sub(r'[/\\:*?"<>|]', "-", safe_text(name)).lstrip(".")
    text = text.encode()[:FILE_BYTES].decode(errors="ignore").strip()
    if text == name:
        return text
    return f"{text}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
