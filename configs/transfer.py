"""MICU and its baselines, trained and evaluated as published: Tables 2, 3 of Huang et al., 2025.

    python -m unirep_jax.main --config=configs/transfer.py[:METHOD[,PRESET]] \\
      --config.data.path=features/vggsound_avel40k \\
      --config.task.sets="('features/ave', 'features/avvp', 'features/clotho')"

Trained on VGGSound-AVEL40K, evaluated on every folder of task.sets by what it holds: open-set and
closed-set generalisation, events in time, zero-shot retrieval. docs/data_sets.md says how these
folders are made. Methods and presets are those of configs/oscmg.py; 2,555 steps are the authors'
five epochs of all parts. We do not have these features: no number has been compared with theirs.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

get_oscmg_config = runpy.run_path(str(Path(__file__).with_name("oscmg.py")))["get_config"]


def get_config(argument: str = "micu,paper") -> ConfigDict:
    config = get_oscmg_config(f"features,{argument}")
    probe = config.task.probe
    config.experiment = "transfer"
    config.steps = 2555
    config.task = ConfigDict({
        "sets": ("features/ave", "features/ucf51", "features/ucf_vggsound", "features/avvp",
                 "features/ave_avvp", "features/msvd", "features/clotho"),
        "selections": ("honest", "paper"),
        "folds": 3,
        "control": True,  # also the network untrained, linear CCA, raw features
        "probe": probe,
        "event_probe": {
            "hidden": 256, "steps": 600, "batch_size": 80, "lr": 2e-3, "weight_decay": 0.01,
        },
    })  # fmt: skip
    return config
