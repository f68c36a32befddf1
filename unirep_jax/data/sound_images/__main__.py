"""Command line: python -m unirep_jax.data.sound_images NAME --manual_dir=DIR --out=FOLDER.

Published annotations of images and their sounds to a manifest and true boxes:

    python -m unirep_jax.data.sound_images vggss --manual_dir=~/VGGSS --out=vggss \\
      --proposals=glip.json
    python -m unirep_jax.data.extract --path=vggss/manifest.csv --out=vggss_banks --format=banks \\
      --encode=image_1@image:efficientnet_lite0 --encode=audio_2@audio:my_package.sounds:clap

docs/banks.md has what each set needs, and how it is evaluated then.
"""

import argparse
import sys

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.sound_images.readers import READERS
from unirep_jax.data.sound_images.write import convert


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.data.sound_images", description=__doc__.splitlines()[2]
    )
    parser.add_argument("name", choices=sorted(READERS))
    parser.add_argument("--manual_dir", required=True, help="annotations, frames and audio")
    parser.add_argument("--out", required=True, help="a new folder")
    parser.add_argument("--proposals", default="", help="JSON of boxes by image, to be cut out")
    parser.add_argument("--partial", action="store_true", help="leave out what has no files")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = arguments_parser().parse_args(arguments)
    try:
        said = convert(
            options.name,
            options.manual_dir,
            options.out,
            proposals=options.proposals,
            partial=options.partial,
        )
    except (FeatureFileError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(said)


if __name__ == "__main__":
    main()
