"""MRN and its baselines on multimodal open-set recognition: Tables 1 to 7 of the MRN paper (2024).

    python -m unirep_jax.main --config=configs/mmosr.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/mmosr.py:concat
    python -m unirep_jax.main --config=configs/mmosr.py:utd_mhad,arpl-mrn --config.data.path=FILE
    python -m unirep_jax.main --config=configs/mmosr.py:digits_avt,alone \\
      --config.method.modality=audio
    python -m unirep_jax.sweep --config=configs/mmosr.py:handwritten6 --config.data.path=FILE \\
      --variants=configs/mmosr.py:rivals --seeds=5 --workdir=runs/rivals

Of digits_avt, sight and sound are used: its captions name the digit (--config.data.modalities="()"
for all three). The argument names a data set, a method, or both; methods are listed in
unirep_jax/methods/recognition.py. Every seed draws its own known classes. These networks are small,
because these data are; the paper's are --config.method.width=512 and so on, the method's defaults.
docs/results/mrn.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.config_arguments import Choice, parse_argument, variants
from unirep_jax.data.catalog import data_sets
from unirep_jax.methods import RECOGNIZERS

DATASETS = data_sets("mmosr")
SMALL = {
    "width": 64, "tokens": 4, "layers": 1, "dropout": 0.2, "heads": 4, "hidden": 128,
    "embedding": 64, "latent": 16, "noise": 0.6, "gain": 0.2, "warp": 0.2,
}  # fmt: skip
# Captions of digits_avt name the digit: with them a logistic regression has every known class right
# and OSCR 98, and nothing is left to learn. () takes all modalities.
MODALITIES = {"digits_avt": ("video", "audio")}
CHOICES = (
    Choice("data set", DATASETS, "digits_avt"),
    Choice("method", tuple(RECOGNIZERS), "mrn"),
)


def get_config(argument: str = "digits_avt,mrn") -> ConfigDict:
    dataset, name = parse_argument(argument, *CHOICES)
    method = dataclasses.replace(RECOGNIZERS[name], **SMALL)
    return ConfigDict({
        "experiment": "mmosr",
        "seed": 0,
        "steps": 300,
        "batch_size": 64,
        "parallel": "shard_map",  # or "pmap"
        "data": {
            "name": dataset, "path": "", "flow": "", "modalities": MODALITIES.get(dataset, ()),
        },
        "method": {"name": name, **dataclasses.asdict(method)},
        "train": {
            "lr": 1e-3, "schedule": "cosine", "warmup": 30, "weight_decay": 0.01, "clip": 1.0,
            "log_every": 50,
            "checkpoint_every": 150,
            "checkpoint_seconds": 120.0,  # whatever comes first
        },
        "log": {"to": "", "project": "unirep_jax"},  # to "trackio", "wandb" or "mlflow", too
        "task": {
            "known": 0,  # half of the classes
            "classes": (),  # or these, by number
            "unknown": (),  # Table 6: test with fewer unknown classes, too
            "held_out": 0.2,
            "foreign": "",  # Table 5: another data set instead of unknown classes
            "foreign_path": "",
            "control": True,  # also the features and the untrained network, read linearly
        },
    })  # fmt: skip


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/mmosr.py:NAME`."""
    return variants(name, VARIANTS)


def _row(method: str, **changes) -> dict:
    settings = dataclasses.asdict(dataclasses.replace(RECOGNIZERS[method], **SMALL | changes))
    return {
        "method.name": method,
        **{f"method.{field}": value for field, value in settings.items()},
    }


VARIANTS = {
    # Tables 2 and 3.
    "rivals": {
        "MRN": {},
        **{m: _row(m) for m in (
            "single", "add", "concat", "gqa", "openauc-concat", "arpl-concat", "arpl-mrn",
            "rcssr-concat", "rcssr-mrn", "tmc", "mla",
        )},
    },
    # Table 4. One direction alone is --config.method.pairs='(("text", "image"),)', text asking.
    "fusion": {
        "both directions": {},
        "no attention": _row("mrn", fusion="concat"),
        "no experts": _row("cross_attention"),
        "neither": _row("concat"),
    },
    # Table 7.
    "experts": {
        "linear head": _row("cross_attention", hidden=0),
        "1 of 1": _row("mrn", experts=1, count=1),
        "1 of 15": _row("mrn", count=1),
        "4 of 15": {},
        "15 of 15": _row("mrn", count=15),
        "no balance": _row("mrn", weight_balance=0.0),
    },
    "scores": {
        "max softmax": _row("concat"),
        "max logit": _row("concat", score="max_logit"),
        "energy": _row("concat", score="energy"),
        "ASH": _row("concat", score="ash"),
        "TMC uncertainty": _row("tmc", score="certainty"),
    },
    "heads": {name.removesuffix("-mrn"): _row(name) for name in RECOGNIZERS if "-mrn" in name},
}  # fmt: skip
