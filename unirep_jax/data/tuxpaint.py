"""Tux Paint's stamps: pictures with texts, spoken descriptions and sounds of the same thing.

    apt-get download tuxpaint-stamps-default
    python -m unirep_jax.data.prepare tuxpaint --path=tuxpaint-stamps-default_*.deb --out=tuxpaint
    python -m unirep_jax.main --config=configs/cmg.py:features --config.data.path=tuxpaint

Some 925 things of sixteen kinds (animals, food, vehicles ...), each as a picture, an English text
and a French description read aloud; most in Russian and Spanish too, and a few with the sound that
they make. Speakers are volunteers. The files are those of Debian's package tuxpaint-stamps-default
(`apt-get download tuxpaint-stamps-default`), GPL-2, some items CC BY-SA; none of it comes with this
library.

Reference: Kendrick and others, Tux Paint, https://tuxpaint.org.
"""

import argparse
import csv
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from unirep_jax.data.extract.__main__ import answer
from unirep_jax.data.extract.manifest import MANIFEST
from unirep_jax.data.extract.run import DTYPES, extract
from unirep_jax.data.features import FeatureFileError

MODALITIES = ("image", "text", "speech_fr", "speech_ru", "speech_es", "effect")
LANGUAGES = ("fr", "ru", "es")
SYMBOLS = "symbols"  # letters and signs, a quarter of all items
INSTALLED = "/usr/share/tuxpaint/stamps"
LICENCE = "GPL-2, some items CC BY-SA (Tux Paint stamps)"
TEST_FRACTION = 0.33
_PLACE = "usr/share/tuxpaint/stamps"
ENCODE = (
    "image:efficientnet_lite0",
    "text:minilm",
    *(f"speech_{language}:speech_units" for language in LANGUAGES),
    "effect:log_mel,seconds=4,steps=10",
)
_SUFFIXES = (".png", ".svg", ".txt", ".ogg", ".wav")
_MAX_TEXT = 1 << 20
_MAX_FILE = 1 << 26


