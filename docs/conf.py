"""Sphinx builds the documentation from Markdown: sphinx-build -W docs docs/_build/html."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import api_pages
import notebook_pages

from unirep_jax import __version__

project = "unirep_jax"
author = "The unirep_jax authors"
copyright = "The unirep_jax authors, Apache 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "unirep_jax"
default_role = "code"  # docstrings put code between single backticks
myst_heading_anchors = 2
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_use_rtype = False
napoleon_preprocess_types = False

_SECTION = re.compile(r"(Args|Returns|Yields|Raises|Example):$")
_MARKUP = re.compile(r"((?<!^)(?<!`)\*|(?<!`)\|)")  # a list may begin with a star
_FIELD = re.compile(r"[a-z_][\w, ]*: ")  # what a class says of an attribute


def _formulas_stay_as_they_are(app, what, name, obj, options, lines):
    """Indented lines of a docstring's description are formulas and tables, not quotations."""
    ends = (i for i, line in enumerate(lines) if _SECTION.match(line))
    end = next(ends, len(lines))
    result, inside = [], False
    for line in lines[:end]:
        line = _as_list(line, result)
        indented = line.startswith("    ")
        if indented and not inside:
            result += ["", "::", ""]
        inside = indented or (inside and not line)
        result.append(line if indented else _MARKUP.sub(r"\\\1", line))
    code = lambda line: line.lstrip().startswith((">>>", "...", "Array("))
    rest = (line if code(line) else _MARKUP.sub(r"\\\1", line) for line in lines[end:])
    lines[:] = [*result, *rest]


def _as_list(line, before):
    """An attribute, or the rest of what is said of it, as an item of a list."""
    listed = bool(before) and before[-1].startswith(("* ", "  "))
    if line.startswith("  ") and not line.startswith("   "):
        return line if listed else line.strip()
    if _FIELD.match(line) and (listed or not before or not before[-1]):
        return f"* {line}"
    return f"  {line}" if listed and line and not line.startswith(" ") else line


def _shapes_read_as_in_the_code(app, what, name, obj, options, signature, returns):
    """`Float[Array, "batch dim"]` without the module that it comes from."""
    short = lambda text: text and re.sub(r"(jaxtyping|jaxlib|jax|numpy|builtins)\._?", "", text)
    return short(signature), short(returns)


def setup(app):
    api_pages.write_pages(Path(__file__).parent / "api")
    notebook_pages.write_pages(Path(__file__).parent / "notebooks")
    app.connect("autodoc-process-docstring", _formulas_stay_as_they_are, priority=100)
    app.connect("autodoc-process-signature", _shapes_read_as_in_the_code)
