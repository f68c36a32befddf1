"""Rows of accelerator.py: written one by one as JSON lines, with a Markdown table of all so far."""

import json
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LONGEST = 300  # characters of a note


class Rows:
    """The rows of one stage, added to those of the stages before.

    Attributes:
      deadline: of `time.time()`, after which no case begins.
      only: words of which a case's name has one; none for every case.
    """

    def __init__(
        self, out: Path, stage: str, deadline: float = float("inf"), only: tuple[str, ...] = ()
    ) -> None:
        self._out, self._stage, self._lock = out, stage, threading.Lock()
        self.deadline, self.only = deadline, only

    def case(self, name: str, function: Callable[[], dict]) -> None:
        """Adds what `function` returns, or why there is nothing: the next case runs in any case."""
        if self.only and not any(word in name for word in self.only):
            return
        if time.time() > self.deadline:
            self.add(name, {"status": "skipped", "note": "the time of this stage is spent"})
            return
        started = time.time()
        try:
            row = {"status": "ok", **function()}
        except ImportError as error:
            row = {"status": "skipped", "note": f"{error.name or error} is not installed"}
        except Skipped as reason:
            row = {"status": "skipped", "note": str(reason)}
        except Exception as error:  # a machine that is lent for minutes shows as much as it can
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            row = {"status": "failed", "note": f"{type(error).__name__}: {error} ({where})"}
        self.add(name, {**row, "wall_s": round(time.time() - started, 1)})

    def add(self, name: str, row: dict) -> None:
        row = {"stage": self._stage, "case": name, **row}
        if "note" in row:
            row["note"] = " ".join(row["note"].split())[:LONGEST]
        with self._lock:
            with self._out.with_suffix(".jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row["stage"], name, row["status"], row.get("note", ""), flush=True)
            self._out.with_suffix(".md").write_text(markdown(read(self._out)))


class Skipped(Exception):
    """Why a case cannot run on this machine."""


class Options(NamedTuple):
    """What every stage is told."""

    tiny: bool
    out: Path
    deadline: float
    only: tuple[str, ...]


def read(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]


def markdown(rows: list[dict]) -> str:
    """A table for each stage, with a column for every key that one of its rows has."""
    lines = ["# On this machine", ""]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        keys = list(dict.fromkeys(key for row in own for key in row if key != "stage"))
        lines += [f"## {stage}", "", f"| {' | '.join(keys)} |", "|" + "---|" * len(keys)]
        lines += [f"| {' | '.join(_cell(row.get(key)) for key in keys)} |" for row in own] + [""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "/")
