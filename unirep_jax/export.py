"""Command line: python -m unirep_jax.export RUN --out=FOLDER.

Copies the trained model of a run into a folder that can be given to somebody: model.json (method,
settings, shapes, hash) and weights.safetensors. Whoever gets it reads it with `load_run`, which
refuses weights whose hash is another.
"""

import argparse
import sys
from pathlib import Path

from unirep_jax.model_files import ModelFileError, load_run, save_model


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.export", description="Copy a trained model, checked by its hash."
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of an exported model")
    parser.add_argument("--out", required=True, type=Path, help="a folder without a model")
    options = parser.parse_args(arguments)
    try:
        out = options.out.expanduser()
        if (out / "model.json").exists():
            raise ModelFileError(f"{out} holds a model already")
        save_model(load_run(options.run), out)
        for name in ("model.json", "weights.safetensors"):
            print(out / name)
    except (ModelFileError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
