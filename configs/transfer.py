"""MICU and its baselines, trained and evaluated as published: Tables 2, 3 of Huang et al., 2025.

    python -m unirep_jax.main --config=configs/transfer.py[:METHOD[,PRESET]] \\
      --config.data.path=features/vggsound_avel40k \\
      --config.task.sets="('features/ave', 'features/avvp', 'features/clotho')"

Table 2, all methods as published:

    python -m unirep_jax.sweep --config=configs/transfer.py --seeds=1 --workdir=runs/table2 \\
      --variants=configs/tables/oscmg.py:table2 --config.data.path=features/vggsound_avel40k

Trained on VGGSound-AVEL40K, evaluated on every folder of task.sets by what it holds: open-set and
closed-set generalisation, events in time, zero-shot retrieval. docs/data_sets.md says how these
folders are made. Methods and presets are those of configs/oscmg.py; 2,555 steps are the authors'
five epochs of all parts. Optimiser and probes are the authors'; docs/reproduce_table2.md has every
command, and what it takes. We do not have these features: no number has been compared with theirs.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

get_oscmg_config = runpy.run_path(str(Path(__file__).with_name("oscmg.py")))["get_config"]
SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))


def get_config(argument: str = "micu") -> ConfigDict:
    words = argument.split(",")
    methods = [word for word in words if word in SHARED["METHODS"]] or ["micu"]
    # Small encoders are for small data: here a method is the paper's unless something else is said.
    if not {*words} & {*SHARED["PRESETS"]} and "paper" in SHARED["METHODS"][methods[0]]:
        argument += ",paper"
    config = get_oscmg_config(f"features,{argument}")
    config.experiment = "transfer"
    config.steps = 2555
    config.task = ConfigDict(
        {
            "sets": (
                "features/ave",
                "features/ucf51",
                "features/ucf_vggsound",
                "features/avvp",
                "features/ave_avvp",
                "features/msvd",
                "features/clotho",
            ),
            "selections": ("honest", "paper"),
            "folds": 3,
            "control": True,  # also the network untrained, linear CCA, raw features
            "probe": dict(SHARED["AUTHORS_PROBE"]),
            "event_probe": dict(SHARED["AUTHORS_PROBE"]),
        }
    )
    return config
