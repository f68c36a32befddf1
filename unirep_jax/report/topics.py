"""What a page shows besides tables, by topic: which logged quantities and which pictures of a run.

A topic is on the page if a run has logged its first quantity or has drawn one of its pictures.
"""

from collections.abc import Iterable

from unirep_jax.evaluation.tables import unique
from unirep_jax.tasks import TASKS

TOPICS = tuple(unique(topic for task in TASKS.values() for topic in task.vocabulary.topics))
CAPTIONS = {
    name: text for task in TASKS.values() for name, text in task.vocabulary.captions.items()
}
REDRAWN = "training_curves"  # the page has these curves itself


def logged_by_topic(names: Iterable[str]) -> dict[str, list[str]]:
    """Logged names under the titles of their topics; "Training" has the rest, the loss first."""
    rest = sorted(unique(names), key=lambda name: (name != "loss", name))
    found = {}
    for topic in TOPICS:
        bases = {name.partition("/")[0] for name in rest}
        if topic.logged and topic.logged[0] in bases:
            found[topic.title] = [name for name in rest if name.partition("/")[0] in topic.logged]
            rest = [name for name in rest if name not in found[topic.title]]
    return {"Training": rest} | found


def figures_by_topic(names: Iterable[str]) -> dict[str, list[str]]:
    """Pictures, the telling ones first, under their topics; "Other pictures" has the rest."""
    found: dict[str, list[str]] = {}
    order = list(CAPTIONS)
    rank = lambda name: order.index(_stem(name)) if _stem(name) in CAPTIONS else len(order)
    for name in sorted(names, key=rank):
        if name != REDRAWN:
            found.setdefault(_topic_of(name), []).append(name)
    return found


def _topic_of(figure: str) -> str:
    titles = [topic.title for topic in TOPICS if _stem(figure) in topic.figures]
    return titles[0] if titles else "Other pictures"


def caption(figure: str) -> str:
    """What a picture shows; of one of several sources, which."""
    stem = _stem(figure)
    source = figure.removeprefix(stem).strip("_")
    text = CAPTIONS.get(stem, stem.replace("_", " "))
    return f"{text} ({source})" if source else text


def _stem(figure: str) -> str:
    """The kind of picture in the name of a file, which may go on with _<source>."""
    fits = [name for name in CAPTIONS if figure == name or figure.startswith(f"{name}_")]
    return max(fits, key=len, default=figure)
