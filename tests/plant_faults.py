"""Plants every fault of planted.py in a copy of the repository, and runs the fast tests on it.

    python tests/plant_faults.py              # all of them
    python tests/plant_faults.py metrics/ 12  # those of files that hold a word, or by number

Prints a line for each: caught, with the first test that fails, or SURVIVED. Ends with 1 if any
survived.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from planted import FAULTS, Fault

ROOT = Path(__file__).parents[1]
CAUGHT, SURVIVED = 1, 0  # exit statuses of pytest
# Reference files stay where they are.
SETTINGS = {"UNIREP_JAX_SHARED": str(ROOT.parent / "shared")} | dict(os.environ)
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "_build", "runs")


def main(words: list[str]) -> int:
    chosen = [i for i, fault in enumerate(FAULTS) if not words or is_meant(i, fault, words)]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT, Path(folder) / "copy", ignore=NOT_COPIED)
        for number in chosen:
            fault = FAULTS[number]
            found = first_failure(copy, fault)
            survived += found is None
            print(f"{number:2d} {fault.file}: {found or 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return int(survived > 0)


def is_meant(number: int, fault: Fault, words: list[str]) -> bool:
    return any(word in fault.file or word == str(number) for word in words)


def planted(text: str, fault: Fault) -> str:
    """The text with the fault.

    Raises:
      ValueError: what it changes does not stand there exactly once.
    """
    if text.count(fault.before) != 1:
        raise ValueError(f"{fault.file} has {text.count(fault.before)} times: {fault.before}")
    return text.replace(fault.before, fault.after)


def first_failure(copy: Path, fault: Fault) -> str | None:
    """The test that catches the fault, None if all pass; the copy is as it was afterwards."""
    path = copy / "unirep_jax" / fault.file
    whole = path.read_text("utf-8")
    try:
        path.write_text(planted(whole, fault), "utf-8")
        for tests in fault.tests:
            # `-m` puts the copy in front of an installed package, which is without the fault.
            command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", f"tests/{tests}"]
            done = subprocess.run(command, cwd=copy, env=SETTINGS, capture_output=True, text=True)
            if done.returncode == CAUGHT:
                return re.search(
                    r"^(?:FAILED|ERROR) (tests/.*?)(?: - |$)", done.stdout, re.MULTILINE
                )[1]
            if done.returncode != SURVIVED:
                raise RuntimeError(f"{tests}: pytest ended with {done.returncode}: {done.stdout}")
    finally:
        path.write_text(whole, "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
