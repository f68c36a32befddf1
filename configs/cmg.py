"""MICU and its baselines on closed-set cross-modal generalisation: classification in Table 3.

    python -m unirep_jax.main --config=configs/cmg.py[:DATASET[,METHOD][,PRESET]]

The same training as configs/oscmg.py, whose arguments it takes; every class is known.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

get_oscmg_config = runpy.run_path(str(Path(__file__).with_name("oscmg.py")))["get_config"]


def get_config(argument: str = "digits_avt") -> ConfigDict:
    config = get_oscmg_config(argument)
    config.experiment = "cmg"
    return config
