"""C-MCR: Table 5 of Wang et al., NeurIPS 2023, two contrastive spaces connected without pairs.

    python -m unirep_jax.main --config=configs/connect.py              # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/connect.py:digits4 --config.data.path=FILE
    python -m unirep_jax.main --config=configs/connect.py:banks,paper --config.data.path=FOLDER
    python -m unirep_jax.main --config=configs/connect.py:banks,ulip --config.data.path=FOLDER
    python -m unirep_jax.sweep --config=configs/connect.py --variants=configs/connect.py:table5 \\
      --seeds=3 --workdir=runs/table5

The argument names a data set, a preset or both: `small`; `paper`, section 4.1, CLIP and CLAP;
`released`, their checkpoint; `ulip`, section 4.2, ULIP and CLIP. On raw features two small
contrastive spaces are trained first, on halves of the training part that have no example in common;
`banks` are embeddings of your own models, whose names say their roles (docs/banks.md);
`gapped_spaces_*` are made up, with a gap between modalities that is known. docs/results/cmcr.md has
what to expect.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import Choice, data_section, parse_argument, variants
from unirep_jax.data.catalog import DATA_SETS, data_sets
from unirep_jax.methods import CMCR

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
SPACES = SHARED["SPACES"]
DATASETS = data_sets("connect")
EMBEDDED = ("banks", *(name for name in DATASETS if name.startswith("gapped_spaces")))
PRESETS = {
    "small": CMCR(dim=128, hidden=256, noise_variance=0.004),
    "paper": CMCR(),
    "released": CMCR.released(),
    "ulip": CMCR.ulip(),
}
# 36 epochs of 2.33 million texts in batches of 10,240, and 24 of 1.28 million images in batches of
# 8192, up to a multiple of `fused`.
TRAINING = {
    "small": {"steps": 600, "batch_size": 256, "lr": 1e-3},
    "paper": {"steps": 8180, "batch_size": 10240, "lr": 1e-3},
    "released": {"steps": 8180, "batch_size": 10240, "lr": 1e-3},
    "ulip": {"steps": 3760, "batch_size": 8192, "lr": 5e-3},
}
CHOICES = (
    Choice("data set", DATASETS, "digits_avt"),
    Choice("preset", tuple(PRESETS), "small"),
)


def get_config(argument: str = "digits_avt,small") -> ConfigDict:
    dataset, preset = parse_argument(argument, *CHOICES)
    method = dataclasses.replace(PRESETS[preset], first=(), second=())  # names of banks say them
    if dataset != "banks":
        shared, first, second = DATA_SETS[dataset].spaces
        roles = {"first": (f"{shared}_1", f"{first}_1"), "second": (f"{shared}_2", f"{second}_2")}
        method = dataclasses.replace(method, **roles)
    training = TRAINING[preset]
    config = {
        "experiment": "connect",
        "seed": 0,
        "steps": training["steps"],
        "batch_size": training["batch_size"],
        "parallel": "shard_map",  # or "pmap"
        "data": data_section(dataset),
        "method": {"name": "cmcr", **dataclasses.asdict(method)},
        "train": {
            "lr": training["lr"],
            "schedule": "cosine",
            "warmup": 0,
            "weight_decay": 0.01,
            "clip": 0.0,
            "log_every": 20,
            "checkpoint_every": 300,
            "checkpoint_seconds": 120.0,  # whatever comes first
            "fused": 20,  # steps in one program, on data that stay on the device
        },
        "log": {"to": "", "project": "unirep_jax"},  # to "trackio", "wandb" or "mlflow", too
        # Also evaluate the spaces unconnected and, of raw features, an encoder of the true pairs.
        "task": {"control": True},
        **SPACES["searchable"](SPACES["METHODS"]["cmcr"], training["steps"]),
    }
    if dataset not in EMBEDDED:  # raw features, for which encoders are trained first
        config["pretrain"] = SHARED["pretraining"](dim=128, steps=300)
        config["pretrain"]["train"] |= {"warmup": 50, "checkpoint_every": 150}
    return ConfigDict(config)


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/connect.py:NAME`."""
    return variants(name, VARIANTS)


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
        "I argmax": {"method.consistency": "argmax"},
        "J random": {"method.consistency": "random"},
    },
    # Eq. 9: as printed, and as it is derived; on `gapped_spaces_10`, docs/results/cmcr.md.
    "intra": {
        "none": {"method.weight_intra": 0.0},
        "as printed": {},
        "squares": {"method.intra_squared": True},
        "not normalised": {"method.intra_normalized": False},
        "squares, not normalised": {"method.intra_normalized": False, "method.intra_squared": True},
        "as printed, weight 1": {"method.weight_intra": 1.0},
        "squares, weight 1": {"method.weight_intra": 1.0, "method.intra_squared": True},
        "squares, not normalised, weight 1": {
            "method.weight_intra": 1.0,
            "method.intra_normalized": False,
            "method.intra_squared": True,
        },
    },
    # Frozen encoders of real pictures, texts and voices: `tuxpaint`.
    "real": {
        "C-MCR": {},
        "w/o intra": {"method.weight_intra": 0.0},
        "squares, not normalised": {"method.intra_normalized": False, "method.intra_squared": True},
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
