"""MICU and its baselines on open-set generalisation: Table 2 of Huang et al., ICCV 2025.

    python -m unirep_jax.main --config=configs/oscmg.py                # digits_avt, ships inside
    python -m unirep_jax.main --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz
    python -m unirep_jax.main --config=configs/oscmg.py:features --config.data.path=my_features/
    python -m unirep_jax.main --config=configs/oscmg.py:digits_avt,dcid
    python -m unirep_jax.main --config=configs/oscmg.py:digits_avt,micu,paper
    python -m unirep_jax.main --config=configs/oscmg.py --config.data.modalities="('video','audio')"

The argument names a data set, a method (micu, dcid, cmcm, codis, turn, mmjp; or one of vectors:
mover, gram, pairwise, cmcr, cca), a preset of configs/methods.py, or several of them. Presets but
the default have the authors' optimiser. The table: configs/tables/oscmg.py. What to expect:
docs/results/micu.md.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import parse_argument
from unirep_jax.data.catalog import DATA_SETS

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
METHODS, PRESETS, CODEBOOKS = (SHARED[name] for name in ("METHODS", "PRESETS", "CODEBOOKS"))
CHOICES = SHARED["choices"]("oscmg", "micu")


def get_config(argument: str = "digits_avt") -> ConfigDict:
    dataset, method, preset = parse_argument(argument, *CHOICES)
    facts = DATA_SETS[dataset]
    task = {
        # Of split 1 and 2; (0, 0) stands for a half and three quarters of the classes.
        "known": facts.known,
        "selections": ("honest", "paper"),
        "folds": 3,
        "control": True,  # also evaluate the network untrained and linear CCA
        "continuous": False,  # of a method with a codebook: also before it quantises
        "probe": dict(SHARED["PROBE"]),
    }
    config = SHARED["experiment"]("oscmg", dataset, method, preset, steps=facts.steps, task=task)
    return ConfigDict(config)
