"""What configuration files share: the argument after the colon, and tables of variants."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Choice(NamedTuple):
    """One thing that an argument may name: what it is called, its names, which is the default."""

    title: str
    names: tuple[str, ...]
    default: str


def parse_argument(argument: str, *choices: Choice) -> tuple[str, ...]:
    """The chosen name for each choice, of an argument that names some of them, each once.

    A data set, a method and a preset are given in any order: `digits_avt,dcid`, `paper`, ...

    Args:
      argument: names separated by commas.
      choices: in the order of the result; no name belongs to two of them.

    Raises:
      ValueError: a name is unknown, with the nearest that is known, or a choice is made twice.
    """
    words, chosen = argument.split(","), []
    for choice in choices:
        named = [word for word in words if word in choice.names]
        words = [word for word in words if word not in choice.names] + named[1:]
        chosen.append((named or [choice.default])[0])
    if words:
        form = ", ".join(choice.title for choice in choices)
        known = "; ".join(f"{c.title}s: {', '.join(c.names)}" for c in choices)
        everything = [name for choice in choices for name in choice.names]
        near = suggest(words[0], everything)
        raise ValueError(f"{argument!r} does not name {form}, each once{near}; {known}")
    return tuple(chosen)


def suggest(word: str, known: Iterable[str]) -> str:
    """The known word most like one that is not known, as the end of a message; "" of none."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def variants(name: str, tables: Mapping[str, dict[str, dict]]) -> dict[str, dict]:
    """The rows of a table by its name: settings by title.

    Raises:
      ValueError: no such table.
    """
    if name not in tables:
        raise ValueError(f"{name!r} is none of {', '.join(tables)}{suggest(name, tables)}")
    return tables[name]


def data_section(dataset: str, modalities: tuple[str, ...] = ()) -> dict[str, Any]:
    """The section `data` of a configuration: what `unirep_jax.data.catalog.load_data` takes.

    Args:
      dataset: the name.
      modalities: to use by default; all where none is named.
    """
    return {
        "name": dataset,
        "path": "",
        "flow": "",  # a folder of flow gives one more modality
        "modalities": modalities,  # () takes all that there are
        "without": (),  # classes to leave out, by name
        "redraw": False,  # the split anew with every seed, whole groups of as many test examples
    }
