"""What a page shows besides tables, by topic: which logged quantities and which pictures of a run.

A topic is on the page if a run has logged its first quantity or has drawn one of its pictures.
"""

from collections.abc import Iterable
from typing import NamedTuple

from unirep_jax.report.tables import unique


class Topic(NamedTuple):
    """logged: quantities, without what follows the slash, the decisive one first. figures: what
    the names of files begin with."""

    title: str
    about: str
    logged: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


TOPICS = (
    Topic(
        "Codebook health",
        "codes_used: share of all codes chosen in a batch; the others are dead there. perplexity: "
        "effective number of codes that a modality uses. agreement: share of tokens for which all "
        "modalities choose one code.",
        ("codes_used", "perplexity", "agreement"),
        ("codebook_usage",),
    ),
    Topic(
        "Embedding map",
        "Examples of the test part that are alike lie side by side. Distances between far clusters "
        "mean nothing.",
        (),
        ("embedding_map", "connected_map", "spaces_map", "features"),
    ),
    Topic(
        "Open-set curves",
        "How well a score tells known from unknown classes, and what the threshold makes of it.",
        (),
        ("curves", "scores", "confusion"),
    ),
    Topic(
        "Transport plan",
        "mass_on_pairs: share of a plan's mass on true pairs.",
        ("mass_on_pairs",),
        ("transport_plans",),
    ),
    Topic(
        "Expert load",
        "balance: squared coefficients of variation of importance and load of the experts; 0 where "
        "all are used alike.",
        ("balance",),
        ("experts",),
    ),
    Topic(
        "Connection",
        "mmd: squared discrepancy of mapped and out-of-modal features. agreement: of the in-modal "
        "heads. gap: between an item and its projection.",
        ("mmd", "connection", "agreement", "gap_first", "gap_second"),
        ("connection", "agreement"),
    ),
)
REDRAWN = "training_curves"  # the page has these curves itself
CAPTIONS = {
    "codebook_usage": "Codes by the modalities that share them, and the codebook in its two "
    "principal directions",
    "embedding_map": "Map of the test part in all modalities, by modality and by class",
    "connected_map": "Map of the connected space, by modality and by class",
    "spaces_map": "Map of the two spaces before they are connected",
    "features": "Map of the features of the test part",
    "curves": "ROC of known against unknown, and correct classification rate against false "
    "positive rate; the star is the threshold",
    "scores": "Scores of known examples, classified rightly and wrongly, and of unknown ones",
    "confusion": "Confusion matrix with rejection",
    "transport_plans": "Transport plans between modalities; true pairs are on the diagonal",
    "experts": "Mean gate of every expert by class",
    "connection": "Discrepancy and accuracy of the in-modal heads while training",
    "agreement": "Accuracy where in-modal heads agree and where they do not",
}


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
