"""Data sets by the name that configurations use: how each is read, and which tasks it suits."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from unirep_jax.data import (
    digits4,
    digits_avt,
    emoji,
    gapped_spaces,
    handwritten6,
    known_information,
    latent_views,
    mosi,
    published_shapes,
    regimes,
    utd_mhad,
    wikipedia,
)
from unirep_jax.data.connection import load_connection
from unirep_jax.data.features import FeatureFileError, FeatureSet, load_features
from unirep_jax.data.held_out import hold_out, redraw_split
from unirep_jax.data.modalities import add_flow, choose_modalities, without_classes

CROSS_MODAL = (
    "oscmg",
    "cmg",
    "retrieval",
    "few_label",
    "matrix",
    "noisy_pairs",
)  # tasks of a representation


class DataSet(NamedTuple):
    """A data set, and what configurations have to know of it.

    load: path -> FeatureSet. tasks: that it suits, by name. known: known classes of the two
    open-set splits; zeros stand for a half and three quarters. steps: of training a codebook.
    out_of_modal: the modality that no encoder has seen. spaces: the modality that two contrastive
    spaces share, then the other one of each. untuned: no setting was found on it, so that defaults
    follow the data (`unirep_jax.defaults`).
    """

    load: Callable[[str], FeatureSet]
    tasks: tuple[str, ...] = ()
    known: tuple[int, int] = (0, 0)
    steps: int = 500
    out_of_modal: str = ""
    spaces: tuple[str, str, str] = ("", "", "")
    untuned: bool = False


def _generated(load: Callable[..., FeatureSet], *arguments: Any) -> Callable[[str], FeatureSet]:
    """How a data set is loaded that needs no file."""
    return lambda path: load(*arguments)


DATA_SETS = {
    "digits_avt": DataSet(
        lambda path: digits_avt.load(),
        (*CROSS_MODAL, "connect", "oom", "mmosr"),
        known=(5, 7),
        out_of_modal="audio",
        spaces=("text", "video", "audio"),
    ),
    "utd_mhad": DataSet(
        utd_mhad.load,
        (*CROSS_MODAL, "connect", "oom", "mmosr"),
        known=(14, 21),
        steps=1200,
        out_of_modal="inertial",
        spaces=("skeleton", "depth", "inertial"),
    ),
    "digits4": DataSet(
        digits4.load,
        ("connect", "oom", "mmosr"),
        out_of_modal="sign",
        spaces=("image", "audio", "sign"),
    ),
    "handwritten6": DataSet(handwritten6.load, ("mmosr",)),
    "wikipedia": DataSet(wikipedia.load, (*CROSS_MODAL, "oom"), out_of_modal="image"),
    "mosi": DataSet(mosi.load, ("retrieval", "oom", "mmosr"), out_of_modal="text"),
    "tuxpaint": DataSet(
        partial(load_features, name="tuxpaint"),
        (*CROSS_MODAL, "connect", "oom", "mmosr"),
        known=(8, 12),
        out_of_modal="speech_fr",
        spaces=("text", "image", "speech_fr"),
        untuned=True,
    ),
    **{
        name: DataSet(
            _generated(known_information.load, name),
            ("known_information",),
            out_of_modal=known_information.MODALITIES[0],
        )
        for name in known_information.LEVELS
    },
    "regimes": DataSet(lambda path: regimes.load(), ("mmosr",)),
    "emoji_words": DataSet(partial(emoji.load, pictures=True), ("mmosr",)),
    "emoji": DataSet(
        partial(emoji.load, word_dim=64), ("connect",), spaces=("keywords", "noto", "emojitwo")
    ),
    "features": DataSet(
        load_features, (*CROSS_MODAL, "oom", "mmosr", "transfer"), steps=1200, untuned=True
    ),
    **{
        f"gapped_spaces_{round(10 * gap):02d}": DataSet(
            _generated(gapped_spaces.load, gap),
            ("connect",),
            spaces=("text", "image", "audio"),
        )
        for gap in (0.0, 0.5, 1.0, 2.0)
    },
    "banks": DataSet(load_connection, ("connect",), spaces=("text", "image", "audio")),
    "latent_views": DataSet(lambda path: latent_views.load(), ("noisy_pairs", "retrieval")),
    "published_shapes": DataSet(lambda path: published_shapes.load(), ("transfer",)),
}


def data_sets(task: str) -> tuple[str, ...]:
    """The names of the data sets that suit a task."""
    return tuple(name for name, data_set in DATA_SETS.items() if task in data_set.tasks)


def load_data(
    name: str,
    path: str,
    *,
    flow: str = "",
    modalities: Sequence[str] = (),
    without: Sequence[str] = (),
    redraw: bool = False,
    held_out: float = 0.0,
    seed: int = 0,
) -> FeatureSet:
    """The data set that the section `data` of a configuration describes.

    Args:
      name: of `DATA_SETS`.
      path: of its file or folder.
      flow: folder of `unirep_jax.data.extract_flow`, which gives the data set the modality flow.
      modalities: the ones to use, in this order; all where none is named.
      without: classes to leave out, by name.
      redraw: draw the split anew from the seed, whole groups of as many test examples; else it is
        the data's own, whatever the seed.
      held_out: share of the training examples that takes the place of the test examples, 0 for
        the data as they are. The same examples for every seed of a run.
      seed: of the run.

    Raises:
      FeatureFileError: the data set or its flow is not what it should be.
      ValueError: the modalities or classes cannot be chosen, or nothing can be drawn.
    """
    try:
        data = DATA_SETS[name].load(path)
    except (FeatureFileError, OSError) as error:
        if path:
            raise
        needed = f"data set {name!r} is read from a path: give --config.data.path=FILE_OR_FOLDER"
        raise ValueError(f"{needed} ({error})") from error
    data = add_flow(data, flow) if flow else data
    data = without_classes(data, without) if without else data
    data = redraw_split(data, seed) if redraw else data
    data = choose_modalities(data, modalities) if modalities else data
    return hold_out(data, held_out, 0) if held_out else data
