"""Command line: python -m unirep_jax.data.extract --path=FOLDER --out=SET.

From pictures, sound, video and texts to a feature set or embedding banks:

    python -m unirep_jax.data.extract --path=FOLDER --out=SET \\
      --encode=image:efficientnet_lite0 --encode=speech:log_mel,steps=10 --encode=caption:minilm

The same command continues an interrupted one; docs/extract.md says more.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable

from unirep_jax.data.extract.encoders import ENCODERS
from unirep_jax.data.extract.run import DTYPES, FORMATS, extract


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.data.extract", description=__doc__.splitlines()[2]
    )
    parser.add_argument(
        "--path",
        required=True,
        help="manifest.csv, a folder with one, or a folder with a folder for each modality",
    )
    parser.add_argument("--out", required=True, help="a new folder")
    parser.add_argument(
        "--encode",
        action="append",
        default=[],
        metavar="MODALITY[@COLUMN]:ENCODER[,k=v...]",
        help=f"once for each modality: {', '.join(sorted(ENCODERS))}, or package.module:function",
    )
    parser.add_argument("--modalities", default="", help="the ones to use: image,speech")
    parser.add_argument("--weights", help="folder of published weights, for encoders that need it")
    parser.add_argument("--format", dest="form", default="features", choices=FORMATS)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument(
        "--skip_damaged",
        action="store_true",
        help="go on without files that cannot be read, and list them in damaged.csv",
    )
    parser.add_argument(
        "--test_fraction", type=float, default=0.25, help="where the manifest has no split"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that split")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="that read and prepare files"
    )
    parser.add_argument("--licence", default="not stated", help="of the data, for the card")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = vars(arguments_parser().parse_args(arguments))
    options["modalities"] = [name for name in options["modalities"].split(",") if name]
    answer(extract, options)


def answer(make: Callable[..., dict], options: dict) -> None:
    """Makes a set with these options; says what became of it, or in one line what is wrong."""
    try:
        card = make(**options)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}; pip install 'unirep_jax[media]' has the readers")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to continue")
    print(summary(options["out"], card))


def summary(out: str, card: dict) -> str:
    """A line on the examples and one on each modality."""
    lines = [f"{out}: {card['examples']} examples, {card['train_examples']} for training"]
    if card["left_out"]:
        lines[0] += f"; {card['left_out']} left out"
    for modality, said in card["modalities"].items():
        damaged = f", {said['damaged']} damaged" if said["damaged"] else ""
        lines.append(
            f"  {modality}: {said['encoder']} {said['shape']}, {said['present']} present{damaged}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's way to interrupt
    main()
