"""The list of examples: a `manifest.csv`, or what is made of folders of files that share a stem."""

import csv
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unirep_jax.data.extract.media import SUFFIXES, read_text
from unirep_jax.data.held_out import draw_groups

MANIFEST = "manifest.csv"
COLUMNS = ("id", "label", "split", "group", "class_name")
_LOOKED_AT = 100  # values of a column, to tell its medium
_LONGEST_FIELD = 1 << 21  # characters: a text may be a field


class ManifestError(ValueError):
    """What is wrong in which line of a manifest or folder, and what would be right."""


@dataclasses.dataclass(frozen=True, eq=False)
class Manifest:
    """Examples of a manifest, of which only the columns that are numbers stay in memory.

    path: of the file. root: what paths in it are relative to. media: column -> medium.
    label: int32 [example], −1 = unlabelled. group: int32 [example]. train: bool [example].
    """

    path: Path
    root: Path
    media: dict[str, str]
    label: np.ndarray
    group: np.ndarray
    train: np.ndarray
    class_names: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.label)

    def values(self, column: str) -> Iterator[str]:
        """What the column says of every example; "" where the modality is absent."""
        with self.path.open(encoding="utf-8-sig", newline="") as stream:
            for row in _rows(csv.DictReader(stream, strict=True)):
                yield row[column].strip()

    def present(self, column: str) -> np.ndarray:
        return np.fromiter((bool(value) for value in self.values(column)), bool, len(self))


