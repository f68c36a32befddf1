"""Made-up contrastive spaces with a gap between their modalities that is known.

Encoders trained by contrast leave the embeddings of two modalities in regions of their own (Liang
et al., "Mind the Gap", NeurIPS 2022); here the distance of these regions is a setting.
"""

import numpy as np
from scipy.special import softmax

from unirep_jax.data.features import FeatureSet

TRAINING, TEST = 2000, 500
CLASSES, LATENT, DIM = 20, 16, 64
SPREAD, NOISE = 0.7, 0.3  # of latents around their class, of embeddings around their latent
TEMPERATURE = 0.01  # of eq. 2


def load(gap: float, seed: int = 0) -> FeatureSet:
    """The four streams of C-MCR: spaces (text_1, image_1) and (text_2, audio_2).

    An embedding is unit( z Aˢ / ‖z Aˢ‖ + noise ± g uˢ ), z the example's latent, Aˢ and the unit
    vector uˢ those of the space, + for texts and − for the other modality: g is about half the gap
    before lengths are made 1. Training streams of image and audio are what a memory of other
    examples holds that is like the text (eq. 2), those of the test part are the examples' own.

    Args:
      gap: 2g, at least 0.
      seed: of everything.

    Returns:
      Streams, float32 [2500, 64], the last 500 examples for testing; 20 classes.
    """
    rng = np.random.default_rng(seed)
    count = TRAINING + TEST
    centres = rng.normal(size=(CLASSES, LATENT))

    def latents(number: int) -> tuple[np.ndarray, np.ndarray]:
        label = rng.integers(CLASSES, size=number)
        return label, centres[label] + SPREAD * rng.normal(size=(number, LATENT))

    label, latent = latents(count)
    train, features = np.arange(count) < TRAINING, {}
    for place, other in ((1, "image"), (2, "audio")):
        mix, apart = rng.normal(size=(LATENT, DIM)), _unit(rng.normal(size=DIM))

        def embed(z: np.ndarray, side: float, mix=mix, apart=apart) -> np.ndarray:
            x = _unit(z @ mix)
            noise = NOISE * rng.normal(size=x.shape) / DIM**0.5
            return _unit(x + noise + side * gap / 2 * apart).astype(np.float32)

        text, stream, memory = embed(latent, 1), embed(latent, -1), embed(latents(TRAINING)[1], -1)
        mixed = softmax(text[train] @ memory.T / TEMPERATURE, axis=1) @ memory  # eq. 2
        features |= {f"text_{place}": text, f"{other}_{place}": stream}
        features[f"{other}_{place}"][train] = mixed
    names = tuple(f"class {i}" for i in range(CLASSES))
    name = f"gapped_spaces_{round(10 * gap):02d}"
    return FeatureSet.from_arrays(name, features, label, train, class_names=names)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
