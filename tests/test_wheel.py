"""What is in the wheel: the package and its data, and nothing else."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="a wheel is built with hatchling"
)
def test_the_wheel_has_the_package_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"unirep_jax", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "unirep_jax").rglob("*.py")}
    modules |= {f"unirep_jax/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.py")}
    assert modules | {"unirep_jax/py.typed"} <= set(names)
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []
    assert any(name.endswith("licenses/LICENSE") for name in names)
