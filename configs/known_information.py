"""Out-of-modal generalisation where the information is known: an instrument, no table of a paper.

    python -m unirep_jax.main --config=configs/known_information.py
    python -m unirep_jax.main --config=configs/known_information.py:high,freematch
    python -m unirep_jax.sweep --config=configs/known_information.py:middle \\
      --variants=configs/known_information.py:methods --seeds=4 --workdir=runs/known/middle
    python -m unirep_jax.tasks.oom runs/known --figure=runs/known.png

Gaussian classes in one unknown and two in-modal modalities (unirep_jax.data.known_information). The
argument says how much the unknown one tells of the class, `low`, `middle` or `high`, and a method.
Every run also has the accuracy of the best possible classifier, I(X; Y), overlap and disagreement.
The row "oracle" trains with the true labels of the examples on which the in-modal heads disagree:
what exploration could gain at most. What was found with it: docs/results/cox.md.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import Choice, parse_argument, variants
from unirep_jax.data.known_information import SEPARATIONS

OOM = runpy.run_path(str(Path(__file__).with_name("oom.py")))
CHOICES = (
    Choice("level", tuple(SEPARATIONS), "middle"),
    Choice("method", OOM["NAMES"], "cox"),
)
AUGMENTATION = {"noise": 0.1, "gain": 0.1, "warp": 0.0}  # vectors of six entries
HELD_OUT = {"task.validation": 0.2}
ORACLE = {"target": "labels", "weight_explore": 1.0}


def get_config(argument: str = "middle,cox") -> ConfigDict:
    level, method = parse_argument(argument, *CHOICES)
    config = OOM["get_config"](method)
    config.experiment = "known_information"
    config.data.name = f"known_information_{level}"
    config.task.modality = "unknown"
    config.task.given = True
    config.task.reveal = False  # the labels of unlabelled examples, for the oracle
    config.method.update(AUGMENTATION)
    return config


def get_variants(name: str) -> dict[str, dict]:
    """Rows, for `python -m unirep_jax.sweep --variants=configs/known_information.py:NAME`."""
    return variants(name, VARIANTS)


def _cox(**changes) -> dict:
    return {f"method.{name}": value for name, value in changes.items()}


def _row(name: str, **changes) -> dict:
    return {"method": OOM["_method"](name, **AUGMENTATION, **changes)}


VARIANTS = {
    "methods": {
        "COX": {},
        "COX, weight 1": _cox(weight_explore=1.0),
        "connection alone": _cox(weight_explore=0.0),
        "shared head": _cox(weight_explore=0.0, weight_shared=0.5),
        "consensus": _cox(**OOM["CONSENSUS"]),
        "oracle on D": _cox(**ORACLE) | {"task.reveal": True},
        "ERM": _row("erm"),
        "distillation": _row("distillation"),
        "MixText": _row("mixtext"),
        "FreeMatch": _row("freematch"),
        "MixText + connection": _row("cox_mixtext", weight_explore=0.0),
        "all labels": _row("supervised") | {"task.labelled": 1.0},
    },
    # Exploration, with and without a gate, and the picture of accuracy against information.
    "gate": {
        "connection alone": _cox(weight_explore=0.0),
        "ERM": _row("erm"),
        "COX, weight 1": _cox(weight_explore=1.0),
        "four fifths of the pairs": _cox(weight_explore=0.0) | HELD_OUT,
        "gate": _cox(weight_explore=1.0, gate=True) | HELD_OUT,
        "oracle on D": _cox(**ORACLE) | {"task.reveal": True},
    },
    "weights": {
        f"{pairing}, weight {weight}": _cox(pairing=pairing, weight_explore=weight)
        for pairing in ("class", "nearest", "all")
        for weight in (0.1, 1.0)
    },
}
