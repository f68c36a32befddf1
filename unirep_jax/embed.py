"""Command line: python -m unirep_jax.embed RUN --data=FILE --out=BANK.

Writes the embeddings of a trained model as banks (docs/banks.md): one per modality of the data, the
modality before the ending of its name where there are several. Examples stream through the device,
so neither side has to fit into memory.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unirep_jax.data import FeatureFileError, FeatureSet, load_features
from unirep_jax.data.banks import write_bank
from unirep_jax.data.catalog import DATA_SETS, load_data
from unirep_jax.model import BATCH, Model
from unirep_jax.model_files import ModelFileError, load_run
from unirep_jax.progress_bar import Bar


def embed_file(
    model: Model, data: FeatureSet, out: Path, *, modality: str = "", batch_size: int = BATCH
) -> list[Path]:
    """Writes a bank for each modality that model and data share, or for the one named.

    Rows are the examples of the data in their order; of those that lack the modality there is none,
    and `<bank>.rows.npy` holds the numbers of the others.

    Raises:
      ValueError: the modality is not there, or has another shape than in training.
      FeatureFileError: an example has no direction to embed, or the bank cannot be written.
    """
    shared = [m for m in data.modalities if m in model.modalities]
    chosen = [modality] if modality else shared
    if not {*chosen} <= {*shared} or not chosen:
        names = ", ".join(model.modalities), ", ".join(data.modalities)
        raise ValueError(f"modality {modality!r}: the model has {names[0]}, the data {names[1]}")
    written = []
    for m in chosen:
        path = out if len(chosen) == 1 else out.with_name(f"{out.stem}_{m}{out.suffix}")
        rows = np.flatnonzero(data.present[m])
        about = f"{m} of {data.name} by {model.name}"
        blocks = _blocks(model, m, data.features[m], rows, batch_size)
        write_bank(path, blocks, name=path.stem, about=about)
        if len(rows) < len(data.label):
            np.save(path.with_suffix(".rows.npy"), rows)
        written.append(path)
    return written


def _blocks(
    model: Model, modality: str, features: np.ndarray, rows: np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    """Unit vectors of these rows, a block at a time, with a bar that says when it will end."""
    block = 16 * batch_size
    with Bar(f"embed {modality}", len(rows), "examples") as bar:
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            yield model.embed(modality, features[part], batch_size=batch_size)
            bar.update(len(part))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.embed", description="Write a trained model's embeddings."
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of an exported model")
    parser.add_argument("--data", required=True, help="feature file or folder (docs/features.md)")
    parser.add_argument("--set", default="features", choices=sorted(DATA_SETS), help="its format")
    parser.add_argument("--out", required=True, type=Path, help="the bank, a name ending in .npy")
    parser.add_argument("--modality", default="", help="the only one to embed")
    parser.add_argument("--batch_size", type=int, default=BATCH, help="examples at a time")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        if options.batch_size < 1:
            raise ValueError(f"--batch_size={options.batch_size} is not at least 1")
        model = load_run(options.run)
        data = (
            load_features(options.data)
            if options.set == "features"
            else load_data(options.set, options.data)
        )
        out = options.out.expanduser()
        for path in embed_file(
            model, data, out, modality=options.modality, batch_size=options.batch_size
        ):
            print(path)
    except (ModelFileError, FeatureFileError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
