"""Methods × tasks: every representation method under every task of one data set.

    python -m unirep_jax.sweep --config=configs/matrix.py:utd_mhad --config.data.path=FILE \\
      --variants=configs/matrix.py:methods,utd_mhad --seeds=3 --workdir=runs/matrix
    python -m unirep_jax.main --config=configs/matrix.py:digits_avt,dcid   # one row

Each method is trained once per seed, by default with the same steps and batches, and evaluated on
closed-set and open-set generalisation, retrieval and few-label classification. The controls, an
untrained network (MICU's), linear CCA and raw features, are rows of the same table. The data set
after `methods` adds C-MCR, which needs to know which modality two spaces share; where no setting
was found on that set, settings follow the data.
docs/results/matrix.md has what to expect.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import parse_argument, variants
from unirep_jax.data.catalog import DATA_SETS

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
CHOICES = SHARED["choices"]("matrix", "micu")
TITLES = {
    "MICU": "micu",
    "MMJP": "mmjp",
    "DCID": "dcid",
    "CMCM": "cmcm",
    "CODIS": "codis",
    "TURN": "turn",
    "MOVER": "mover",
    "GRAM": "gram",
    "pairwise": "pairwise",
    "C-MCR": "cmcr",
}


def get_config(argument: str = "digits_avt") -> ConfigDict:
    dataset, method, preset = parse_argument(argument, *CHOICES)
    facts = DATA_SETS[dataset]
    task = {
        "oscmg": {
            "known": facts.known,
            "selections": ("honest", "paper"),
            "folds": 3,
            "probe": dict(SHARED["PROBE"]),
        },
        "retrieval": {"captions": ""},
        "few_label": {"labelled": 0.1, "probe": dict(SHARED["PROBE"])},
        "control": True,  # also evaluate the network untrained, linear CCA and raw features
    }
    config = SHARED["experiment"]("matrix", dataset, method, preset, steps=facts.steps, task=task)
    config["pretrain"] = SHARED["pretraining"](dim=128, steps=300)  # C-MCR is one of its rows
    return ConfigDict(config)


def get_variants(name: str) -> dict[str, dict]:
    """Rows of the table, for `python -m unirep_jax.sweep --variants=configs/matrix.py:methods`."""
    name, _, dataset = name.partition(",")
    follows = DATA_SETS[dataset or "digits_avt"].untuned
    rows = {}
    for title, method in TITLES.items():
        if method == "cmcr" and not dataset:
            continue
        settings = SHARED["chosen"](method, "default", dataset)
        rows[title] = {
            "method": SHARED["open_method"](settings) if follows else settings,
            "space.method": SHARED["SPACES"]["METHODS"][method],
        }
    return variants(name, {"methods": rows})
