"""Command line: python -m unirep_jax.pretrain_encoders --config=FILE --out=FOLDER.

Trains the frozen encoders that a configuration starts from, and nothing else. Runs that are given
`--config.pretrain.path=FOLDER` read them, so that several machines can share what is trained once:

    python -m unirep_jax.pretrain_encoders --config=configs/oom.py --out=encoders
    python -m unirep_jax.main --config=configs/oom.py --config.pretrain.path=encoders
"""

from pathlib import Path

from unirep_jax.train import signals

if __name__ == "__main__":
    signals.end_at_once()  # first: importing takes seconds

from absl import flags
from ml_collections import config_flags

from unirep_jax import command_line, compile_cache, process_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment that starts from frozen encoders: a file of configs/."
)
_OUT = flags.DEFINE_string("out", None, "Folder that gets a folder for each encoder.")


def main(_: list[str]) -> None:
    # After the flags are read, so that --help and a mistyped flag answer at once.
    from unirep_jax.experiment import FAILURES
    from unirep_jax.ready import load_settled, set_up
    from unirep_jax.terminal import say
    from unirep_jax.train.lock import owned
    from unirep_jax.workdir import ConfigError

    with command_line.answering(FAILURES):
        compile_cache.use_compile_cache()
        config, out = _CONFIG.value, Path(_OUT.value).expanduser()
        if "pretrain" not in config:
            raise ConfigError("--config: this configuration starts from no frozen encoders")
        config.pretrain.path = str(out)
        data, config, _ = load_settled(config)
        with owned(out):
            set_up(config, out, data=data)
        for encoder in sorted(out.glob("*/model/model.json")):
            say(str(encoder.parent))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "out"])
    command_line.start(process_flags.together(main))