def open_manifest(
    path: str | Path, *, root: Path | None = None, test_fraction: float = 0.25, seed: int = 0
) -> Manifest:
    """Reads a manifest through once, checking every line.

    Columns `id` (by default the number of the example), `label` (from 0; −1 or nothing =
    unlabelled) or `class_name` or both, `split` (train or test), `group` (any text), and one for
    each modality: a path, or the text. Without `split`, whole groups are drawn for the test.

    Args:
      path: of the file.
      root: what paths are relative to; by default its folder.
      test_fraction: of the examples, where the manifest does not say.
      seed: of that draw.

    Raises:
      ManifestError: a line is not that.
    """
    path = Path(path)
    reading = _Reading(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            reading.header(list(rows.fieldnames or []))
            for row in _rows(rows):
                reading.add(row, rows.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: expected CSV in UTF-8: {error}") from error
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    label, class_names = reading.labels()
    group = np.array(reading.group, np.int32)
    if "split" in reading.columns:
        train = np.array(reading.train, bool)
    else:
        train = ~draw_groups(group, test_fraction, seed)
    return Manifest(
        path,
        path.parent if root is None else root,
        reading.media(),
        label,
        group,
        train,
        class_names,
        digest,
    )


def _rows(reader: csv.DictReader) -> Iterator[dict]:
    """The rows of a reader whose fields may be long texts; other readers keep their limit."""
    while True:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            row = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield row


class _Reading:
    """Lines on their way into a manifest."""

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []
        self.train: list[bool] = []
        self.group: list[int] = []
        self._label: list[int] = []
        self._class: list[int] = []  # number of the class name, in the order in which they come
        self._classes: dict[str, int] = {}
        self._groups: dict[str, int] = {}
        self._ids: set[bytes] = set()
        self._seen: dict[str, list[str]] = {}

    def header(self, columns: list[str]) -> None:
        self.columns = columns
        modalities = [c for c in columns if c not in COLUMNS]
        twice = next((c for c in columns if columns.count(c) > 1), None)
        if twice is not None or not modalities:
            found = (
                f"column {twice!r} twice" if twice else f"only {', '.join(columns) or 'nothing'}"
            )
            raise ManifestError(
                f"{self.path}: expected a header with {', '.join(COLUMNS)} as needed and a column "
                f"for each modality, found {found}"
            )
        self._seen = {c: [] for c in modalities}

    def add(self, row: dict, line: int) -> None:
        if None in row or None in row.values():
            found = f"{sum(value is not None for value in row.values()) + len(row.get(None) or [])}"
            raise self._wrong(line, None, f"{len(self.columns)} fields", found)
        name = row.get("id", str(len(self.group)))
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        if digest in self._ids or "\n" in name:
            raise self._wrong(line, "id", "a name of one line that comes once", repr(name))
        self._ids.add(digest)
        split = row.get("split", "train")
        if split not in ("train", "test"):
            raise self._wrong(line, "split", "train or test", repr(split))
        self.train.append(split == "train")
        group = row["group"] if row.get("group") else f"\n{len(self.group)}"
        self.group.append(self._groups.setdefault(group, len(self._groups)))
        self._add_label(row, line)
        if not any(row[c].strip() for c in self._seen):
            raise self._wrong(line, None, "at least one modality", "none")
        for column, seen in self._seen.items():
            if row[column].strip() and len(seen) < _LOOKED_AT:
                seen.append(row[column].strip())

    def _add_label(self, row: dict, line: int) -> None:
        text = row.get("label") or "-1"
        try:
            label = int(text)
        except ValueError:
            label = -2
        if not -1 <= label < np.iinfo(np.int32).max:
            raise self._wrong(line, "label", "a number from 0, or −1", repr(text))
        name = row.get("class_name", "")
        number = self._classes.setdefault(name, len(self._classes)) if name else -1
        self._label.append(label)
        self._class.append(number)

    def _wrong(self, line: int, column: str | None, expected: str, found: str) -> ManifestError:
        where = f"{self.path}: line {line}" + (f", {column}" if column else "")
        return ManifestError(f"{where}: expected {expected}, found {found}")

    def labels(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Class numbers and names: as the manifest says, or names in the order of the alphabet."""
        label, number = np.array(self._label, np.int32), np.array(self._class, np.int32)
        names = list(self._classes)
        if "label" not in self.columns:
            order = sorted(names)
            place = np.array([*(order.index(name) for name in names), -1], np.int32)
            return place[number], tuple(order)
        count = int(label.max(initial=-1)) + 1
        named = [str(i) for i in range(count)]
        for i, n in dict(zip(label.tolist(), number.tolist(), strict=True)).items():
            if i >= 0 and n >= 0:
                named[i] = names[n]
        expected = np.array([named[i] if i >= 0 else "" for i in label.tolist()])
        differs = (number >= 0) & (expected != np.array([*names, ""])[number])
        if differs.any():
            row = int(np.argmax(differs))
            raise ManifestError(
                f"{self.path}: example {row}: expected class_name {str(expected[row])!r}, as "
                f"elsewhere for label {label[row]}, found {names[number[row]]!r}"
            )
        return label, tuple(named)

    def media(self) -> dict[str, str]:
        """The medium of each column: that of most of its first values, by their suffixes."""
        return {
            column: Counter(map(medium_of, values)).most_common(1)[0][0] if values else "text"
            for column, values in self._seen.items()
        }


def medium_of(value: str) -> str:
    suffix = Path(value).suffix.lower()
    return next((medium for medium, known in SUFFIXES.items() if suffix in known), "text")


def write_manifest(folder: str | Path, out: Path) -> None:
    """The manifest of a folder with a folder for each modality; files of one stem are one example.

    The stem of `FOLDER/image/cat/01.png` is `cat/01`; where all stems are in folders, the outermost
    is the class. Texts are read into the manifest.

    Raises:
      ManifestError: there is no such file, or one that nothing here reads, or two of one stem.
      MediaError: a text cannot be read.
    """
    folder = Path(folder)
    columns = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files: dict[str, dict[str, Path]] = {}
    for column in columns:
        for file in sorted(p for p in (folder / column).rglob("*") if _counts(p, folder)):
            stem = file.relative_to(folder / column).with_suffix("").as_posix()
            if file.suffix.lower() not in set().union(*SUFFIXES.values()):
                raise ManifestError(f"{file}: expected a picture, sound, video or .txt file")
            other = files.setdefault(stem, {}).setdefault(column, file)
            if other != file:
                raise ManifestError(
                    f"{file}: expected one file of this stem, found {other.name} too"
                )
    if not files:
        raise ManifestError(
            f"{folder}: expected {MANIFEST}, or a folder of files for each modality, found neither"
        )
    has_class = all("/" in stem for stem in files)
    with out.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", *(["class_name"] if has_class else []), *columns])
        for stem in sorted(files):
            values = [_value(folder, files[stem].get(column)) for column in columns]
            rows.writerow([stem, *([stem.partition("/")[0]] if has_class else []), *values])


def _counts(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden


def _value(folder: Path, file: Path | None) -> str:
    if file is None:
        return ""
    is_text = medium_of(file.name) == "text"
    return " ".join(read_text(file).split()) if is_text else file.relative_to(folder).as_posix()
