"""MOVER, its ablations and others on cross-modal retrieval: Tables 1, 3 and 4 of CIKM 2025.

    python -m unirep_jax.main --config=configs/retrieval.py            # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/retrieval.py:gram
    python -m unirep_jax.main --config=configs/retrieval.py:utd_mhad,pairwise \\
      --config.data.path=FILE
    python -m unirep_jax.main --config=configs/retrieval.py:features --config.data.path=my_features/
    python -m unirep_jax.main --config=configs/retrieval.py:features --config.data.path=msrvtt/ \\
      --config.task.evaluate_on="('vatex/','clotho/')"                 # zero-shot, Table 1
    python -m unirep_jax.main --config=configs/retrieval.py:features --config.data.path=vatex/ \\
      --config.start.run=runs/RUN                                      # fine-tuned, Table 2
    python -m unirep_jax.sweep --config=configs/retrieval.py --seeds=5 --workdir=runs/table3 \\
      --variants=configs/retrieval.py:table3 --config.task.withheld='("audio","text")'
    python -m unirep_jax.sweep --config=configs/retrieval.py:wikipedia --config.data.path=FILE \\
      --variants=configs/retrieval.py:table4 --seeds=5 --workdir=runs/table4

The argument names a data set, a method (mover, gram, pairwise, or any other of configs/methods.py),
a preset, or several of them. docs/results/mover.md has what to expect.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import parse_argument, variants
from unirep_jax.data.catalog import DATA_SETS
from unirep_jax.methods import MOVER

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
CHOICES = SHARED["choices"]("retrieval", "mover")
DATASETS = CHOICES[0].names


def get_config(argument: str = "digits_avt,mover") -> ConfigDict:
    dataset, method, preset = parse_argument(argument, *CHOICES)
    codes = method in SHARED["CODEBOOKS"]
    task = {
        "captions": "",
        "withheld": (),  # Table 3: modalities that training never has in one example
        "oracle": False,  # training has them after all
        "evaluate_on": (),  # further sets, of which training has nothing
        "control": True,  # also evaluate the network untrained and linear CCA
    }
    return ConfigDict(
        SHARED["experiment"](
            "retrieval",
            dataset,
            method,
            preset,
            steps=DATA_SETS[dataset].steps if codes else 300,
            batch_size=80 if codes else 128,
            checkpoint_every=150,
            task=task,
        )
    )


def get_variants(name: str) -> dict[str, dict]:
    """Rows of a table, for `python -m unirep_jax.sweep --variants=configs/retrieval.py:NAME`."""
    return variants(name, VARIANTS)


def _method(method: MOVER) -> dict:
    small = dataclasses.asdict(SHARED["small_towers"](method))
    return {f"method.{field}": value for field, value in small.items()}


TABLE4 = {
    "MOVER": {},
    "w/o OT": {"method.weight_transport": 0.0},
    "w/o GAVE": _method(MOVER(measure="cosine")),
    "w/o both (pairwise)": _method(MOVER.pairwise()),
    "GRAM": _method(MOVER.gram()),
}
# What eq. 11 leaves open. Only the ratio of its two weights is searched: Adam does not see a common
# factor. A row without transport spends its budget on the temperature alone.
TEMPERATURE = {"temperature": (0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5)}
TRANSPORT = {"weight_transport": (0.2, 1.0, 5.0, 20.0), "epsilon": (0.01, 0.05, 0.2)}


def _equation_11(row: dict) -> dict:
    """The row with a space of its own, for `--config.search=N`."""
    matched = row.get("method.weight_transport", 1.0)
    return row | {"space": {"method": TEMPERATURE | (TRANSPORT if matched else {})}}


VARIANTS = {
    "table4": TABLE4,
    # The same rows, each at the best of N settings: docs/results/mover.md.
    "equation11": {title: _equation_11(row) for title, row in TABLE4.items()},
    # Table 3, with --config.task.withheld='("audio","text")', and training that has these pairs.
    "table3": {
        "MOVER": {},
        "w/o OT": {"method.weight_transport": 0.0},
        "pairwise": _method(MOVER.pairwise()),
        "oracle (MOVER)": {"task.oracle": True},
        "oracle (pairwise)": _method(MOVER.pairwise()) | {"task.oracle": True},
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
