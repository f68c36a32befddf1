"""Runs variants × seeds of one configuration and writes one table with means and 95 % intervals.

python -m unirep_jax.sweep --config=configs/oscmg.py:utd_mhad --seeds=5 --workdir=runs/utd
python -m unirep_jax.sweep --config=configs/oscmg.py --variants=configs/ablations.py:losses ...
"""

import dataclasses
import runpy
from pathlib import Path

from unirep_jax.train import signals

if __name__ == "__main__":
    signals.end_at_once()  # first: importing takes seconds

from absl import flags
from ml_collections import ConfigDict, config_flags

from unirep_jax import command_line, compile_cache, process_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration that is varied.")
_VARIANTS = flags.DEFINE_string(
    "variants",
    None,
    "FILE:NAME, where FILE defines get_variants(NAME) -> {title: {setting: value}}; "
    "settings may be a function of the configuration that makes them.",
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds of each variant, from 0.")
_COSTS = flags.DEFINE_bool(
    "costs", False, "Train nothing: tabulate parameters, arithmetic, memory and time of a step."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep; each run has one inside.")


def sweep(config: ConfigDict, variants: dict[str, dict], *, seeds: int, workdir: Path) -> str:
    """Runs what is not finished yet, then tabulates everything under the variants' names.

    Args:
      config: settings common to all.
      variants: per title, what `varied` takes.
      seeds: of each variant, 0 … seeds − 1.
      workdir: gets <title>/seed<n>/ per run, results.jsonl and results.md.

    Returns:
      Means, extremes and verdicts as text; results.md has every number and paired differences.

    Raises:
      ConfigError: settings would be searched on a split of their own for every seed.
    """
    from unirep_jax.data.mapped import replace_file
    from unirep_jax.data.safe_text import file_name
    from unirep_jax.evaluation.measurements import read_measurements, write_measurements
    from unirep_jax.experiment import run
    from unirep_jax.tasks import TASKS
    from unirep_jax.tasks.results import printed_results, results_page
    from unirep_jax.train.processes import own_folder
    from unirep_jax.tuning import tuned
    from unirep_jax.workdir import ConfigError

    if config.get("search") and config.data.get("redraw"):
        raise ConfigError(
            "--config.search with --config.data.redraw=True: seed 0 would choose settings on test "
            "examples of the others"
        )
    measurements, titles = [], dict.fromkeys(variants)
    for place, (title, settings) in enumerate(variants.items()):
        row = workdir / file_name(title.replace("/", "-"))
        found = tuned(varied(config, settings), row / "search")  # once, for all seeds
        for seed in range(seeds):
            single = found.copy_and_resolve_references()
            single.seed = seed
            if "pretrain" in single:  # variants share those of their seed
                single.pretrain.path = str(workdir / "pretrain")
            if "control" in single.task:
                single.task.control = place == 0  # one control serves all variants
            print(f"== {title}, seed {seed} of {seeds}", flush=True)
            folder = run(single, row / f"seed{seed}")
            for m in read_measurements(folder / "results.jsonl"):
                name, mark, score = m.method.partition(", ")
                if name == single.method.name:  # a further score of the same network: NAME, SCORE
                    measurements.append(dataclasses.replace(m, method=title + mark + score))
                    titles.setdefault(title + mark + score)
                elif place == 0:
                    measurements.append(m)
    task, made = TASKS[config.experiment], own_folder(workdir)
    page = results_page(task, measurements, [*titles])
    replace_file(made / "results.md", lambda stream: stream.write(page.encode()))
    write_measurements(made / "results.jsonl", measurements)
    return printed_results(task, measurements, [*titles])


def varied(config: ConfigDict, settings: dict) -> ConfigDict:
    """A copy with these dotted settings; a section given as a dictionary replaces the whole one."""
    single = config.copy_and_resolve_references()
    with single.unlocked():
        for name, section in settings.items():
            if isinstance(section, dict):
                place, _, last = name.rpartition(".")
                (single[place] if place else single)[last] = ConfigDict(section)
        plain = {k: v for k, v in settings.items() if not isinstance(v, dict)}
        single.update_from_flattened_dict(plain)
    return single


def main(_: list[str]) -> None:
    from unirep_jax.experiment import FAILURES
    from unirep_jax.terminal import say
    from unirep_jax.train.lock import owned

    with command_line.answering(FAILURES):
        config, workdir = _CONFIG.value, Path(_WORKDIR.value).expanduser()
        variants = _variants(config)
        compile_cache.use_compile_cache()
        with owned(workdir):
            if _COSTS.value:
                say(_write_costs(config, variants, workdir))
                return
            say(sweep(config, variants, seeds=_SEEDS.value, workdir=workdir))


def _write_costs(config: ConfigDict, variants: dict[str, dict], workdir: Path) -> str:
    """The table of costs, which costs.md of the folder gets, too."""
    from unirep_jax.costs import cost_table
    from unirep_jax.data.mapped import replace_file

    table = cost_table(config, variants)
    replace_file(workdir / "costs.md", lambda stream: stream.write(table.encode()))
    return table


def _variants(config: ConfigDict) -> dict[str, dict]:
    """Those that the flag names; without it, the configuration alone."""
    from unirep_jax.identity import flat
    from unirep_jax.workdir import ConfigError

    if not _VARIANTS.value:
        return {config.method.name: {}}
    path, _, name = _VARIANTS.value.partition(":")
    try:
        variants = runpy.run_path(path)["get_variants"](name)
    except KeyError as error:
        raise ConfigError(f"--variants: {path} defines no {error}") from error
    except (ValueError, SyntaxError, OSError) as error:
        raise ConfigError(f"--variants={_VARIANTS.value}: {error}") from error
    variants = {
        title: settings(config) if callable(settings) else settings
        for title, settings in variants.items()
    }
    for settings in variants.values():
        names = {*flat(config.to_dict())}
        names |= {name.rpartition(".")[0] for name in names} | {*config}  # whole sections
        unknown = settings.keys() - names
        if unknown:
            raise ConfigError(
                f"--variants={_VARIANTS.value} sets {sorted(unknown)[0]!r}, which does not exist"
            )
    return variants


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.start(process_flags.together(main))
