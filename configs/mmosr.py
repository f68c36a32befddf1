"""MRN and its baselines on multimodal open-set recognition: Tables 1 to 7 of the MRN paper (2024).

    python -m unirep_jax.main --config=configs/mmosr.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/mmosr.py:concat
    python -m unirep_jax.main --config=configs/mmosr.py:utd_mhad,arpl-mrn --config.data.path=FILE
    python -m unirep_jax.main --config=configs/mmosr.py:digits_avt,alone \\
      --config.method.modality=audio
    python -m unirep_jax.sweep --config=configs/mmosr.py:handwritten6 --config.data.path=FILE \\
      --variants=configs/mmosr.py:baselines --seeds=5 --workdir=runs/baselines

  # Figure 9 is the table "Fusion degradation" of a sweep with the row "single".
  python -m unirep_jax.sweep --config=configs/mmosr.py --workdir=runs/table2 --seeds=5 \\
      --variants=configs/mmosr.py:table2:video,audio,text

Of digits_avt, sight and sound are used: its captions name the digit (--config.data.modalities="()"
for all three). The argument names a data set, a method, or both; methods are listed in
unirep_jax/methods/recognition.py. Every seed draws its own known classes. These networks are small,
because these data are; the paper's are --config.method.width=512 and so on, the method's defaults.
docs/results/mrn.md has what to expect.
"""

import dataclasses
import itertools
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import Choice, data_section, parse_argument, variants
from unirep_jax.data.catalog import data_sets
from unirep_jax.methods import RECOGNIZERS

SPACES = runpy.run_path(str(Path(__file__).with_name("spaces.py")))
DATASETS = data_sets("mmosr")
SMALL = {
    "width": 64,
    "tokens": 4,
    "layers": 1,
    "dropout": 0.2,
    "heads": 4,
    "hidden": 128,
    "embedding": 64,
    "latent": 16,
    "noise": 0.6,
    "gain": 0.2,
    "warp": 0.2,
}
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
    return ConfigDict(
        {
            "experiment": "mmosr",
            "seed": 0,
            "steps": 300,
            "batch_size": 64,
            "parallel": "shard_map",  # or "pmap"
            "data": data_section(dataset, MODALITIES.get(dataset, ())),
            "method": {"name": name, **dataclasses.asdict(method)},
            "train": {
                "lr": 1e-3,
                "schedule": "cosine",
                "warmup": 30,
                "weight_decay": 0.01,
                "clip": 1.0,
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
                "control": True,  # also the features and the untrained network, read linearly
                "out_of_distribution": "",  # Table 5: another data set instead of unknown classes
                "out_of_distribution_path": "",
                "scores": (),  # further ones of the trained network, a row each
                "relevance": 0,  # so many test examples are drawn with the tokens that matter
                "generated": (),  # "noise", "mismatched": rejected besides the unknown classes
            },
            **SPACES["searchable"](SPACES["RECOGNITION"], 300),
        }
    )


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/mmosr.py:NAME`.

    Tables with rows of single modalities name these after a colon: `table1:video,text`.
    """
    table, _, modalities = name.partition(":")
    if table in OF_MODALITIES:
        if not modalities:
            raise ValueError(f"{table} has rows of single modalities: {table}:video,text")
        return OF_MODALITIES[table](tuple(modalities.split(",")))
    return variants(name, VARIANTS)


def _row(method: str, **changes) -> dict:
    settings = dataclasses.asdict(dataclasses.replace(RECOGNIZERS[method], **SMALL | changes))
    return {
        "method.name": method,
        **{f"method.{field}": value for field, value in settings.items()},
    }


def _alone(method: str, modalities: tuple[str, ...], title: str, **changes) -> dict[str, dict]:
    return {f"{title}, {m}": _row(method, modality=m, **changes) for m in modalities}


def _table1(modalities: tuple[str, ...]) -> dict[str, dict]:
    """Whether a fusion keeps what its modalities know: OpenAUC alone, fusion, fusion with it."""
    return {
        **_alone("openauc-alone", modalities, "OSR"),
        "fusion": _row("add"),
        "fusion-OSR": _row("openauc-add"),
    }


def _table2(modalities: tuple[str, ...]) -> dict[str, dict]:
    """Single modalities with a head for rejection, fusions, and fusions with such a head."""
    rows = {}
    for head in ("arpl", "openauc", "cssr"):
        rows |= _alone(f"{head}-alone", modalities, head.upper())
    rows |= _alone("alone", modalities, "ASH", score="ash")
    rows |= {"TMC": _row("tmc"), "GQA": _row("gqa"), "MLA": _row("mla"), "MRN": {}}
    for head, fusion in itertools.product(("arpl", "cssr"), ("add", "concat", "gqa", "mrn")):
        rows[f"{head.upper()}-{fusion}"] = _row(f"{head}-{fusion}")
    return rows


def _table4(modalities: tuple[str, ...]) -> dict[str, dict]:
    """Either direction of attention alone; C₁ has queries of the first modality named."""
    one, two = modalities
    return {
        "neither": _row("mrn", fusion="concat"),
        "C1": _row("mrn", pairs=((one, two),)),
        "C2": _row("mrn", pairs=((two, one),)),
        "C1 and C2": _row("mrn", pairs=((one, two), (two, one))),
    }


OF_MODALITIES = {"table1": _table1, "table2": _table2, "table4": _table4}
VARIANTS = {
    "baselines": {
        "MRN": {},
        **{
            m: _row(m)
            for m in (
                "single",
                "add",
                "concat",
                "gqa",
                "openauc-concat",
                "arpl-concat",
                "arpl-mrn",
                "rcssr-concat",
                "rcssr-mrn",
                "tmc",
                "mla",
            )
        },
    },
    # What experts do beyond having parameters, and what becomes of their gates.
    "controls": {
        "MRN": {},
        "cross-attention": _row("cross_attention"),
        "cross-attention, matched": _row("cross_attention", matched=15),
        "cross-attention, as 4 experts": _row("cross_attention", matched=4),
        "concat": _row("concat"),
        "concat, matched": _row("concat", matched=15),
        "concat, experts": _row("mrn", fusion="concat"),
    },
    "gates": {
        "MRN": {},
        "all experts": _row("mrn", count=15),
        "4 of 4": _row("mrn", experts=4, count=4),
        "1 of 4": _row("mrn", experts=4, count=1),
        "no balance": _row("mrn", weight_balance=0.0),
        "ten times the balance": _row("mrn", weight_balance=0.1),
        "no noise": _row("mrn", gate_noise=False),
        "three times the steps": {"steps": 900},
        "cross-attention, matched": _row("cross_attention", matched=15),
        "the same, three times the steps": _row("cross_attention", matched=15) | {"steps": 900},
    },
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
    },
    # Figures 4 and 5.
    "figure4": {f"{e} experts": _row("mrn", experts=e) for e in (10, 12, 15, 18, 20)},
    "figure5": {f"{k} used": _row("mrn", count=k) for k in (2, 3, 4, 5, 6, 7)},
    # Scores that need a network of their own; `task.scores` has those of any trained network.
    "scores": {
        "max softmax": _row("concat"),
        "ensemble": _row("ensemble-concat"),
        "ASH": _row("concat", score="ash"),
        "TMC uncertainty": _row("tmc", score="certainty"),
    },
    "heads": {name.removesuffix("-mrn"): _row(name) for name in RECOGNIZERS if "-mrn" in name},
}