def prepare(
    path: str | Path,
    out: str | Path,
    *,
    without_symbols: bool = False,
    encode: tuple[str, ...] = (),
    modalities: tuple[str, ...] = MODALITIES,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    dtype: str = "float32",
    threads: int | None = None,
) -> dict[str, Any]:
    """Features of the stamps in `out`, as `unirep_jax.data.extract` writes them.

    Items are things that have a picture, a text and a French description; classes are the outermost
    folders. Things of the same English text are one group, and groups are whole in the split.

    Args:
      path: the package (.deb), or a folder of its files. Files of a package are unpacked to
        `out`.media, and stay there: manifest.csv says which belongs to which row.
      out: a new folder.
      without_symbols: leave out letters and signs.
      encode: texts of `--encode`, instead of `ENCODE` for those modalities.
      modalities: the ones to use; there is text_fr too.
      test_fraction, seed: of the split.
      dtype, threads: as in `extract`.

    Returns:
      The data card.

    Raises:
      FeatureFileError: there are no stamps, or the package is damaged.
      ManifestError, EncoderError, MediaError, FileExistsError: as `extract`.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    media = out.with_name(f"{out.name}.media")
    if path.is_file():
        unpack(path, media)
        stamps = media
    else:
        stamps = path / _PLACE if (path / _PLACE).is_dir() else path
    items = list(read_items(stamps))
    if without_symbols:
        items = [item for item in items if item["class_name"] != SYMBOLS]
    if not items:
        raise FeatureFileError(path, None, f"stamps, as below {INSTALLED}", "none")
    given = {text.partition(":")[0].partition("@")[0] for text in encode}
    chosen = [text for text in ENCODE if text.partition(":")[0] not in given]
    chosen = [text for text in chosen if text.partition(":")[0] in modalities]
    manifest = out.with_name(f".{out.name}.{MANIFEST}")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(manifest, items)
        return extract(
            manifest,
            out,
            root=stamps,
            encode=[*encode, *chosen],
            modalities=modalities,
            dtype=dtype,
            test_fraction=test_fraction,
            seed=seed,
            threads=threads,
            licence=LICENCE,
        )
    finally:
        manifest.unlink(missing_ok=True)


def read_items(stamps: Path) -> Iterator[dict[str, str]]:
    """The lines of the manifest: id, class_name, group, and a path or text for each modality."""
    for file in sorted(stamps.rglob("*.txt")):
        name = file.relative_to(stamps).with_suffix("").as_posix()
        texts = _read_texts(file)
        found = {
            "id": name,
            "class_name": name.partition("/")[0],
            "group": texts.get("", ""),
            "image": _first(stamps, name, (".png", ".svg")),
            "text": texts.get("", ""),
            "text_fr": texts.get("fr", ""),
            "effect": _first(stamps, name, (".ogg", ".wav")),
        }
        for language in LANGUAGES:
            endings = tuple(f"_desc_{language}{suffix}" for suffix in (".ogg", ".wav"))
            found[f"speech_{language}"] = _first(stamps, name, endings)
        if "/" in name and found["image"] and found["text"] and found["speech_fr"]:
            yield found


def _read_texts(file: Path) -> dict[str, str]:
    """language -> text; the first line has no language, the others are `fr.utf8=...`."""
    with file.open("rb") as stream:
        lines = stream.read(_MAX_TEXT).decode("utf-8", "replace").splitlines()
    texts = {"": lines[0].strip() if lines else ""}
    for line in lines[1:]:
        language, found, text = line.partition(".utf8=")
        if found:
            texts[language] = text.strip()
    return texts


def _first(stamps: Path, name: str, endings: tuple[str, ...]) -> str:
    return next((name + end for end in endings if (stamps / (name + end)).is_file()), "")


def _write(path: Path, items: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.DictWriter(stream, list(items[0]))
        rows.writeheader()
        rows.writerows(items)


def unpack(package: Path, media: Path) -> None:
    """The stamps of a Debian package into a folder, once; nothing is run or linked.

    Raises:
      FeatureFileError: the file is no such package, is damaged, or is packed in a way that Python
        does not read.
    """
    if media.is_dir():
        return
    beside = media.with_name(f".{media.name}.incomplete")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with package.open("rb") as stream:
            name, content = _data_member(stream)
            if not name.endswith((".xz", ".gz", ".tar")):
                raise ValueError(f"{name}; unpack it with dpkg -x, and give that folder")
            with tarfile.open(fileobj=content, mode="r:*") as archive:
                for member in archive:
                    _unpack_member(archive, member, beside)
        if not beside.is_dir():
            raise ValueError(f"nothing below {_PLACE}")
    except Exception as error:  # damaged bytes raise of every kind
        shutil.rmtree(beside, ignore_errors=True)
        expected = "Debian's package tuxpaint-stamps-default"
        found = f"{type(error).__name__}: {error}"
        raise FeatureFileError(package, None, expected, found) from error
    beside.replace(media)


def _data_member(stream: BinaryIO) -> tuple[str, "_Part"]:
    """The member data.tar.* of an ar file: a magic word, then headers of 60 bytes and contents."""
    if stream.read(8) != b"!<arch>\n":
        raise ValueError("not an ar file")
    while header := stream.read(60):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return name, _Part(stream, size)
        stream.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("no member data.tar")


class _Part(io.RawIOBase):
    """The next `size` bytes of a file as a file."""

    def __init__(self, stream: BinaryIO, size: int):
        self._stream, self._start, self._size, self._place = stream, stream.tell(), size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        self._stream.seek(self._start + self._place)
        content = self._stream.read(count)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    place = PurePosixPath(member.name)
    name = PurePosixPath(*(part for part in place.parts if part != "."))
    if not member.isfile() or not name.is_relative_to(_PLACE) or ".." in name.parts:
        return
    if name.suffix not in _SUFFIXES or member.size > _MAX_FILE:
        return
    _, described, language = name.stem.rpartition("_desc_")
    if (described and language not in LANGUAGES) or name.stem.endswith("_desc"):
        return
    target = folder / name.relative_to(_PLACE)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    if content is not None:
        with target.open("wb") as stream:
            shutil.copyfileobj(content, stream)


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.data.prepare tuxpaint", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--path", default=INSTALLED, help="the package (.deb), or a folder of its files"
    )
    parser.add_argument("--out", required=True, help="a new folder")
    parser.add_argument("--without_symbols", action="store_true", help="no letters and signs")
    parser.add_argument(
        "--encode",
        action="append",
        default=[],
        metavar="MODALITY:ENCODER[,k=v...]",
        help=f"instead of {' '.join(ENCODE)}",
    )
    parser.add_argument("--modalities", default=",".join(MODALITIES), help="there is text_fr too")
    parser.add_argument("--test_fraction", type=float, default=TEST_FRACTION)
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = vars(arguments_parser().parse_args(arguments))
    options["modalities"] = tuple(name for name in options["modalities"].split(",") if name)
    options["encode"] = tuple(options["encode"])
    answer(prepare, options)
