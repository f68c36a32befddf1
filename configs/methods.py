"""Settings of the representation methods, for every task that evaluates them; no experiment itself.

configs/oscmg.py, cmg.py, retrieval.py, few_label.py, matrix.py and transfer.py read them. Presets:

default    small encoders and augmentation found for MICU on utd_mhad, the same for all methods with
           a codebook; small towers found for MOVER on held-out training people and digits
paper      MICU's equations as printed; of other methods with a codebook the sizes that they have in
           MICU's tables; MOVER's one linear map, with eq. 9 in one direction
official   of MICU and MMJP, what the authors' code optimises; of GRAM, one anchor, the text
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections.config_dict import placeholder

from unirep_jax.config_arguments import Choice, data_section
from unirep_jax.data.catalog import DATA_SETS, data_sets
from unirep_jax.methods import CCA, CMCM, CMCR, CODIS, DCID, MICU, MOVER, TURN, RawFeatures

SPACES = runpy.run_path(str(Path(__file__).with_name("spaces.py")))
SMALL = {
    "dim": 128,
    "temporal": "convolution",
    "layers": 3,
    "noise": 0.1,
    "gain": 0.1,
    "warp": 0.15,
}
SMALL_DATA = MICU(
    **SMALL,
    temperature=0.1,
    cosine=True,
    mask="steps",
    pieces=4,
    permutations=8,
    commitment_own=0.5,
    commitment_other=0.125,
)
# The towers have layers of their own, because these features are raw; for features of large frozen
# models the papers have a linear map alone: --config.method.layers=0.
TOWERS = {
    "dim": 128,
    "layers": 1,
    "width": 128,
    "dropout": 0.2,
    "noise": 0.4,
    "gain": 0.2,
    "warp": 0.2,
    "warm_start": 150,
}
TEMPERATURE = {"volume": 0.05, "cosine": 0.1}  # a volume has half the range of a cosine


def _mmjp(method: MICU) -> MICU:
    jigsaw = {f: getattr(MICU.mmjp(), f) for f in ("jigsaw", "pieces", "permutations")}
    return dataclasses.replace(method, **jigsaw)


def small_towers(method: MOVER) -> MOVER:
    """The method with towers for small data."""
    return dataclasses.replace(method, **TOWERS, temperature=TEMPERATURE[method.measure])


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
CODEBOOKS = tuple(METHODS)
METHODS |= {
    "mover": {"default": small_towers(MOVER()), "paper": MOVER.paper()},
    "gram": {"default": small_towers(MOVER.gram()), "official": MOVER.gram_official()},
    "pairwise": {"default": small_towers(MOVER.pairwise())},
    "cmcr": {"default": CMCR(dim=128, hidden=256), "paper": CMCR()},
    "cca": {"default": CCA()},
    "raw": {"default": RawFeatures()},
}
SOLVED = ("cca", "raw")  # without training steps
PRESETS = ("default", "paper", "official")

SMALL_DATA_TRAINING = {
    "lr": 1e-3,
    "schedule": "cosine",
    "warmup": 50,
    "weight_decay": 0.01,
    "clip": 1.0,
}
AUTHORS_TRAINING = {
    "lr": 4e-4,
    "schedule": "constant",
    "warmup": 0,
    "weight_decay": 0.0,
    "clip": 0.5,
}
# GRAM's; it names AdamW's betas (0.9, 0.98) and lets the rate fall linearly. MOVER names none.
VOLUME_TRAINING = {
    "lr": 1e-4,
    "schedule": "cosine",
    "warmup": 30,
    "weight_decay": 0.01,
    "clip": 0.0,
}
# Its weight decay was chosen on utd_mhad: few examples, other persons in the test.
PROBE = {"hidden": 256, "steps": 300, "batch_size": 80, "lr": 2e-3, "weight_decay": 3.0}
# The authors' rate and no decay; 600 steps are their 25 epochs of 1,857 clips of AVE. ≠ theirs is
# halved after 10, 20 and 30 epochs, ours falls along a cosine.
AUTHORS_PROBE = {"hidden": 256, "steps": 600, "batch_size": 80, "lr": 4e-4, "weight_decay": 0.0}


def training(method: str, preset: str) -> dict:
    """The optimiser that belongs to a preset of a method."""
    authors = VOLUME_TRAINING if method in ("mover", "gram") else AUTHORS_TRAINING
    return dict(SMALL_DATA_TRAINING if preset == "default" else authors)


def pretraining(dim: int, steps: int) -> dict:
    """The section `pretrain` of a method that starts from frozen encoders: small towers."""
    towers = MOVER(
        measure="cosine",
        weight_transport=0.0,
        dim=dim,
        layers=1,
        width=dim,
        dropout=0.2,
        noise=0.4,
        gain=0.2,
        warp=0.2,
        temperature=0.1,
    )
    return {
        "path": "",  # where encoders are kept; by default in the folder of the run
        "steps": steps,
        "batch_size": 128,
        "parallel": "shard_map",
        "method": dataclasses.asdict(towers),
        "train": {
            "lr": 1e-3,
            "schedule": "cosine",
            "warmup": 20,
            "weight_decay": 0.01,
            "clip": 1.0,
            "log_every": 50,
            "checkpoint_every": 100,
            "checkpoint_seconds": 120.0,  # whatever comes first
            "fused": 10,
        },
    }


def experiment(
    name: str,
    dataset: str,
    method: str,
    preset: str,
    *,
    steps: int,
    batch_size: int = 80,
    checkpoint_every: int = 500,
    task: dict,
) -> dict:
    """A configuration of a task that evaluates representations, but for what is its own."""
    follows = DATA_SETS[dataset].untuned and preset == "default" and method not in SOLVED
    config = {
        "experiment": name,
        "seed": 0,
        "steps": 0 if method in SOLVED else steps,
        "batch_size": batch_size,
        "parallel": "shard_map",  # or "pmap"
        "data": data_section(dataset),
        "method": chosen(method, preset, dataset),
        "train": {
            **training(method, preset),
            "log_every": 50,
            "checkpoint_every": checkpoint_every,
            "checkpoint_seconds": 120.0,
        },
        "log": {"to": "", "project": "unirep_jax"},  # to "trackio", "wandb" or "mlflow", too
        # A folder of a run to start from in place of random weights; its hash is filled in.
        "start": {"run": "", "sha256": ""},
        "task": task,
        **SPACES["searchable"](SPACES["METHODS"].get(method, {}), 0 if method in SOLVED else steps),
    }
    if follows:
        follow_data(config)
    return config | ({"pretrain": pretraining(dim=128, steps=300)} if method == "cmcr" else {})


def follow_data(config: dict) -> None:
    """Leaves open what `unirep_jax.defaults` chooses for the data; a flag still sets it."""
    config |= {"batch_size": placeholder(int), "steps": placeholder(int)}
    config["space"]["steps"] = (150, 300, 600, 1200)
    config["method"] = open_method(config["method"])


def open_method(settings: dict) -> dict:
    """The section `method` with what follows the data left open."""
    kinds = {"layers": int, "warp": float, "noise": float}
    if "measure" in settings:  # towers
        kinds |= {"linear_start": bool, "warm_start": int, "groups": str}
        if settings["measure"] == "volume" and settings["weight_transport"]:  # MOVER
            kinds |= {"measure": str, "temperature": float}
    return settings | {name: placeholder(kind) for name, kind in kinds.items() if name in settings}


def choices(
    task: str, method: str, names: tuple[str, ...] = tuple(METHODS), *, dataset: str = "digits_avt"
) -> tuple[Choice, ...]:
    """What the argument of a configuration may name: data set, method, preset."""
    return (
        Choice("data set", data_sets(task), dataset),
        Choice("method", names, method),
        Choice("preset", PRESETS, "default"),
    )


def chosen(name: str, preset: str, dataset: str) -> dict:
    """The section `method`; C-MCR's spaces are those of the data set.

    Raises:
      ValueError: the method has no such preset, or the data set no modality that two spaces share.
    """
    if preset not in METHODS[name]:
        raise ValueError(f"{preset!r}: presets of {name}: {', '.join(METHODS[name])}")
    method = METHODS[name][preset]
    if name == "cmcr":
        if dataset not in DATA_SETS or not DATA_SETS[dataset].spaces[0]:
            known = [name for name, facts in DATA_SETS.items() if facts.spaces[0]]
            raise ValueError(f"cmcr: {dataset!r} is none of the data sets with two spaces, {known}")
        shared, first, second = DATA_SETS[dataset].spaces
        pairs = {"first": (f"{shared}_1", f"{first}_1"), "second": (f"{shared}_2", f"{second}_2")}
        method = dataclasses.replace(method, **pairs)
    return {"name": name, **dataclasses.asdict(method)}
