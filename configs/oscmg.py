"""MICU and its rivals on open-set cross-modal generalisation: Table 2 of Huang et al., ICCV 2025.

    python -m unirep_jax.main --config=configs/oscmg.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz
    python -m unirep_jax.main --config=configs/oscmg.py:features --config.data.path=my_features/
    python -m unirep_jax.main --config=configs/oscmg.py:digits_avt,dcid
    python -m unirep_jax.main --config=configs/oscmg.py:digits_avt,micu,paper
    python -m unirep_jax.main --config=configs/oscmg.py --config.data.modalities="('video','audio')"

The argument names a data set, a method (micu, dcid, cmcm, codis, turn, mmjp), a preset, or several
of them. Presets: `paper` (MICU's equations as printed; of the rivals, the sizes that they have in
MICU's tables) and, of MICU and MMJP, `official` (what the authors' code optimises), all with the
authors' optimiser. Without one, methods have the settings below: encoders, augmentation, optimiser
and cosines at 0.1 found for MICU on utd_mhad, the same for all. The table: configs/tables/oscmg.py.
README.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.methods import CMCM, CODIS, DCID, MICU, TURN

SMALL = {
    "dim": 128, "temporal": "convolution", "layers": 3, "noise": 0.1, "gain": 0.1, "warp": 0.15,
}  # fmt: skip
SMALL_DATA = MICU(
    **SMALL, temperature=0.1, cosine=True, mask="steps", pieces=4, permutations=8,
    commitment_own=0.5, commitment_other=0.125,
)  # fmt: skip
SMALL_DATA_TRAINING = {
    "lr": 1e-3, "schedule": "cosine", "warmup": 50, "weight_decay": 0.01, "clip": 1.0
}  # fmt: skip
AUTHORS_TRAINING = {
    "lr": 4e-4, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "clip": 0.5
}  # fmt: skip


def _mmjp(method: MICU) -> MICU:
    jigsaw = {f: getattr(MICU.mmjp(), f) for f in ("jigsaw", "pieces", "permutations")}
    return dataclasses.replace(method, **jigsaw)


# CLUB's bound is a sum over dimensions. Whole, it is a hundred times the other terms on these data,
# and nothing else is learned; here it counts per dimension, as reconstruction does.
DCID_SMALL = DCID(**SMALL, temperature=0.1, cosine=True, weight_information=1 / 128)
METHODS = {
    "micu": {"default": SMALL_DATA, "paper": MICU.paper(), "official": MICU.official()},
    "dcid": {"default": DCID_SMALL, "paper": DCID()},
    "cmcm": {"default": CMCM(**SMALL, warm_start=200), "paper": CMCM(warm_start=1000)},
    "codis": {"default": CODIS(**SMALL), "paper": CODIS()},
    "turn": {"default": TURN(**SMALL), "paper": TURN()},
}
METHODS["mmjp"] = {preset: _mmjp(method) for preset, method in METHODS["micu"].items()}
PRESETS = ("default", "paper", "official")

# Known classes of split 1 and 2; (0, 0) stands for a half and three quarters of the classes.
KNOWN = {"digits_avt": (5, 7), "utd_mhad": (14, 21), "features": (0, 0)}
STEPS = {"digits_avt": 500, "utd_mhad": 1200, "features": 1200}


def get_config(argument: str = "digits_avt") -> ConfigDict:
    dataset, method, preset = _parse(argument)
    return ConfigDict({
        "experiment": "oscmg",
        "seed": 0,
        "steps": STEPS[dataset],
        "batch_size": 80,
        "parallel": "shard_map",  # or "pmap"
        # A folder of flow gives one more modality; () takes all modalities that there are.
        "data": {"name": dataset, "path": "", "flow": "", "modalities": ()},
        "method": {"name": method, **dataclasses.asdict(METHODS[method][preset])},
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


def _parse(argument: str) -> tuple[str, str, str]:
    """Data set, method and preset of an argument that names some of them, each once."""
    words, found = argument.split(","), []
    for known, default in ((KNOWN, "digits_avt"), (METHODS, "micu"), (PRESETS, "default")):
        named = [w for w in words if w in known]
        words = [w for w in words if w not in known]
        found += (named or [default])[:1]
        words += named[1:]
    if words or found[2] not in METHODS[found[1]]:
        presets = ", ".join(METHODS[found[1]])
        raise ValueError(
            f"{argument!r} is not DATASET[,METHOD][,PRESET]; data sets: {', '.join(KNOWN)}; "
            f"methods: {', '.join(METHODS)}; presets of {found[1]}: {presets}"
        )
    return tuple(found)
