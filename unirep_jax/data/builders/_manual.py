"""What all builders share: a folder the user fills, checked as a whole before anything is read."""

import dataclasses
import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from PIL import Image

from unirep_jax.data.files import read_bytes, read_text, split_lines
from unirep_jax.data.limits import IMAGE_BYTES, IMAGE_PIXELS, TEXT_BYTES
from unirep_jax.data.safe_text import safe_text

_SHOWN, _LETTERS = 100, 1000  # problems in a message, and of one; the exception has them all
# Others that Pillow knows start programs (PostScript) or read further files.
_PICTURES = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_LFS_POINTER = b"version https://git-lfs"
_SMALL = 200  # bytes; no pointer is larger
_PARTIAL_HINT = "if your copy is meant to be smaller, use a config whose name ends in 'partial'"


class DataFolderError(ValueError):
    """A folder or file of a data set is not as expected; `problems` has everything found wrong."""

    def __init__(self, place: Path, problems: Sequence[str], hint: str = ""):
        super().__init__(str(place), tuple(problems), hint)

    @property
    def problems(self) -> tuple[str, ...]:
        return self.args[1]

    def __str__(self) -> str:
        place, hint = safe_text(self.args[0]), self.args[2]
        problems = [safe_text(problem[:_LETTERS]) for problem in self.problems[: _SHOWN + 1]]
        end = f"\n({hint})" if hint else ""
        if len(problems) == 1:
            return f"{place}: {problems[0]}{end}"
        count = len(self.problems)
        lines = [f"{place}: {count} problems", *problems[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"... and {count - _SHOWN} more")
        return "\n  ".join(lines) + end


@dataclasses.dataclass(eq=False)
class CopyConfig(tfds.core.BuilderConfig):
    """partial: examples whose files are missing are left out, and their number is not checked."""

    partial: bool = False


COMPLETE = CopyConfig(name="complete", description="Every file of the published data set.")
PARTIAL = CopyConfig(name="partial", description="Whatever part is there.", partial=True)


class ManualBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder that reads `manual_dir` and never downloads.

    A subclass says in `index` which files make which example; this class sees that they exist, and
    that their number is the published one, before the first is read.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[CopyConfig]] = [COMPLETE, PARTIAL]
    # What turns the file of a feature into a value of it.
    READERS: ClassVar[dict[str, Callable[[Path], Any]]] = {}

    def index(self, folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
        """split -> key -> feature -> value, with the path in place of a file not yet read."""
        raise NotImplementedError

    def expected(self) -> dict[str, int]:
        """Published number of examples of each split."""
        raise NotImplementedError

    def examples(self, folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
        """`index`, after every file in it has been found and the examples have been counted.

        Raises:
          DataFolderError: files are missing, all of which it names, or the number is another one.
        """
        splits = self.index(folder)
        missing = dict.fromkeys(
            f"{path.relative_to(folder)}: {problem}"
            for examples in splits.values()
            for path, problem in _missing(examples)
        )
        partial = self.builder_config.partial
        if missing and not partial:
            raise DataFolderError(folder, tuple(missing), _PARTIAL_HINT)
        if missing:
            splits = {split: _whole(examples) for split, examples in splits.items()}
            warnings.warn(
                f"{folder}: left out the examples of {len(missing)} missing files", stacklevel=2
            )
        self._check_counts(folder, {split: len(examples) for split, examples in splits.items()})
        return splits

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        splits = self.examples(Path(dl_manager.manual_dir))
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples: Mapping[str, Mapping[str, Any]]) -> Iterator:
        for key, example in examples.items():
            yield (
                key,
                {"id": key}
                | {
                    name: self.READERS[name](value) if isinstance(value, Path) else value
                    for name, value in example.items()
                },
            )

    def _check_counts(self, folder: Path, found: dict[str, int]) -> None:
        empty = [f"no {split} example" for split, count in found.items() if not count]
        if empty:
            raise DataFolderError(folder, empty)
        problems = [
            f"expected {count} {split} examples, found {found[split]}"
            for split, count in self.expected().items()
            if found[split] != count
        ]
        if problems and not self.builder_config.partial:
            raise DataFolderError(folder, problems, _PARTIAL_HINT)
        if problems:
            warnings.warn(f"{folder}: {'; '.join(problems)}", stacklevel=3)


def _missing(examples: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Path, str]]:
    for example in examples.values():
        for value in example.values():
            problem = _problem(value) if isinstance(value, Path) else None
            if problem:
                yield value, problem


def _whole(examples: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The examples none of whose files is missing."""
    return {
        key: example
        for key, example in examples.items()
        if not any(isinstance(v, Path) and _problem(v) for v in example.values())
    }


def _problem(path: Path) -> str | None:
    """Why a path cannot be read, or None."""
    if path.is_dir():
        return None if any(path.iterdir()) else "empty folder"
    if not path.exists():
        return "missing"
    if not path.is_file():
        return "a pipe or device, not a file"
    size = path.stat().st_size
    if size == 0:
        return "empty file"
    if size < _SMALL and path.read_bytes().startswith(_LFS_POINTER):
        return "only a Git LFS pointer, run `git lfs pull`"
    return None


def require(folder: Path, *names: str) -> None:
    """All named files or folders exist, or one error lists all that do not."""
    missing = [f"{name}: missing" for name in names if not (folder / name).exists()]
    if missing:
        raise DataFolderError(folder, missing)


def refuse_repeats(place: Path, names: Iterable[str]) -> None:
    """No name comes twice, or one error lists all that do."""
    repeated = [f"{name}: listed {n} times" for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise DataFolderError(place, repeated)


def image_bytes(path: Path) -> bytes:
    """The file of an image that has been decoded once to see that it can be.

    JPEG and PNG in colour or grey stay as they are; anything else becomes an RGB PNG.

    Raises:
      DataFolderError: it cannot be decoded whole.
    """
    try:
        content = read_bytes(path, IMAGE_BYTES)
        with Image.open(io.BytesIO(content), formats=_PICTURES) as image:
            check_pixels(image)
            image.load()
            if image.format in ("JPEG", "PNG") and image.mode in ("RGB", "L"):
                return content
            converted = image.convert("RGB")
    except Exception as error:  # damaged files raise of every kind
        raise undecodable(path, "a whole image", error) from error
    stream = io.BytesIO()
    converted.save(stream, "PNG")
    return stream.getvalue()


def check_pixels(image: Image.Image) -> None:
    """Raises ValueError if an image that is not yet decoded would take too much memory."""
    if image.width * image.height > IMAGE_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {IMAGE_PIXELS}")


def captions(path: Path) -> list[str]:
    """The lines of a text file that say something, at least one.

    Raises:
      DataFolderError: there is none, or it is not UTF-8.
    """
    found = lines(path)
    if not found:
        raise DataFolderError(path, ["expected captions, one a line, found none"])
    return found


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without spaces around them."""
    return [line.strip() for line in split_lines(text(path)) if line.strip()]


def text(path: Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises:
      DataFolderError: it is not UTF-8, no regular file, or beyond any table's size.
    """
    try:
        return read_text(path, TEXT_BYTES)
    except (UnicodeDecodeError, OSError) as error:
        raise undecodable(path, "UTF-8 text", error) from error


def undecodable(path: Path, expected: str, error: Exception) -> DataFolderError:
    found = f"expected {expected}, found {type(error).__name__}: {error}"
    return DataFolderError(path, [found])
