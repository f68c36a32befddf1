"""The released weights of MICU and DCID, judged as they are: nothing but probes is trained.

    python -m unirep_jax.main --config=configs/released.py[:micu] \\
      --config.method.weights=MICU.safetensors --config.protocol.sets="('features/ave',)"
    python -m unirep_jax.main --config=configs/released.py:dcid,oscmg \\
      --config.method.weights=DCID.safetensors --config.data.path=my_features/

The argument names the weights (micu, dcid), how they are judged, or both. `transfer`, the default,
judges on every folder of protocol.sets by what it holds, as configs/transfer.py does; `oscmg` on
one set of features of your own, all classes known and some unknown. docs/released_weights.md says
how files of weights and features are made. Probes have the authors' rate and no decay; ≠ they
learn without dropout in what they see. We do not have these weights: no number has been compared.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.methods import Released

WEIGHTS = {"micu": Released.micu(), "dcid": Released.dcid()}
PROTOCOLS = ("transfer", "oscmg")
PROBE = {"hidden": 256, "steps": 600, "batch_size": 80, "lr": 4e-4, "weight_decay": 0.0}


def get_config(argument: str = "micu") -> ConfigDict:
    weights, protocol = _parse(argument)
    path = Path(__file__).with_name(f"{protocol}.py")
    config = runpy.run_path(str(path))["get_config"]("features" if protocol == "oscmg" else "micu")
    config.steps = 0
    config.method = ConfigDict({
        "name": f"{weights}_released", **dataclasses.asdict(WEIGHTS[weights])
    })  # fmt: skip
    config.protocol.probe = ConfigDict(PROBE)
    if protocol == "transfer":
        config.protocol.event_probe = ConfigDict(PROBE)
        config.data.name = "published_shapes"  # in place of the data set that others train on
    else:
        config.protocol.control = False  # there is no untrained network
    return config


def _parse(argument: str) -> tuple[str, str]:
    words = argument.split(",")
    weights = [w for w in words if w in WEIGHTS] or ["micu"]
    protocols = [w for w in words if w in PROTOCOLS] or ["transfer"]
    if len(weights) + len(protocols) != 2 or not {*words} <= {*WEIGHTS, *PROTOCOLS}:
        raise ValueError(
            f"{argument!r} is not WEIGHTS, PROTOCOL or both; weights: {', '.join(WEIGHTS)}; "
            f"protocols: {', '.join(PROTOCOLS)}"
        )
    return weights[0], protocols[0]
