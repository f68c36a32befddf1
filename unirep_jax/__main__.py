"""Command line: unirep-jax COMMAND [ARGUMENTS], which is python -m unirep_jax COMMAND.

A command is a module, which also runs as `python -m MODULE` and takes the same arguments there.
"""

import difflib
import runpy
import sys

from unirep_jax import __version__

# Command: the module whose command line it is, and what it does.
COMMANDS = {
    "train": ("unirep_jax.main", "train and evaluate a method, or continue a run"),
    "sweep": ("unirep_jax.sweep", "several seeds and variants of a configuration"),
    "pretrain": ("unirep_jax.pretrain_encoders", "train the frozen encoders of a configuration"),
    "report": ("unirep_jax.report", "one HTML page and tables about runs and sweeps"),
    "gallery": ("unirep_jax.gallery", "pictures that queries of a run's test part find"),
    "embed": ("unirep_jax.embed", "write a trained model's embeddings"),
    "export": ("unirep_jax.export", "copy a trained model, to give it to somebody"),
    "convert": ("unirep_jax.convert", "released checkpoints of MICU and DCID to safetensors"),
    "extract": ("unirep_jax.data.extract", "pictures, sound, videos and texts to features"),
    "flow": ("unirep_jax.data.extract_flow", "optical flow of clips, as a modality"),
    "prepare": ("unirep_jax.data.prepare", "published features to a folder to train from"),
    "sound_images": ("unirep_jax.data.sound_images", "images, sounds and boxes to a manifest"),
    "aggregate": ("unirep_jax.aggregate", "soft nearest neighbours of one bank in another"),
    "connect": ("unirep_jax.connect", "project, search and evaluate with a connector"),
    "noisy_pairs": ("unirep_jax.tasks.noisy_pairs", "recall over the share of wrong pairs"),
    "information": ("unirep_jax.tasks.oom", "accuracy against known information, a picture"),
    "doctor": ("unirep_jax.doctor", "check packages, devices, memory and folders of this machine"),
}
# Of the extra `train`, which loss kernels do not need, but commands do.
TRAIN_MODULES = ("absl", "ml_collections", "orbax", "tensorboardX", "tqdm", "sklearn", "matplotlib")
USAGE = "usage: unirep-jax COMMAND [ARGUMENTS], with --help for those of a command"


def main(arguments: list[str] | None = None) -> None:
    """Hands over to the module of the command, as `python -m` would."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments or ["--help"])[0], arguments[1:]
    if command in ("--help", "-h", "help"):
        print(_help())
    elif command == "--version":
        print(f"unirep_jax {__version__}")
    elif command in COMMANDS:
        module, _ = COMMANDS[command]
        sys.argv = [f"unirep-jax {command}", *rest]
        # Not `import` and `main()`: a module started as a program handles signals before its slow
        # imports, and declares its flags as those of the program, so that --help lists them.
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except ModuleNotFoundError as error:
            if error.name not in TRAIN_MODULES:
                raise
            sys.exit(f"error: {error}; pip install 'unirep_jax[train]' has it")
    else:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        sys.exit(f"error: no command {command!r}; {meant}")


def _help() -> str:
    rows = [f"  {name:12} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([USAGE, "", *rows, "", "  --version  of this package"])


if __name__ == "__main__":
    main()
