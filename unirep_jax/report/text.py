"""Untrusted text on its way to a page, a spreadsheet, Markdown or LaTeX."""

from unirep_jax.data.safe_text import safe_text

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


def csv_cell(text: str) -> str:
    """The text as a spreadsheet shows it: with an apostrophe before what would be a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown_escaped(text: str) -> str:
    """The text as Markdown shows it: no HTML, no link, no end of a cell."""
    return "".join(_MARKDOWN.get(character, character) for character in safe_text(text))


def latex_escaped(text: str) -> str:
    """The text as LaTeX prints it: no character of it is a command."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
