"""Every notebook runs, is what the script beside it says, and is kept without outputs."""

import ast
import json
import pkgutil
import shutil
from pathlib import Path

import jupytext
import matplotlib.pyplot
import nbclient
import pytest
import sklearn.manifold

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BADGE = "https://colab.research.google.com/github/unirep-jax/unirep_jax/blob/main/notebooks/"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == kind]


def test_there_is_a_tour_of_the_kernels_a_notebook_of_every_method_and_one_of_raw_media():
    names = {"kernels", "micu", "mover", "cmcr", "cox", "mrn", "raw_media"}
    assert {path.stem for path in NOTEBOOKS} == names
    assert {path.stem for path in (ROOT / "notebooks").glob("*.py")} == names


@each
def test_a_notebook_and_its_script_agree(path):
    script = path.with_suffix(".py")
    for kind in ("code", "markdown"):
        assert cells(path, kind) == cells(script, kind), "jupytext --sync notebooks/*.py fixes it"


@each
def test_a_notebook_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@each
def test_a_notebook_opens_on_colab_and_installs_as_the_others_do(path):
    assert f"{BADGE}{path.name})" in cells(path, "markdown")[0]
    assert cells(path, "code")[0] == cells(NOTEBOOKS[0], "code")[0]


def test_a_notebook_installs_the_checkout_that_it_is_in_before_it_looks_elsewhere(
    tmp_path, monkeypatch
):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    called = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: called.append(command))
    exec(cells(NOTEBOOKS[0], "code")[0], {})
    (install,) = called
    assert install[-2] == "..[train]" and install[1:4] == ["-m", "pip", "install"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").unlink()
    monkeypatch.setenv("UNIREP_JAX_SOURCE", "https://example.org/mirror")
    exec(cells(NOTEBOOKS[0], "code")[0], {})
    assert called[1] == ["git", "clone", "https://example.org/mirror", "unirep_jax"]
    assert called[2][-2] == "./unirep_jax[train]"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty folder that has the configurations, for a fast run."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIREP_JAX_FAST", "1")
    return tmp_path


@each
def test_what_a_notebook_takes_from_the_package_exists(path):
    taken = set()
    for node in (node for source in cells(path, "code") for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("unirep_jax"):
            taken |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            taken |= {alias.name for alias in node.names if alias.name.startswith("unirep_jax")}
    assert taken
    for name in taken:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == "kernels" else pytest.mark.slow)
        for path in NOTEBOOKS  # the others train; the documentation executes them, too
    ],
)
def test_a_notebook_runs(path, checkout, standard_promotion, monkeypatch):
    matplotlib.use("Agg")
    # Half of the time would go into the maps, which are tested elsewhere.
    monkeypatch.setattr(sklearn.manifold.TSNE, "fit_transform", lambda self, rows: rows[:, :2])
    names = {"__name__": "__main__"}
    for number, source in enumerate(cells(path, "code")):
        exec(compile(source, f"{path.name}, code cell {number}", "exec"), names)
    matplotlib.pyplot.close("all")
    if "scratch" in names:  # what a notebook wrote as an example goes with it
        names["scratch"].cleanup()
    assert {place.name for place in checkout.iterdir()} <= {"configs", "runs"}


@pytest.mark.slow
@each
def test_a_notebook_runs_in_a_kernel_of_its_own_and_shows_its_figures(path, checkout):
    notebook = jupytext.read(path)
    nbclient.execute(notebook, timeout=600, cwd=str(checkout))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
