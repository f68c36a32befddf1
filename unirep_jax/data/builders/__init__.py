"""TFDS builders for published multimodal sets that the user has; nothing is downloaded.

Importing this package registers them with TFDS. `unirep_jax.data.raw` turns what they prepare into
features that training reads.
"""

from unirep_jax.data.builders._manual import DataFolderError
from unirep_jax.data.builders.caltech_birds2011_captions import CaltechBirds2011Captions
from unirep_jax.data.builders.crema_d_av import CremaDAv
from unirep_jax.data.builders.oxford_flowers102_captions import OxfordFlowers102Captions
from unirep_jax.data.builders.sun_rgbd_scenes import SunRgbdScenes
from unirep_jax.data.builders.upmc_food101 import UpmcFood101

__all__ = [
    "CaltechBirds2011Captions",
    "CremaDAv",
    "DataFolderError",
    "OxfordFlowers102Captions",
    "SunRgbdScenes",
    "UpmcFood101",
]
