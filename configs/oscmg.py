"""MICU on open-set cross-modal generalisation: Table 2 of Huang et al., ICCV 2025.

    python -m unirep_jax.main --config=configs/oscmg.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz
    python -m unirep_jax.main --config=configs/oscmg.py:features --config.data.path=my_features/
    python -m unirep_jax.main --config=configs/oscmg.py:digits_avt,paper

The argument is a data set, then optionally a preset of the method: `paper` (the equations as
printed) or `official` (what the authors' code optimises), both with the authors' optimiser. Without
one the method has the settings below, found on utd_mhad; README.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.methods import MICU

SMALL_DATA = MICU(
    dim=128, temporal="convolution", layers=3,
    temperature=0.1, cosine=True, mask="steps",
    pieces=4, permutations=8,
    commitment_own=0.5, commitment_other=0.125,
    noise=0.1, gain=0.1, warp=0.15,
)  # fmt: skip
SMALL_DATA_TRAINING = {
    "lr": 1e-3, "schedule": "cosine", "warmup": 50, "weight_decay": 0.01, "clip": 1.0
}  # fmt: skip
AUTHORS_TRAINING = {
    "lr": 4e-4, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "clip": 0.5
}  # fmt: skip
PRESETS = {"default": SMALL_DATA, "paper": MICU.paper(), "official": MICU.official()}

# Known classes of split 1 and 2; (0, 0) stands for a half and three quarters of the classes.
KNOWN = {"digits_avt": (5, 7), "utd_mhad": (14, 21), "features": (0, 0)}
STEPS = {"digits_avt": 500, "utd_mhad": 1200, "features": 1200}


def get_config(argument: str = "digits_avt") -> ConfigDict:
    dataset, _, preset = argument.partition(",")
    preset = preset or "default"
    if dataset not in KNOWN or preset not in PRESETS:
        raise ValueError(
            f"{argument!r} is not DATASET[,PRESET]; data sets: {', '.join(KNOWN)}; "
            f"presets: {', '.join(PRESETS)}"
        )
    return ConfigDict({
        "experiment": "oscmg",
        "seed": 0,
        "steps": STEPS[dataset],
        "batch_size": 80,
        "parallel": "shard_map",  # or "pmap"
        "data": {"name": dataset, "path": ""},
        "method": {"name": "micu", **dataclasses.asdict(PRESETS[preset])},
        "train": {
            **(SMALL_DATA_TRAINING if preset == "default" else AUTHORS_TRAINING),
            "log_every": 50,
            "checkpoint_every": 500,
        },
        "protocol": {
            "known": KNOWN[dataset],
            "selections": ("honest", "paper"),
            "folds": 3,
            "control": True,  # also judge the same network without pre-training
            "probe": {
                "hidden": 256, "steps": 300, "batch_size": 80, "lr": 2e-3, "weight_decay": 3.0,
            },
        },
    })  # fmt: skip
