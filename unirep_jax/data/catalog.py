"""Data sets by the name that configurations use: each a function of a path."""

from functools import partial

from unirep_jax.data import digits4, digits_avt, emoji, handwritten6, mosi, utd_mhad, wikipedia
from unirep_jax.data.connection import load_connection
from unirep_jax.data.features import load_features

DATA_SETS = {
    "banks": load_connection,
    "digits4": digits4.load,
    "digits_avt": lambda path: digits_avt.load(),
    "emoji": partial(emoji.load, word_dim=64),  # no method here embeds word ids
    "features": load_features,
    "handwritten6": handwritten6.load,
    "mosi": mosi.load,
    "utd_mhad": utd_mhad.load,
    "wikipedia": wikipedia.load,
}
