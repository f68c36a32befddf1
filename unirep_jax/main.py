"""Command line: python -m unirep_jax.main --config=configs/oscmg.py [--config.KEY=VALUE ...]."""

import time
from pathlib import Path

from unirep_jax.train import signals

_STARTED = time.perf_counter()

if __name__ == "__main__":
    signals.end_at_once()  # first: importing takes seconds

from absl import flags
from ml_collections import config_flags

from unirep_jax import command_line, compile_cache, process_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a file of configs/, with its argument after a colon."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; by default a name under runs/ made of the configuration."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print settings, shapes, parameters and what a step costs; train nothing."
)
_REEVALUATE = flags.DEFINE_bool("reevaluate", False, "Evaluate a finished run again.")


def main(_: list[str]) -> None:
    # After the flags are read, so that --help and a mistyped flag answer at once.
    from unirep_jax.dry_run import dry_run
    from unirep_jax.experiment import FAILURES, evaluation_sections, run
    from unirep_jax.terminal import say
    from unirep_jax.tuning import tuned
    from unirep_jax.workdir import default_workdir

    with command_line.answering(FAILURES):
        compile_cache.use_compile_cache()
        workdir = Path(_WORKDIR.value).expanduser() if _WORKDIR.value else None
        if _DRY_RUN.value:
            say(dry_run(_CONFIG.value, importing=time.perf_counter() - _STARTED))
            return
        config = _CONFIG.value
        workdir = workdir or default_workdir(config, evaluation_sections(config))
        run(tuned(config, workdir / "search"), workdir, reevaluate=_REEVALUATE.value)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    command_line.start(process_flags.together(main))
