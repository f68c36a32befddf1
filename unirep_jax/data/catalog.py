"""Data sets by the name that configurations use: each a function of a path."""

from collections.abc import Sequence
from functools import partial

from unirep_jax.data import (
    digits4,
    digits_avt,
    emoji,
    handwritten6,
    mosi,
    published_shapes,
    utd_mhad,
    wikipedia,
)
from unirep_jax.data.connection import load_connection
from unirep_jax.data.features import FeatureSet, load_features
from unirep_jax.data.modalities import add_flow, choose_modalities

DATA_SETS = {
    "banks": load_connection,
    "digits4": digits4.load,
    "digits_avt": lambda path: digits_avt.load(),
    "emoji": partial(emoji.load, word_dim=64),  # no method here embeds word ids
    "features": load_features,
    "handwritten6": handwritten6.load,
    "mosi": mosi.load,
    "published_shapes": lambda path: published_shapes.load(),
    "utd_mhad": utd_mhad.load,
    "wikipedia": wikipedia.load,
}


def load_data(
    name: str, path: str, *, flow: str = "", modalities: Sequence[str] = ()
) -> FeatureSet:
    """The data set that the section `data` of a configuration describes.

    Args:
      name: of `DATA_SETS`.
      path: of its file or folder.
      flow: folder of `unirep_jax.data.extract_flow`, which gives the data set the modality flow.
      modalities: the ones to use, in this order; all where none is named.

    Raises:
      FeatureFileError: the data set or its flow is not what it should be.
      ValueError: the modalities cannot be chosen.
    """
    data = DATA_SETS[name](path)
    data = add_flow(data, flow) if flow else data
    return choose_modalities(data, modalities) if modalities else data
