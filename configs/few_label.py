"""Few-label classification of each modality by a probe of any representation.

    python -m unirep_jax.main --config=configs/few_label.py[:DATASET[,METHOD][,PRESET]]
    python -m unirep_jax.main --config=configs/few_label.py:utd_mhad,pairwise \\
      --config.data.path=FILE --config.task.labelled=0.2

The same training as configs/oscmg.py, whose arguments it takes, and `raw`, the features as they
are. Only the probe sees labels.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

get_oscmg_config = runpy.run_path(str(Path(__file__).with_name("oscmg.py")))["get_config"]


def get_config(argument: str = "digits_avt") -> ConfigDict:
    config = get_oscmg_config(argument)
    config.experiment = "few_label"
    config.task = ConfigDict({"labelled": 0.1, "control": True, "probe": config.task.probe})
    return config
