"""Command line: python -m unirep_jax.connect COMMAND ..., with embedding banks as input and output.

Commands are project, search, retrieve, classify and localize; docs/connect.md describes them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from unirep_jax.connect import load, search
from unirep_jax.connect.evaluate import classification, localization, retrieval
from unirep_jax.data import FeatureFileError
from unirep_jax.data.archive import Archive, load_array
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.tables import markdown_table


def _project(options: argparse.Namespace) -> None:
    bank = open_bank(options.bank)
    projected = load(options.connector).project(
        options.space, options.modality, bank.embeddings, batch_size=options.batch_size
    )
    about = f"{bank.name} projected by {Path(options.connector).name}"
    write_bank(options.out, projected, name=Path(options.out).stem, about=about)
    print(f"{options.out}: {projected.shape[0]} unit vectors of {projected.shape[1]} dimensions")


def _search(options: argparse.Namespace) -> None:
    queries, items = (open_bank(path).embeddings for path in (options.queries, options.items))
    found = search(queries, items, k=options.k)
    content = {"index": found.index, "score": found.score}
    replace_file(Path(options.out), lambda stream: np.savez(stream, **content))
    print(f"{options.out}: the best {options.k} of {len(items)} items for {len(queries)} queries")


def _retrieve(options: argparse.Namespace) -> None:
    first, second = (open_bank(path).embeddings for path in (options.first, options.second))
    label = None if options.label is None else load_array(options.label)
    _print("direction", retrieval(first, second, label))


def _classify(options: argparse.Namespace) -> None:
    items = open_bank(options.items).embeddings
    _print("items", classification(items, load_array(options.prompts), load_array(options.label)))


def _localize(options: argparse.Namespace) -> None:
    audio, proposals = (open_bank(path).embeddings for path in (options.audio, options.proposals))
    with Archive(options.boxes) as archive:
        boxes = {key: archive.read(key, "number") for key in archive.keys}
    _print("task", localization(audio, proposals, boxes, agreement=options.agreement))


def _print(what: str, rows: dict[str, dict[str, tuple[float, float | None]]]) -> None:
    """Rows of (value, chance) by metric; ranks as they are, everything else in percent."""
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    show = lambda metric, value: (
        "-"
        if value is None
        else f"{value:.1f}"
        if metric == "median_rank"
        else f"{100 * value:.2f}"
    )
    lines = []
    for title, row in rows.items():
        for name, place in (("measured", 0), ("chance", 1)):
            cells = [show(m, row[m][place]) if m in row else "-" for m in metrics]
            lines += [[title, name, *cells]] if set(cells) != {"-"} else []
    print(markdown_table([what, "", *metrics], lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.connect", description="Use two connected contrastive spaces."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, text: str, *needed: str) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__.removeprefix("_"), help=text, description=text)
        made.set_defaults(run=run)
        for name in needed:
            made.add_argument(f"--{name}", required=True)
        return made

    made = command(
        _project,
        "project a bank into the common space",
        "connector",
        "space",
        "modality",
        "bank",
        "out",
    )
    made.add_argument("--batch_size", type=int, default=65536, help="rows on the device at a time")
    made = command(_search, "find the best items of every query", "queries", "items", "out")
    made.add_argument("--k", type=int, default=10)
    made = command(_retrieve, "evaluate the retrieval of paired banks", "first", "second")
    made.add_argument("--label", help=".npy of the class of each pair; −1 for none")
    command(_classify, "evaluate zero-shot classification", "items", "prompts", "label")
    made = command(_localize, "evaluate source localisation", "audio", "proposals", "boxes")
    made.add_argument("--agreement", type=int, default=1, help="annotators that make a pixel count")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (FeatureFileError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
