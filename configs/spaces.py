"""What `--config.search=N` draws settings from, by method; no experiment itself.

    python -m unirep_jax.main --config=configs/retrieval.py:features --config.data.path=FILE \\
      --config.search=8

A space has the sections of a configuration, with a tuple of values for every setting. The same
number of settings is the same budget, whichever the method, so rows of a table can be compared.
docs/search.md tells how trials are compared.
"""

OPTIMIZER = {"lr": (3e-4, 1e-3, 3e-3)}
CODEBOOK = {
    "layers": (0, 1, 3),
    "dropout": (0.1, 0.3),
    "noise": (0.0, 0.1, 0.4),
    "codes": (100, 400),
}
TOWER = {
    "layers": (0, 1, 2),
    "width": (64, 128, 256),
    "dropout": (0.0, 0.2, 0.5),
    "noise": (0.1, 0.4, 0.8),
    "temperature": (0.03, 0.1, 0.3),
}
METHODS = {
    "micu": CODEBOOK | {"temperature": (0.05, 0.1, 0.2)},
    "mmjp": CODEBOOK | {"temperature": (0.05, 0.1, 0.2)},
    "dcid": CODEBOOK | {"temperature": (0.05, 0.1, 0.2)},
    "cmcm": CODEBOOK,
    "codis": CODEBOOK,
    "turn": CODEBOOK,
    "mover": TOWER | {"weight_transport": (0.2, 1.0, 5.0), "warm_start": (0, 150)},
    "gram": TOWER | {"warm_start": (0, 150)},
    "pairwise": TOWER,
    "cmcr": {
        "noise_variance": (0.002, 0.004, 0.01),
        "temperature": (0.01, 0.05),
        "hidden": (128, 512),
    },
}
RECOGNITION = {
    "layers": (0, 1, 2),
    "width": (32, 64, 128),
    "dropout": (0.1, 0.2, 0.4),
    "noise": (0.2, 0.6, 1.0),
}
LEARNER = {
    "layers": (0, 1, 2),
    "width": (32, 64, 128),
    "dropout": (0.0, 0.2, 0.4),
    "noise": (0.1, 0.4, 0.8),
}


def searchable(settings: dict[str, tuple], steps: int) -> dict:
    """The sections `search` and `space` of a configuration; without steps nothing is searched.

    Args:
      settings: of the method, and the values to try.
      steps: of training, which may also be half as many or twice as many.
    """
    space = {"steps": (steps // 2, steps, 2 * steps), "train": OPTIMIZER, "method": settings}
    return {"search": 0, "space": space if steps else {}}  # how many settings to try; of these
