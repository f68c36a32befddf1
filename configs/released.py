"""The released weights of MICU and DCID, evaluated as they are: nothing but probes is trained.

    python -m unirep_jax.main --config=configs/released.py[:micu] \\
      --config.method.weights=MICU.safetensors --config.task.sets="('features/ave',)"
    python -m unirep_jax.main --config=configs/released.py:dcid,oscmg \\
      --config.method.weights=DCID.safetensors --config.data.path=my_features/

The argument names the weights (micu, dcid), the task, or both. `transfer`, the default, evaluates
on every folder of task.sets by what it holds, as configs/transfer.py does; `oscmg` on
one set of features of your own, all classes known and some unknown. docs/released_weights.md says
how files of weights and features are made. Probes have the authors' rate and no decay; ≠ they
learn without dropout in what they see. We do not have these weights: no number has been compared.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import Choice, parse_argument
from unirep_jax.methods import Released

WEIGHTS = {"micu": Released.micu(), "dcid": Released.dcid()}
CHOICES = (
    Choice("weight", tuple(WEIGHTS), "micu"),
    Choice("task", ("transfer", "oscmg"), "transfer"),
)
PROBE = {"hidden": 256, "steps": 600, "batch_size": 80, "lr": 4e-4, "weight_decay": 0.0}


def get_config(argument: str = "micu") -> ConfigDict:
    weights, task = parse_argument(argument, *CHOICES)
    path = Path(__file__).with_name(f"{task}.py")
    config = runpy.run_path(str(path))["get_config"]("features" if task == "oscmg" else "micu")
    config.steps = 0
    config.method = ConfigDict(
        {"name": f"{weights}_released", **dataclasses.asdict(WEIGHTS[weights])}
    )
    config.task.probe = ConfigDict(PROBE)
    if task == "transfer":
        config.task.event_probe = ConfigDict(PROBE)
        config.data.name = "published_shapes"  # in place of the data set that others train on
        config.task.control = False  # linear rows would be fitted to nothing
    return config
