"""`config.start.run`: the run whose weights training starts from."""

from ml_collections import ConfigDict

from unirep_jax.model import Model
from unirep_jax.model_files import load_run, weights_hash
from unirep_jax.train.start import Start


def with_start(config: ConfigDict) -> ConfigDict:
    """The configuration with the hash of the weights that it starts from, where it names a run.

    Settings of the method that it leaves open are those of that run.

    Raises:
      ModelFileError: there is no model.
    """
    run = config.get("start", {}).get("run", "")
    if not run:
        return config
    config = config.copy_and_resolve_references()
    settings = load_run(run).method.settings()
    for name, value in config.method.items():
        if value is None and name in settings:
            config.method[name] = settings[name]
    config.start.sha256 = weights_hash(run)
    return config


def start_of(config: ConfigDict) -> Start | None:
    """What training starts from; None where the configuration names no run.

    Raises:
      ModelFileError: there is no model.
      ValueError: it stands on frozen encoders, which belong to its data.
    """
    run = config.get("start", {}).get("run", "")
    if not run:
        return None
    model: Model = load_run(run)
    if any(way.encoder for through in model.ways.values() for way in through):
        raise ValueError(
            f"start.run: {run} stands on frozen encoders; only runs without can be continued"
        )
    return Start(run, model.params, model.state, model.shapes, model.method.settings())
