"""TFDS builders for published multimodal sets that the user has; nothing is downloaded.

Importing this package registers them with TFDS. `unirep_jax.data.raw` turns images, sound and text
into features that training reads; `python -m unirep_jax.data.prepare` converts features that others
have extracted.
"""

from unirep_jax.data.builders._features import FeatureBuilder, OpenSetCounts
from unirep_jax.data.builders._manual import DataFolderError
from unirep_jax.data.builders.ave import Ave
from unirep_jax.data.builders.ave_avvp import AveAvvp
from unirep_jax.data.builders.avvp import Avvp
from unirep_jax.data.builders.caltech_birds2011_captions import CaltechBirds2011Captions
from unirep_jax.data.builders.captioned_features import (
    ClothoFeatures,
    FlickrSoundnet,
    MscocoFeatures,
    MsvdFeatures,
    Valor32k,
)
from unirep_jax.data.builders.captioned_sets import AudioCaps, Clotho, MsrVtt, Vatex
from unirep_jax.data.builders.crema_d_av import CremaDAv
from unirep_jax.data.builders.oxford_flowers102_captions import OxfordFlowers102Captions
from unirep_jax.data.builders.sun_rgbd_scenes import SunRgbdScenes
from unirep_jax.data.builders.ucf51 import Ucf51
from unirep_jax.data.builders.ucf_vggsound import UcfVggsound
from unirep_jax.data.builders.upmc_food101 import UpmcFood101
from unirep_jax.data.builders.vggsound_avel40k import VggsoundAvel40k

__all__ = [
    "AudioCaps",
    "Ave",
    "AveAvvp",
    "Avvp",
    "CaltechBirds2011Captions",
    "Clotho",
    "ClothoFeatures",
    "CremaDAv",
    "DataFolderError",
    "FeatureBuilder",
    "FlickrSoundnet",
    "MscocoFeatures",
    "MsrVtt",
    "MsvdFeatures",
    "OpenSetCounts",
    "OxfordFlowers102Captions",
    "SunRgbdScenes",
    "Ucf51",
    "UcfVggsound",
    "UpmcFood101",
    "Valor32k",
    "Vatex",
    "VggsoundAvel40k",
]
