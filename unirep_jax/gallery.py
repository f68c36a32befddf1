"""A gallery of a run: queries of the test part beside the pictures that they find.

    python -m unirep_jax.gallery RUN --query=speech_fr --pictures=image

The run was trained on what `unirep_jax.data.extract` has made of files, which are still where they
were. The picture goes to figures/ of the run, where the report finds it. Queries are found among
all test examples; a green frame is the query's own picture, a blue one is of its class.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.data.catalog import load_data
from unirep_jax.data.extract.extractor import read_card
from unirep_jax.data.extract.manifest import MANIFEST, Manifest, open_manifest
from unirep_jax.data.extract.media import read_image
from unirep_jax.data.files import read_text, user_path
from unirep_jax.evaluation.figures import spread
from unirep_jax.evaluation.retrieval_figures import Answer, gallery
from unirep_jax.model_files import load_run

QUERIES, ANSWERS = 6, 6
_CONFIG_BYTES = 1 << 22


def draw_gallery(
    run: str | Path, query: str, pictures: str, *, queries: int = QUERIES, answers: int = ANSWERS
) -> Path:
    """Draws the pictures that some test queries find; returns the file.

    Args:
      run: folder of a finished run.
      query: modality of the queries; they are spread over the test part.
      pictures: modality whose column in the manifest holds files of pictures.
      queries, answers: how many rows, and how many pictures in each.

    Raises:
      ValueError: the data are not of files, or a modality is not there or holds no pictures.
      EncoderError, FeatureFileError, ManifestError, MediaError, ModelFileError: something cannot be
        read.
    """
    folder = user_path(run)
    model, (data, manifest, columns) = load_run(folder), _read_set(folder)
    for modality in (query, pictures):
        if modality not in data.modalities:
            raise ValueError(f"no modality {modality!r}; the run has {', '.join(data.modalities)}")
    column = _column_of_pictures(manifest, columns, pictures)
    there = ~data.train & data.present[query] & data.present[pictures]
    rows = np.flatnonzero(there)
    if not len(rows):
        raise ValueError(f"no test example has both {query} and {pictures}")
    asked = spread(rows, queries)
    sides = data.features[query][asked], data.features[pictures][rows]
    found = model.search(query, sides[0], pictures, sides[1], k=min(answers, len(rows)))
    files, titles = [*manifest.values(column)], _titles(manifest)
    lines = [
        (titles[q], [_answer(manifest.root / files[i], data, q, i) for i in line])
        for q, line in zip(asked, rows[found.index], strict=True)
    ]
    path = folder / "figures" / f"gallery_{query}_{pictures}.png"
    path.parent.mkdir(exist_ok=True)
    gallery(path, lines, title=f"{query} → {pictures}: {len(rows)} test examples, {model.name}")
    return path


def _read_set(run: Path) -> tuple[FeatureSet, Manifest, dict[str, str]]:
    """The feature set of a run, the manifest of its rows, and which column a modality is of."""
    config = json.loads(read_text(run / "config.json", _CONFIG_BYTES))
    source = user_path(config["data"]["path"])
    if not (source / MANIFEST).exists():
        raise ValueError(f"{source}: no {MANIFEST}, so it was not extracted from files")
    data = load_data(**config["data"], seed=config["seed"])
    card = read_card(source)
    manifest = open_manifest(source / MANIFEST, root=Path(card["root"]))
    if len(manifest) != len(data.label):
        raise ValueError(
            f"{run}: trained on {len(data.label)} of {len(manifest)} examples of {source}; "
            "a gallery needs all of them"
        )
    return data, manifest, card["columns"]


def _column_of_pictures(manifest: Manifest, columns: dict[str, str], modality: str) -> str:
    column = columns.get(modality, "")
    if manifest.media.get(column) != "image":
        known = ", ".join(m for m, c in columns.items() if manifest.media.get(c) == "image")
        raise ValueError(f"--pictures={modality}: there are pictures of {known or 'nothing'}")
    return column


def _titles(manifest: Manifest) -> list[str]:
    """What each example is called: its text where the manifest has one, else its number."""
    texts = [c for c, medium in manifest.media.items() if medium == "text"]
    return [*manifest.values(texts[0])] if texts else [str(i) for i in range(len(manifest))]


def _answer(file: Path, data: FeatureSet, query: int, row: int) -> Answer:
    same_class = data.label[query] == data.label[row] >= 0
    return Answer(np.asarray(read_image(file)), row == query, bool(same_class))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.gallery", description="Draw what test queries find, as pictures."
    )
    parser.add_argument("run", help="folder of a finished run on an extracted set")
    parser.add_argument("--query", required=True, help="modality of the queries")
    parser.add_argument("--pictures", required=True, help="modality of pictures to find")
    parser.add_argument("--queries", type=int, default=QUERIES, help="rows")
    parser.add_argument("--answers", type=int, default=ANSWERS, help="pictures of each row")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        for flag in ("queries", "answers"):
            if getattr(options, flag) < 1:
                raise ValueError(f"--{flag}={getattr(options, flag)} is not at least 1")
        path = draw_gallery(
            options.run,
            options.query,
            options.pictures,
            queries=options.queries,
            answers=options.answers,
        )
    except (ValueError, OSError) as error:  # those named above are ValueErrors
        sys.exit(f"error: {error}")
    print(path)


if __name__ == "__main__":
    main()
