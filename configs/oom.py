"""COX and its baselines on out-of-modal generalisation: Tables 2 to 6 of COX (ICLR 2025).

    python -m unirep_jax.main --config=configs/oom.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/oom.py:erm --config.oom.modality=video
    python -m unirep_jax.main --config=configs/oom.py:utd_mhad,freematch --config.data.path=FILE
    python -m unirep_jax.main --config=configs/oom.py --config.oom.setting=unsupervised
    python -m unirep_jax.sweep --config=configs/oom.py:utd_mhad --config.data.path=FILE \\
      --variants=configs/oom.py:table2 --seeds=5 --workdir=runs/table2

The argument names a data set, a method, or both; `paper` after them has the paper's learner and
optimiser (ViT-T/16, Adam 1e-3, weight decay 1e-5; its features must be images or spectrograms).
`config.oom` is `config.protocol` by another name: what is set in one is set in both. Perceptors of
the in-modal modalities are trained first, on their pairs; with embeddings of your own models in the
feature file set --config.oom.given=True. README.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.methods import BASELINES, METHODS, MOVER

# The out-of-modal modality by default.
DATASETS = {
    "digits_avt": "audio",
    "utd_mhad": "inertial",
    "digits4": "sign",
    "wikipedia": "image",
    "mosi": "text",
    "features": "",
}
NAMES = ("cox", *BASELINES)
SMALL = {
    "dim": 64, "width": 64, "layers": 1, "dropout": 0.2, "noise": 0.4, "gain": 0.2, "warp": 0.2,
}  # fmt: skip
PAPER = {"network": "vision_transformer", "dim": 192, "width": 192, "layers": 12}
# Anchors are nearly sure, so log h(x_a) is large: divergence outweighs the other terms at weight 1.
SMALL_COX = {"hidden": 256, "latent": 64, "weight_explore": 0.1}
TOWERS = MOVER(
    measure="cosine", weight_transport=0.0, dim=64, layers=1, width=64, dropout=0.2, noise=0.4,
    gain=0.2, warp=0.2, temperature=0.1,
)  # fmt: skip


def get_config(argument: str = "digits_avt,cox") -> ConfigDict:
    words = argument.split(",")
    paper = words[-1] == "paper"
    words = words[:-1] if paper else words
    datasets = [w for w in words if w in DATASETS] or ["digits_avt"]
    methods = [w for w in words if w in NAMES] or ["cox"]
    known = {*words} <= {*DATASETS, *NAMES} and (words or paper)
    if len(datasets) + len(methods) != 2 or not known:
        raise ValueError(
            f"{argument!r} is not DATASET, METHOD or DATASET,METHOD; data sets: "
            f"{', '.join(DATASETS)}; methods: {', '.join(NAMES)}"
        )
    (dataset,), (method,) = datasets, methods
    config = ConfigDict({
        "experiment": "oom",
        "seed": 0,
        "steps": 300,
        "batch_size": 64,  # of labelled, of unlabelled and of in-modal examples
        "parallel": "shard_map",  # or "pmap"
        "data": {"name": dataset, "path": ""},
        "method": _method(method, paper),
        "train": {
            "lr": 1e-3, "schedule": "constant" if paper else "cosine", "warmup": 0 if paper else 20,
            "weight_decay": 1e-5 if paper else 0.01, "clip": 0.0 if paper else 1.0,
            "log_every": 20,
            "checkpoint_every": 100,
            "fused": 20,  # steps in one program, on data that stay on the device
        },
        "oom": {
            "modality": DATASETS[dataset],  # the out-of-modal one
            "setting": "semi",  # or "unsupervised"
            "labelled": 1.0 if method == "supervised" else 0.1,
            "in_modal_fraction": 1.0,
            "given": False,
            "retrace": True,
        },
        "perceptors": {
            "path": "",  # where they are kept; by default in the folder of the run
            "steps": 200,
            "batch_size": 128,
            "parallel": "shard_map",
            "method": dataclasses.asdict(TOWERS),
            "train": {
                "lr": 1e-3, "schedule": "cosine", "warmup": 20, "weight_decay": 0.01, "clip": 1.0,
                "log_every": 50,
                "checkpoint_every": 100,
                "fused": 10,
            },
        },
    })  # fmt: skip
    config.protocol = config.oom
    return config


def _method(name: str, paper: bool = False, **changes) -> dict:
    settings = PAPER if paper else SMALL | (SMALL_COX if name == "cox" else {})
    return {"name": name, **dataclasses.asdict(METHODS[name](**settings | changes))}


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/oom.py:NAME`."""
    if name not in VARIANTS:
        raise ValueError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _row(name: str, **changes) -> dict:
    return {"method": _method(name, **changes)}


VARIANTS = {
    # Tables 2, 3 and 5, semi-supervised.
    "table2": {
        "COX": {},
        "random": _row("random"),
        "ERM": _row("erm"),
        "EntMin": _row("entmin"),
        "SSL": _row("ssl"),
        "MoCo": _row("moco"),
        "FreeMatch": _row("freematch"),
        "MixText": _row("mixtext"),
        "all labels": _row("supervised") | {"oom.labelled": 1.0},
    },
    "unsupervised": {
        title: settings | {"oom.setting": "unsupervised"}
        for title, settings in {
            "COX": {}, "random": _row("random"), "SSL": _row("ssl"), "MoCo": _row("moco"),
        }.items()
    },
    "ablation": {
        "COX": {},
        "w/o connection": _row("cox", head_input="embedding", weight_connection=0.0),
        "w/o exploration": {"method.weight_explore": 0.0},
        "w/o warm-up": {"method.warmup": 0},
    },
    "pairings": {
        pairing: {"method.pairing": pairing}
        for pairing in ("class", "nearest", "random", "all", "marginal")
    },
    # Figure 7: correspondence rates, COX against labelled examples alone.
    "figure7": {
        f"{title}, {rate:.0%}": settings | {"oom.labelled": rate}
        for rate in (0.1, 0.2, 0.4, 0.8)
        for title, settings in {"COX": {}, "ERM": _row("erm")}.items()
    },
    # Figure 8: in-modal examples.
    "figure8": {
        f"{share:.0%} in-modal": {"oom.in_modal_fraction": share} for share in (0.1, 0.4, 0.7, 1.0)
    },
}  # fmt: skip
