"""The folder of a run: its name, and the configuration that it belongs to."""

import hashlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.data.mapped import replace_file


class ConfigError(ValueError):
    """A setting, or a combination of settings, that cannot be run."""


def default_workdir(config: ConfigDict) -> Path:
    """runs/<experiment>-<data>-<method>-seed<n>-<hash of the rest>."""
    digest = hashlib.sha256(json.dumps(resolved(config), sort_keys=True).encode()).hexdigest()[:8]
    name = f"{config.experiment}-{config.data.name}-{config.method.name}-seed{config.seed}-{digest}"
    return Path("runs") / name


def resolved(config: ConfigDict) -> dict:
    return json.loads(json.dumps(config.to_dict()))


def check_claim(workdir: Path, config: ConfigDict) -> bool:
    """Whether the folder is already this run's.

    Raises:
      ConfigError: it is of another, naming the first setting that differs, or config.json is
        damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return False
    try:
        found = flat(dict(json.loads(path.read_text())))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is not the configuration of a run: {error}") from error
    here = flat(resolved(config))
    different = sorted(k for k in found.keys() | here.keys() if found.get(k) != here.get(k))
    if different:
        key = different[0]
        raise ConfigError(
            f"{path} is of another run: {key} is {found.get(key)!r} there and "
            f"{here.get(key)!r} here ({len(different)} settings differ); "
            "give another --workdir"
        )
    return True


def claim(workdir: Path, config: ConfigDict) -> None:
    """Writes config.json, or makes sure that the one there is of this run.

    Raises:
      ConfigError: as `check_claim`.
    """
    if check_claim(workdir, config):
        return
    workdir.mkdir(parents=True, exist_ok=True)
    content = json.dumps(resolved(config), indent=2) + "\n"
    replace_file(workdir / "config.json", lambda stream: stream.write(content.encode()))


def flat(tree: dict, prefix: str = "") -> dict:
    """Nested settings under dotted names."""
    result = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        result |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return result
