"""C-MCR: Table 5 of Wang et al., NeurIPS 2023, two contrastive spaces connected without pairs.

    python -m unirep_jax.main --config=configs/connect.py              # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/connect.py:digits4 --config.data.path=FILE
    python -m unirep_jax.main --config=configs/connect.py:banks,paper --config.data.path=FOLDER
    python -m unirep_jax.sweep --config=configs/connect.py --variants=configs/connect.py:table5 \\
      --seeds=3 --workdir=runs/table5

The argument names a data set, a preset (small, paper, released) or both. On raw features two small
contrastive spaces are trained first, on halves of the training part that have no example in common;
`banks` are embeddings of your own models (docs/banks.md). README.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.methods import CMCR, MOVER

# Shared modality, then the other one of each space.
DATASETS = {
    "digits_avt": ("text", "video", "audio"),
    "utd_mhad": ("skeleton", "depth", "inertial"),
    "digits4": ("image", "audio", "sign"),
    "emoji": ("keywords", "noto", "emojitwo"),
    "banks": ("text", "image", "audio"),
}
PRESETS = {
    "small": CMCR(dim=128, hidden=256, noise_variance=0.004),
    "paper": CMCR(),
    "released": CMCR.released(),
}
TOWERS = MOVER(
    measure="cosine", weight_transport=0.0, dim=128, layers=1, width=128, dropout=0.2, noise=0.4,
    gain=0.2, warp=0.2, temperature=0.1,
)  # fmt: skip


def get_config(argument: str = "digits_avt,small") -> ConfigDict:
    words = argument.split(",")
    datasets = [w for w in words if w in DATASETS] or ["digits_avt"]
    presets = [w for w in words if w in PRESETS] or ["small"]
    if len(datasets) + len(presets) != 2 or not {*words} <= {*DATASETS, *PRESETS}:
        raise ValueError(
            f"{argument!r} is not DATASET, PRESET or DATASET,PRESET; data sets: "
            f"{', '.join(DATASETS)}; presets: {', '.join(PRESETS)}"
        )
    (dataset,), (preset,) = datasets, presets
    shared, first, second = DATASETS[dataset]
    method = dataclasses.replace(
        PRESETS[preset], first=(f"{shared}_1", f"{first}_1"), second=(f"{shared}_2", f"{second}_2")
    )
    large = preset != "small"
    config = {
        "experiment": "connect",
        "seed": 0,
        "steps": 8180 if large else 600,  # 36 epochs of 2.33 million texts, in calls of 20
        "batch_size": 10240 if large else 256,
        "parallel": "shard_map",  # or "pmap"
        "data": {"name": dataset, "path": ""},
        "method": {"name": "cmcr", **dataclasses.asdict(method)},
        "train": {
            "lr": 1e-3, "schedule": "cosine", "warmup": 0, "weight_decay": 0.01, "clip": 0.0,
            "log_every": 20,
            "checkpoint_every": 300,
            "fused": 20,  # steps in one program, on data that stay on the device
        },
        "protocol": {
            "shared": shared, "first": first, "second": second,
            "consistency": "softmax",
            "temperature": 0.01,
            "control": True,
        },
    }  # fmt: skip
    if dataset != "banks":
        config["perceptors"] = {
            "path": "",  # where they are kept; by default in the folder of the run
            "steps": 300,
            "batch_size": 128,
            "parallel": "shard_map",
            "method": dataclasses.asdict(TOWERS),
            "train": {
                "lr": 1e-3, "schedule": "cosine", "warmup": 50, "weight_decay": 0.01, "clip": 1.0,
                "log_every": 50,
                "checkpoint_every": 150,
                "fused": 10,
            },
        }  # fmt: skip
    return ConfigDict(config)


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/connect.py:NAME`."""
    if name not in VARIANTS:
        raise ValueError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]


VARIANTS = {
    "table5": {
        "K C-MCR": {},
        "A w/o intra, second": {"method.intra": ("first",)},
        "B w/o intra, first": {"method.intra": ("second",)},
        "C w/o intra": {"method.intra": ()},
        "D w/o shared": {"method.weight_shared": 0.0},
        "E w/o other": {"method.weight_other": 0.0},
        "F w/o inter": {"method.weight_shared": 0.0, "method.weight_other": 0.0},
        "G w/o renormalisation": {"method.renormalize": False},
        "H w/o noise": {"method.renormalize": False, "method.noise_variance": 0.0},
        "I argmax": {"protocol.consistency": "argmax"},
        "J random": {"protocol.consistency": "random"},
    },
    # Figure 3: the variance of the noise.
    "noise": {
        f"σ² = {variance}": {"method.noise_variance": variance}
        for variance in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016)
    },
    "projectors": {
        "paper": {},
        "without the last ReLU": {"method.final_relu": False},
        "one linear map": {"method.hidden": 0},
        "separate batch statistics": {"method.batch_statistics": "separate"},
    },
}
