"""Imports flow one way, kernels drag nothing in, files stay short and named for what they hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unirep_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
# A folder or file imports itself and lower layers; what is not listed is above them all.
LAYER = {"losses": 0, "metrics": 0, "data": 0, "models": 1, "methods": 2}
LAYER |= {"__version__": 0, "search": 0, "terminal": 0, "ranges": 0, "identity": 1}
LAYER |= {"config_arguments": 0, "progress_bar": -1}
LAYER |= {"workdir": 2, "train": 3, "model": 3, "model_files": 4, "evaluation": 4}
LAYER |= {"connect": 5, "tasks": 6, "report": 7}
TOP = 8
HEAVY = {"flax", "tensorflow", "orbax", "matplotlib"}


def imported(path):
    """Every module that a file imports, as a dotted name, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_lower_layers_and_is_short_and_well_named(path):
    for name in imported(path):
        root, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if folder(path) in LAYER and root == "unirep_jax":
            below = LAYER.get(target, TOP) < LAYER[folder(path)]
            assert target == folder(path) or below, f"{name} is not below {folder(path)}"
        private = [part for part in rest.split(".")[1:] if part.startswith("_")]
        assert target == folder(path) or not private, f"{name} is private to {target}"
        if folder(path) in ("losses", "metrics"):
            assert root not in HEAVY, f"a kernel imports {name}"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400
    assert path.stem not in {"utils", "common", "helpers", "misc"}


def test_importing_the_kernels_leaves_the_heavy_libraries_alone():
    heavy = HEAVY | {"ott", "sklearn"}
    command = (
        "import sys, unirep_jax.losses, unirep_jax.metrics\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"
