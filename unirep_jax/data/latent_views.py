"""Made-up data whose truth is known: three linear views of one latent, with noise of their own."""

import numpy as np

from unirep_jax.data.features import FeatureSet

MODALITIES = ("text", "audio", "video")
TRAINING, TEST = 1024, 300
LATENT, CHANNELS = 12, 64
NOISE = 0.6  # standard deviation of a channel, where that of the signal is 1


def load(seed: int = 0) -> FeatureSet:
    """Views xᵐ = z Aᵐ + noise of latents z ~ N(0, 1), a random matrix Aᵐ for each modality.

    The numbers are a function of `seed` alone. Examples have no class: what there is to find in one
    modality is the very example of another.

    Returns:
      Features text, audio and video, float32 [1324, 64], the last 300 examples for testing.
    """
    rng = np.random.default_rng(seed)
    count = TRAINING + TEST
    latent = rng.normal(size=(count, LATENT))
    features = {}
    for m in MODALITIES:
        view = rng.normal(size=(LATENT, CHANNELS)) / LATENT**0.5
        noise = NOISE * rng.normal(size=(count, CHANNELS))
        features[m] = (latent @ view + noise).astype(np.float32)
    return FeatureSet.from_arrays(
        "latent_views", features, np.full(count, -1), np.arange(count) < TRAINING
    )
