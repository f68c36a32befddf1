"""The folder of a run: its name, the configuration it belongs to, and whether it is finished."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unirep_jax.data.mapped import replace_file
from unirep_jax.identity import difference, flat, plain, resolved, training_settings
from unirep_jax.terminal import say


class ConfigError(ValueError):
    """A setting, or a combination of settings, that cannot be run."""


def default_workdir(config: ConfigDict, evaluation: tuple[str, ...] = ()) -> Path:
    """runs/<experiment>-<data>-<method>-seed<n>-<hash of the rest of what training depends on>.

    Args:
      evaluation: dotted settings, or sections, that training does not depend on.
    """
    settings = training_settings(config, evaluation)
    settings["data.path"] = config.data.get("path", "")  # data sets of one name differ in it
    if run := config.get("start", {}).get("run"):
        settings["start.run"] = run
    if config.get("search"):  # which trains other settings than these
        settings["search"] = [config.search, flat(config.space.to_dict())]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{config.experiment}-{config.data.name}-{config.method.name}-seed{config.seed}-{digest}"
    return Path("runs") / name


def verify_config(workdir: Path, config: ConfigDict, evaluation: tuple[str, ...] = ()) -> bool:
    """Whether the folder is of a run that trains what `config` trains; False for none.

    Raises:
      ConfigError: it is of another, naming the first setting that differs, or config.json is
        damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return False
    try:
        found = ConfigDict(dict(json.loads(path.read_text("utf-8"))))
        there = training_settings(found, evaluation)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is not the configuration of a run: {error}") from error
    different = difference(there, training_settings(config, evaluation))
    if different:
        raise ConfigError(f"{path} is of another run: {different}; give another --workdir")
    return True


def write_config(workdir: Path, config: ConfigDict, evaluation: tuple[str, ...] = ()) -> None:
    """Writes config.json into a folder that is new, or of the same training.

    Raises:
      ConfigError: as `verify_config`.
    """
    verify_config(workdir, config, evaluation)
    workdir.mkdir(parents=True, exist_ok=True)
    content = json.dumps(resolved(config), indent=2) + "\n"
    path = workdir / "config.json"
    if not path.exists() or path.read_text("utf-8") != content:
        replace_file(path, lambda stream: stream.write(content.encode()))


def seal(folder: Path, of: dict[str, Any]) -> None:
    """Writes complete.json: results.jsonl is whole, and of these facts.

    Args:
      folder: with results.jsonl.
      of: what the results depend on: settings, data.
    """
    content = (folder / "results.jsonl").read_bytes()
    text = json.dumps(_sealed(content) | {"of": of}, indent=2) + "\n"
    replace_file(folder / "complete.json", lambda stream: stream.write(text.encode()))


def is_finished(folder: Path, of: dict[str, Any] | None = None) -> bool:
    """Whether results.jsonl is all that was measured, by count and hash.

    Args:
      of: the facts that it has to be of, as they were given to `seal`; None for any.
    """
    try:
        found = dict(json.loads((folder / "complete.json").read_text("utf-8")))
        content = (folder / "results.jsonl").read_bytes()
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    facts = found.pop("of", None)
    same = of is None or facts == plain(of)
    return same and found == _sealed(content) and found["count"] > 0


def set_other_results_aside(folder: Path, of: dict[str, Any]) -> None:
    """Moves finished results of the same training and other facts into earlier/<their hash>/.

    Args:
      of: the facts of the results to come; `training` are those that must be the same.

    Raises:
      ConfigError: the results are of another training, naming what differs.
    """
    try:
        there = dict(json.loads((folder / "complete.json").read_text("utf-8")))["of"]
        training, settings = dict(there["training"]), dict(there["evaluation"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return
    different = difference(training, plain(of["training"]))
    if different:
        raise ConfigError(
            f"{folder} has results of another run: {different}; give another --workdir"
        )
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    place = folder / "earlier" / digest
    changed = difference(settings, plain(of["evaluation"]))
    say(f"{changed or 'its results are not whole'}: evaluating again; earlier results: {place}")
    place.mkdir(parents=True, exist_ok=True)
    for name in ("complete.json", "results.jsonl", "results.md"):  # the seal first
        if (folder / name).exists():
            (folder / name).replace(place / name)


def _sealed(content: bytes) -> dict[str, Any]:
    return {"count": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}
