"""Text of a stranger on its way to a page, a spreadsheet, Markdown or LaTeX."""

from functools import lru_cache

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\u200c\u200d"  # invisible, but part of words of many scripts
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # a spreadsheet computes what begins so
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {c: f"\\{c}" for c in r"\`*[]|"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",
    "*": "{*}",  # either belongs to the end of the line before it
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "—": "---",
    "−": "$-$",
}


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


def csv_cell(text: str) -> str:
    """The text as a spreadsheet shows it: with an apostrophe before what would be a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown_escaped(text: str) -> str:
    """The text as Markdown shows it: no HTML, no link, no end of a cell."""
    return "".join(_MARKDOWN.get(character, character) for character in safe_text(text))


def latex_escaped(text: str) -> str:
    """The text as LaTeX prints it: no character of it is a command."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
