"""COX and its baselines on out-of-modal generalisation: Tables 2 to 6 of COX (ICLR 2025).

    python -m unirep_jax.main --config=configs/oom.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/oom.py:erm --config.task.modality=video
    python -m unirep_jax.main --config=configs/oom.py:utd_mhad,freematch --config.data.path=FILE
    python -m unirep_jax.main --config=configs/oom.py --config.task.setting=unsupervised
    python -m unirep_jax.sweep --config=configs/oom.py:utd_mhad --config.data.path=FILE \\
      --variants=configs/oom.py:table2 --seeds=5 --workdir=runs/table2

The argument names a data set, a method, or both; `paper` after them has the paper's learner,
optimiser and length (ViT-T/16, Adam 1e-3, weight decay 1e-5, 50 epochs of the training part; its
features must be images or spectrograms).
Frozen encoders of the in-modal modalities are pretrained first, on their pairs; with embeddings of
your own models in the feature file set --config.task.given=True. What to expect:
docs/results/cox.md.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from unirep_jax.config_arguments import Choice, data_section, parse_argument, variants
from unirep_jax.data.catalog import DATA_SETS, data_sets
from unirep_jax.methods import BASELINES, COMBINED, METHODS

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
DATASETS = data_sets("oom")
NAMES = ("cox", *COMBINED, *BASELINES)
SMALL = {
    "dim": 64,
    "width": 64,
    "layers": 1,
    "dropout": 0.2,
    "noise": 0.4,
    "gain": 0.2,
    "warp": 0.2,
}
PAPER = {"network": "vision_transformer", "dim": 192, "width": 192, "layers": 12}
# Anchors are nearly sure, so log h(x_a) is large: divergence outweighs the other terms at weight 1.
SMALL_COX = {"hidden": 256, "latent": 64, "weight_explore": 0.1}
WITH_COX = ("cox", *COMBINED)
# Ours: D is drawn to what head and in-modal heads say together, and h reads mappings, too.
CONSENSUS = {"target": "consensus", "weight_shared": 0.5, "weight_explore": 1.0}
CHOICES = (
    Choice("data set", DATASETS, "digits_avt"),
    Choice("method", NAMES, "cox"),
    Choice("preset", ("default", "paper"), "default"),
)


def get_config(argument: str = "digits_avt,cox") -> ConfigDict:
    dataset, method, preset = parse_argument(argument, *CHOICES)
    paper = preset == "paper"
    return ConfigDict(
        {
            "experiment": "oom",
            "seed": 0,
            # The paper's epochs are as many steps as the data set asks for.
            **({"steps": placeholder(int), "epochs": 50} if paper else {"steps": 300}),
            "batch_size": 64,  # of labelled, of unlabelled and of in-modal examples
            "parallel": "shard_map",  # or "pmap"
            "data": data_section(dataset),
            "method": _method(method, paper),
            "train": {
                "lr": 1e-3,
                "schedule": "constant" if paper else "cosine",
                "warmup": 0 if paper else 20,
                "weight_decay": 1e-5 if paper else 0.01,
                "clip": 0.0 if paper else 1.0,
                "log_every": 20,
                "checkpoint_every": 100,
                "checkpoint_seconds": 120.0,  # whatever comes first
                "fused": 20,  # steps in one program, on data that stay on the device
            },
            "log": {"to": "", "project": "unirep_jax"},  # to "trackio", "wandb" or "mlflow", too
            "task": {
                "modality": DATA_SETS[dataset].out_of_modal,  # the out-of-modal one
                "setting": "semi",  # or "unsupervised"
                "labelled": 1.0 if method == "supervised" else 0.1,
                "validation": 0.0,  # share of these pairs that no gradient sees, for method.gate
                "in_modal_fraction": 1.0,
                "given": False,
                "control": True,  # also the features and the untrained network, read linearly
                "retrace": True,
            },
            "pretrain": SHARED["pretraining"](dim=64, steps=200),
            **SHARED["SPACES"]["searchable"](_space(method), 0 if paper else 300),
        }
    )


def _space(method: str) -> dict:
    """What `--config.search` draws from."""
    space = SHARED["SPACES"]["LEARNER"]
    return space | ({"weight_explore": (0.0, 0.1, 1.0)} if method in WITH_COX else {})


def _method(name: str, paper: bool = False, **changes) -> dict:
    settings = PAPER if paper else SMALL | (SMALL_COX if name in WITH_COX else {})
    return {"name": name, **dataclasses.asdict(METHODS[name](**settings | changes))}


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/oom.py:NAME`."""
    return variants(name, VARIANTS)


def _row(name: str, **changes) -> dict:
    return {"method": _method(name, **changes)}


UNSUPERVISED = {"task.setting": "unsupervised"}
VARIANTS = {
    # Tables 2, 3 and 5, semi-supervised; distillation is no row of the paper's.
    "table2": {
        "COX": {},
        "random": _row("random"),
        "ERM": _row("erm"),
        "EntMin": _row("entmin"),
        "SSL": _row("ssl"),
        "MoCo": _row("moco"),
        "FreeMatch": _row("freematch"),
        "MixText": _row("mixtext"),
        "distillation": _row("distillation"),
        "all labels": _row("supervised") | {"task.labelled": 1.0},
    },
    "unsupervised": {
        title: settings | UNSUPERVISED
        for title, settings in {
            "COX": {},
            "random": _row("random"),
            "SSL": _row("ssl"),
            "MoCo": _row("moco"),
        }.items()
    },
    # Table 4. "connection alone" is not of the paper: what the connection adds to ERM.
    "ablation": {
        "COX": {},
        "w/o connection": _row("cox", head_input="embedding", weight_connection=0.0),
        "w/o exploration": {"method.weight_explore": 0.0, "method.weight_agreed": 1.0},
        "connection alone": {"method.weight_explore": 0.0},
        "ERM": _row("erm"),
        "unsupervised COX": UNSUPERVISED,
        "unsupervised w/o warm-up": UNSUPERVISED | {"method.anchors": 0.0, "method.connect": 0.0},
    },
    # Table 6, and the other methods that learn from unlabelled examples.
    "table6": {
        title: _row(name)
        for title, name in {
            "MoCo": "moco",
            "MoCo + COX": "cox_moco",
            "FreeMatch": "freematch",
            "FreeMatch + COX": "cox_freematch",
            "MixText": "mixtext",
            "MixText + COX": "cox_mixtext",
        }.items()
    },
    # Ours against the paper's exploration.
    "exploration": {
        "COX": {},
        "connection alone": {"method.weight_explore": 0.0},
        "shared head": {"method.weight_explore": 0.0, "method.weight_shared": 0.5},
        "consensus": {f"method.{name}": value for name, value in CONSENSUS.items()},
        "ERM": _row("erm"),
    },
    "pairings": {
        pairing: {"method.pairing": pairing}
        for pairing in ("class", "nearest", "random", "all", "marginal")
    },
    # Figure 7: correspondence rates, COX against labelled examples alone.
    "figure7": {
        f"{title}, {rate:.0%}": settings | {"task.labelled": rate}
        for rate in (0.1, 0.2, 0.4, 0.8)
        for title, settings in {"COX": {}, "ERM": _row("erm")}.items()
    },
    # Figure 8: in-modal examples.
    "figure8": {
        f"{share:.0%} in-modal": {"task.in_modal_fraction": share} for share in (0.1, 0.4, 0.7, 1.0)
    },
}
