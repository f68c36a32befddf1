"""Command line: python -m unirep_jax.export RUN --out=FOLDER [--released=FILE.safetensors].

Copies the trained model of a run into a folder that can be given to somebody: model.json (method,
settings, shapes, hash) and weights.safetensors. Whoever gets it reads it with `load_run`, which
refuses weights whose hash is another. `--released` also writes the encoders and the codebook of a
published MICU (`:micu,official`) under the names that its authors' code has.
"""

import argparse
import sys
from pathlib import Path

from unirep_jax.data.files import user_path
from unirep_jax.data.mapped import replace_file
from unirep_jax.methods import MICU
from unirep_jax.model import Model
from unirep_jax.model_files import ModelFileError, load_run, save_model
from unirep_jax.models.published_weights import released_tensors


def write_released(model: Model, path: Path) -> Path:
    """The file that `models.released_weights` reads, of a trained network of the authors' layers.

    Raises:
      ModelFileError: the model is of another network, or its modalities or widths are others.
    """
    from safetensors.numpy import save

    if not isinstance(model.method, MICU) or not model.method.published:
        raise ModelFileError(f"--released: {model.name} has not the network of MICU's authors")
    try:
        tensors = released_tensors(model.params["network"], model.state["codebook"])
    except ValueError as error:
        raise ModelFileError(f"--released: {error}") from error
    replace_file(path, lambda stream: stream.write(save(tensors)))
    return path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.export", description="Copy a trained model, checked by its hash."
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of an exported model")
    parser.add_argument("--out", required=True, type=Path, help="a folder without a model")
    parser.add_argument("--released", help="a safetensors file under the authors' names")
    options = parser.parse_args(arguments)
    try:
        if options.released:
            print(write_released(load_run(options.run), user_path(options.released)))
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
