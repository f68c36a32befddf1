"""Using connected spaces: project embeddings of either space, search across both.

    connector = connect.load("runs/.../connector.safetensors")
    images = connector.project("first", "image", clip_images)
    sounds = connector.project("second", "audio", clap_sounds)
    found = connect.search(sounds, images, k=10)

`python -m unirep_jax.connect --help` does the same with files.
"""

from unirep_jax.connect.connector import Connector, Space, load
from unirep_jax.search import Found, search

__all__ = ["Connector", "Found", "Space", "load", "search"]
