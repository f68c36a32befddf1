"""The files of a run folder, which anybody may have made.

Only regular files inside the folder are read, none beyond its cap, and all that is read has gone
through the checks of this module: types, ranges, and text that is safe to show.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unirep_jax.data.files import open_regular, read_bytes
from unirep_jax.data.safe_text import safe_text
from unirep_jax.evaluation.measurements import Measurement

CONFIG, LOG, RESULTS, ENVIRONMENT = (
    "config.json",
    "metrics.jsonl",
    "results.jsonl",
    "environment.jsonl",
)
# Beyond what any run writes.
_CONFIG_BYTES, _ENVIRONMENT_BYTES = 1 << 20, 1 << 24
_LINES_BYTES, _LINE_BYTES = 1 << 32, 1 << 20
_FIGURE_BYTES, _FIGURES = 1 << 24, 1_000
_SETTINGS, _DEPTH, _TEXT = 2_000, 16, 10_000
_QUANTITIES, _STARTS, _RESULTS = 500, 10_000, 2_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST, _SMALLEST = 3.5e38, 1e-45  # of float32, in which training computes
_LARGEST_SETTING = 1e300
_LAST_STEP = 1 << 53
_LAST_SEED = (1 << 64) - 1


class ReportError(ValueError):
    """A folder without a run, a file that cannot be read, or runs that do not go together."""


def find(folder: Path, name: str) -> Path | None:
    """Where a file or folder of a run really is; None where the run has none of this name.

    Raises:
      ReportError: it is a link to nothing, or to what is not in the folder.
    """
    path = folder / name
    try:
        path.lstat()
    except OSError:
        return None
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, until Python 3.13
        raise ReportError(f"{path} is a link to nothing") from error
    if not real.is_relative_to(folder.resolve()):
        raise ReportError(f"{path} is a link out of its folder, and is not read")
    return real


def read_config(folder: Path) -> dict[str, Any]:
    """The dotted settings of a run.

    Raises:
      ReportError: there are none, or they are not what a run writes.
    """
    path = find(folder, CONFIG)
    if path is None:
        raise ReportError(f"{folder / CONFIG}: expected the settings of a run, found no file")
    try:
        tree = json.loads(read_bytes(path, _CONFIG_BYTES))
        if not isinstance(tree, dict):
            raise TypeError(f"expected settings, found {type(tree).__name__}")
        settings = _dotted(_checked(tree))
        if len(settings) > _SETTINGS:
            raise ValueError(f"more than {_SETTINGS} settings")
        for key in ("experiment", "data.name", "method.name"):
            _require(settings, key, str)
        _require_count(settings, "seed", _LAST_SEED)
        _require_count(settings, "steps", _LAST_STEP)
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise _not_written(path, error) from error
    return settings


def read_environment(folder: Path) -> list[dict[str, str]]:
    """What each start of the run has said of its packages and devices.

    A line that a process that was killed has cut short is left out, and so is what is no such line.

    Raises:
      ReportError: the file is no file of lines, or has more than any run.
    """
    path = find(folder, ENVIRONMENT)
    if path is None:
        return []
    found: list[dict[str, Any]] = []
    try:
        for start in map(_parsed, _lines(path, _ENVIRONMENT_BYTES)):
            if len(found) == _STARTS:
                raise ValueError(f"more than {_STARTS} starts")
            if start:
                found.append({safe_text(k[:_TEXT]): _shown(v) for k, v in start.items()})
    except (ValueError, OSError) as error:
        raise _not_written(path, error) from error
    return found


def read_results(folder: Path) -> list[Measurement]:
    """The measurements of a run, none where it is unfinished.

    Raises:
      ReportError: the file is not what a run writes.
    """
    path = find(folder, RESULTS)
    if path is None:
        return []
    found: list[Measurement] = []
    try:
        for line in _lines(path):
            row = json.loads(line.decode())
            if isinstance(row, dict):
                row = {k: safe_text(v) if isinstance(v, str) else v for k, v in row.items()}
            found.append(Measurement.from_json(row))
            if len(found) > _RESULTS:
                raise ValueError(f"more than {_RESULTS} measurements")
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise _not_written(path, f"line {len(found) + 1}: {error}") from error
    return found


def read_log(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The lines of metrics.jsonl: a step, greater than the one before, and what was logged there.

    What a process that was killed has cut short is left out, and so is what is no such line.

    Raises:
      ReportError: the file is no file of lines, or has more quantities than any training.
    """
    path = find(folder, LOG)
    if path is None:
        return
    names: set[str] = set()
    last = -1
    try:
        for line in _lines(path):
            step, row = _logged(line)
            if step <= last:
                continue
            last = step
            names |= row.keys()
            if len(names) > _QUANTITIES:
                raise ValueError(f"more than {_QUANTITIES} quantities")
            yield step, row
    except (ValueError, OSError) as error:
        raise _not_written(path, error) from error


