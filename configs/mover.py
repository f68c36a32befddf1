"""MOVER and its ablations on cross-modal retrieval: Tables 1, 3 and 4 of You and Liu, CIKM 2025.

    python -m unirep_jax.main --config=configs/mover.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/mover.py:gram
    python -m unirep_jax.main --config=configs/mover.py:utd_mhad,pairwise --config.data.path=FILE
    python -m unirep_jax.main --config=configs/mover.py:features --config.data.path=my_features/
    python -m unirep_jax.main --config=configs/mover.py \\
      --config.protocol.withheld='("audio","text")'                    # Table 3
    python -m unirep_jax.sweep --config=configs/mover.py:wikipedia --config.data.path=FILE \\
      --variants=configs/mover.py:table4 --seeds=5 --workdir=runs/table4

The argument names a data set, a method (mover, gram, pairwise) or both. The towers have layers of
their own, because these features are raw; for features of large frozen models the papers have a
linear map alone: --config.method.layers=0. README.md has what to expect.
"""

import dataclasses

from ml_collections import ConfigDict

from unirep_jax.methods import MOVER

METHODS = {"mover": MOVER(), "gram": MOVER.gram(), "pairwise": MOVER.pairwise()}
DATASETS = ("digits_avt", "utd_mhad", "wikipedia", "mosi", "features")
TOWERS = {
    "dim": 128, "layers": 1, "width": 128, "dropout": 0.2, "noise": 0.4, "gain": 0.2, "warp": 0.2,
    "warm_start": 150,
}  # fmt: skip
# Chosen on held-out training people and digits; a volume has half the range of a cosine.
TEMPERATURE = {"volume": 0.05, "cosine": 0.1}


def get_config(argument: str = "digits_avt,mover") -> ConfigDict:
    words = argument.split(",")
    datasets = [w for w in words if w in DATASETS] or ["digits_avt"]
    methods = [w for w in words if w in METHODS] or ["mover"]
    if len(datasets) + len(methods) != 2 or not {*words} <= {*DATASETS, *METHODS}:
        raise ValueError(
            f"{argument!r} is not DATASET, METHOD or DATASET,METHOD; data sets: "
            f"{', '.join(DATASETS)}; methods: {', '.join(METHODS)}"
        )
    method = _small(METHODS[methods[0]])
    return ConfigDict({
        "experiment": "retrieval",
        "seed": 0,
        "steps": 300,
        "batch_size": 128,
        "parallel": "shard_map",  # or "pmap"
        "data": {"name": datasets[0], "path": ""},
        "method": {"name": methods[0], **dataclasses.asdict(method)},
        "train": {
            "lr": 1e-3, "schedule": "cosine", "warmup": 50, "weight_decay": 0.01, "clip": 1.0,
            "log_every": 50,
            "checkpoint_every": 150,
        },
        "protocol": {
            "captions": "",
            "withheld": (),  # Table 3: modalities that training never has in one example
        },
    })  # fmt: skip


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/mover.py:NAME`."""
    if name not in VARIANTS:
        raise ValueError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _small(method: MOVER) -> MOVER:
    return dataclasses.replace(method, **TOWERS, temperature=TEMPERATURE[method.measure])


def _method(method: MOVER) -> dict:
    return {f"method.{field}": value for field, value in dataclasses.asdict(_small(method)).items()}


VARIANTS = {
    "table4": {
        "MOVER": {},
        "w/o OT": {"method.weight_transport": 0.0},
        "w/o GAVE": _method(MOVER(measure="cosine")),
        "w/o both (pairwise)": _method(MOVER.pairwise()),
        "GRAM": _method(MOVER.gram()),
    },
    # Eq. 8 over tuples of three modalities, and the ways to draw groups from the plans.
    "plans": {
        "anchor": {},
        "pairs": {"method.plan": "pairs"},
        "multimarginal": {"method.plan": "multimarginal"},
        "hard": {"method.groups": "top"},
        "top-3": {"method.groups": "top", "method.group_count": 3},
        "sampled": {"method.groups": "sample", "method.group_count": 8},
    },
    "readings": {
        "paired positives": {},
        "positives by transport": {"method.positives": "transport"},
        "eq. 9 as printed": {"method.negatives_only": True},
        "one direction": {"method.both_directions": False},
        "gradient through plans": {"method.plan_gradient": "unroll"},
        "transport alone": {"method.weight_contrast": 0.0},
    },
}
