"""From files to features: pictures, sound, video and texts through encoders of one's choice.

    python -m unirep_jax.data.extract --path=FOLDER --out=SET

docs/extract.md says how; `Encoder` is what an encoder of one's own has to be.
"""

from unirep_jax.data.extract.encoders import Encoder, EncoderError
from unirep_jax.data.extract.extractor import Extractor
from unirep_jax.data.extract.manifest import ManifestError
from unirep_jax.data.extract.media import (
    MediaError,
    read_audio,
    read_image,
    read_text,
    read_video,
)
from unirep_jax.data.extract.run import extract

__all__ = [
    "Encoder",
    "EncoderError",
    "Extractor",
    "ManifestError",
    "MediaError",
    "extract",
    "read_audio",
    "read_image",
    "read_text",
    "read_video",
]