def find_figures(folder: Path) -> dict[str, Path]:
    """The pictures in the folder `figures` of a run, by name without suffix.

    Raises:
      ReportError: `figures` or a picture leads out of the folder, or there are too many.
    """
    figures = find(folder, "figures")
    if figures is None or not figures.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(figures.glob("*.png")):
        if len(found) == _FIGURES:
            raise ReportError(f"{figures}: more than {_FIGURES} pictures")
        real = find(folder, f"figures/{path.name}")
        if real is None or not real.is_file() or real.stat().st_size > _FIGURE_BYTES:
            raise _not_written(path, f"it is no file of at most {_FIGURE_BYTES} bytes")
        found[safe_text(path.stem)] = real
    return found


def read_figure(path: Path) -> bytes:
    """A picture that `find_figures` has found.

    Raises:
      ReportError: it is no PNG file, or larger than any of ours.
    """
    try:
        content = read_bytes(path, _FIGURE_BYTES)
    except OSError as error:
        raise _not_written(path, error) from error
    if not content.startswith(_PNG):
        raise _not_written(path, "it is no PNG file")
    return content


def _lines(path: Path, limit: int = _LINES_BYTES) -> Iterator[bytes]:
    """Lines, one in memory at a time; blank ones are none."""
    with open_regular(path, limit) as stream:
        while line := stream.readline(_LINE_BYTES + 1):
            if len(line) > _LINE_BYTES:
                raise ValueError(f"a line of more than {_LINE_BYTES} bytes")
            if line.strip():
                yield line


def _logged(line: bytes) -> tuple[int, dict[str, float]]:
    """Step and quantities of a line; step −1 where it is none."""
    row = _parsed(line)
    step = row.pop("step", None)
    if type(step) is not int or not 0 <= step <= _LAST_STEP:
        return -1, {}
    return step, {
        safe_text(name): 0.0 if abs(value) < _SMALLEST else float(value)
        for name, value in row.items()
        if type(value) in (int, float) and abs(value) <= _LARGEST and len(name) <= _TEXT
    }


def _parsed(line: bytes) -> dict[str, Any]:
    """The object of a line; an empty one where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _checked(value: Any, depth: int = 0) -> Any:
    """Settings as they were, texts safe; nothing deep, long or of no JSON number."""
    if depth > _DEPTH:
        raise ValueError(f"more than {_DEPTH} levels")
    if isinstance(value, dict | list) and len(value) > _SETTINGS:
        raise ValueError(f"more than {_SETTINGS} values in one")
    if isinstance(value, dict):
        return {_checked(k, depth): _checked(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_checked(v, depth + 1) for v in value]
    if isinstance(value, str):
        if len(value) > _TEXT:
            raise ValueError(f"a text of {len(value)} characters, more than {_TEXT}")
        return safe_text(value)
    if isinstance(value, int | float) and abs(value) > _LARGEST_SETTING:
        raise ValueError(f"a number beyond {_LARGEST_SETTING}")
    return value


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inside = _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        found |= {prefix + key: value} if inside is None else inside
    return found


def _shown(value: Any) -> str:
    return safe_text(str(value)[:_TEXT])


def _require(settings: dict[str, Any], key: str, kind: type) -> None:
    if key not in settings:
        raise ValueError(f"it has no {key}")
    if type(settings[key]) is not kind:
        raise TypeError(f"{key}: expected {kind.__name__}, found {settings[key]!r:.80}")


def _require_count(settings: dict[str, Any], key: str, largest: int) -> None:
    _require(settings, key, int)
    if not 0 <= settings[key] <= largest:
        raise ValueError(f"{key}: expected 0 … {largest}, found {settings[key]}")


def _not_written(path: Path, why: object) -> ReportError:
    return ReportError(f"{path} is not what a run writes: {why}")
