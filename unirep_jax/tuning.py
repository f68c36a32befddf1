"""Settings chosen on held-out training examples by successive halving; `--config.search=N`.

N settings are drawn, the configuration's own first among them. All are trained for a part of the
steps, the better half for twice as many, and so on, until two are trained for all of them (Jamieson
and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS
2016). Every trial is a run of its own, so a search that was ended goes on where it was; no test
example takes part in any of them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.measurements import Measurement, read_measurements
from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.experiment import run
from unirep_jax.identity import flat
from unirep_jax.ready import load_settled
from unirep_jax.tasks import TASKS
from unirep_jax.terminal import say
from unirep_jax.train.processes import own_folder
from unirep_jax.workdir import ConfigError

HELD_OUT = 0.25  # of the training examples, on which trials are compared
LONGEST_HALVING = 3  # trials have an eighth of the steps at least
PHASES = ("train.warmup", "method.warm_start")  # counted in steps: as much shorter as the training


class Trial(NamedTuple):
    """A setting that was tried. settings: dotted, of those that differ; steps: of its training;
    score: mean of the task's decisive metrics over what was measured, higher = better."""

    rung: int
    number: int
    settings: dict[str, Any]
    steps: int
    score: float


def tuned(config: ConfigDict, folder: Path) -> ConfigDict:
    """The configuration with the best of `config.search` settings of `config.space`.

    Args:
      config: any; without `search` it is returned as it is.
      folder: gets a run per trial, search.jsonl and search.md.

    Raises:
      ConfigError: nothing can be searched; or as `experiment.run`, of a trial.
    """
    if not config.get("search"):
        return config
    _, config, _ = load_settled(config)
    _check(config)
    candidates = list(enumerate(draw_settings(config, config.search, config.seed)))
    trials: list[Trial] = []
    halvings = min(LONGEST_HALVING, math.ceil(math.log2(config.search)) - 1)
    for rung in range(halvings + 1):
        scored = []
        for place, (number, settings) in enumerate(candidates, 1):
            say(
                f"== search, round {rung + 1} of {halvings + 1}, "
                f"setting {place} of {len(candidates)}: {described(settings)}"
            )
            trial = _try(config, settings, number, rung, halvings, folder)
            trials.append(trial)
            scored.append((trial.score, -number, settings))
        scored.sort(key=lambda found: found[:2], reverse=True)
        kept = scored[: max(2, math.ceil(len(scored) / 2))]
        candidates = [(-number, settings) for _, number, settings in kept]
    best = candidates[0][1]
    _write(own_folder(folder), trials)
    say(f"== search: chose {described(best)}")
    return with_settings(config, best)


def draw_settings(config: ConfigDict, count: int, seed: int) -> list[dict[str, Any]]:
    """The configuration's own settings, {}, and count − 1 others of its space, none twice."""
    space = flat(config.space.to_dict())
    present = flat(config.to_dict())
    for name in space:
        if name not in present:
            raise ConfigError(f"space.{name}: the configuration has no such setting")
    random = np.random.default_rng(seed)
    drawn: list[dict[str, Any]] = [{}]
    most = math.prod(len(values) for values in space.values())
    for _ in range(100 * count):
        if len(drawn) == min(count, most):
            break
        found = {name: values[random.integers(len(values))] for name, values in space.items()}
        found = {name: value for name, value in found.items() if value != present[name]}
        if found not in drawn:
            drawn.append(found)
    return drawn


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy with these dotted settings."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(settings))
    return changed


def described(settings: Mapping[str, Any]) -> str:
    """Settings as the flags that make them."""
    return " ".join(f"--config.{n}={v}" for n, v in settings.items()) or "the configuration's own"


def score(
    measurements: Sequence[Measurement], method: str, headline: Mapping[str, Sequence[str]]
) -> float:
    """The mean over the parts of a task of the first of its headline metrics, −∞ without any.

    Args:
      measurements: of one run.
      method: whose rows count.
      headline: metrics by part of the task, the decisive one first.
    """
    parts = []
    for experiment, metrics in headline.items():
        rows = [m for m in measurements if (m.experiment, m.method) == (experiment, method)]
        measured = {m.metric for m in rows if not math.isnan(m.value)}
        decisive = next((name for name in metrics if name in measured), None)
        values = [m.value for m in rows if m.metric == decisive and not math.isnan(m.value)]
        if values:
            parts.append(float(np.mean(values)))
    return float(np.mean(parts)) if parts else -math.inf


def _check(config: ConfigDict) -> None:
    if config.search < 2:
        raise ConfigError(f"search={config.search} settings; at least 2, or 0 for no search")
    if "space" not in config or not flat(config.space.to_dict()):
        raise ConfigError(f"search={config.search}: the configuration has no `space` to search")
    if "data" not in config or config.experiment == "transfer":
        raise ConfigError(
            f"search={config.search}: {config.experiment} is evaluated on other data sets than it "
            "is trained on, so held-out training examples say nothing about them"
        )
    if not config.steps:
        raise ConfigError(f"search={config.search}: {config.method.name} is not trained by steps")


def _try(
    config: ConfigDict,
    settings: dict[str, Any],
    number: int,
    rung: int,
    halvings: int,
    folder: Path,
) -> Trial:
    trial = with_settings(config, settings)
    trial.search = 0
    _shorten(trial, halvings - rung)
    with trial.unlocked():
        trial.data.held_out = HELD_OUT
    for extra in ("control", "retrace", "continuous"):  # what is measured besides the method
        if extra in trial.task:
            trial.task[extra] = False
    if "pretrain" in trial:  # all trials start from the same frozen encoders
        trial.pretrain.path = str(folder / "pretrain")
    workdir = run(trial, folder / f"round{rung}" / f"setting{number}", trial=True)
    found = read_measurements(workdir / "results.jsonl")
    headline = TASKS[config.experiment].vocabulary.headline
    return Trial(rung, number, settings, trial.steps, score(found, trial.method.name, headline))


def _shorten(trial: ConfigDict, halvings: int) -> None:
    """Halves the training so many times, and the phases that it begins with."""
    fused = trial.train.get("fused", 1)
    trial.steps = max(1, (trial.steps >> halvings) // fused) * fused
    present = flat(trial.to_dict())
    phases = {name: present[name] >> halvings for name in PHASES if name in present}
    trial.update_from_flattened_dict(phases)


def _write(folder: Path, trials: Sequence[Trial]) -> None:
    """Everything that was tried, for programs and for people."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(trial._asdict()) + "\n" for trial in trials)
    replace_file(folder / "search.jsonl", lambda stream: stream.write(lines.encode()))
    table = markdown_table(["setting", "round", "steps", "score"], [*_rows(trials)], names=1)
    replace_file(folder / "search.md", lambda stream: stream.write(table.encode()))


def _rows(trials: Sequence[Trial]) -> Iterator[list[str]]:
    for trial in sorted(trials, key=lambda t: (-t.rung, -t.score)):
        numbers = [str(trial.rung + 1), str(trial.steps), f"{100 * trial.score:.1f}"]
        yield [described(trial.settings), *numbers]
