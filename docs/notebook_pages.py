"""Pages of the notebooks: executed copies with their pictures.

    python docs/notebook_pages.py [NAME ...]     # executes them, some minutes each
    UNIREP_JAX_FAST=1 python docs/notebook_pages.py   # a few steps, to see that everything runs

A notebook that has not been executed has a page without outputs. Executed copies lie in
docs/_build/notebooks, and are made anew where the notebook or the package has changed.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXECUTED = ROOT / "docs" / "_build" / "notebooks"
TITLE = "# Notebooks\n\nEach runs on Colab, a laptop or a TPU; the pages are executed copies.\n"


def execute(name: str, timeout: int = 1800) -> Path:
    """Runs a notebook in an empty folder that has the configurations, and keeps the copy.

    Whatever the notebook writes is gone afterwards.
    """
    import jupytext
    import nbclient
    import nbformat

    kept = EXECUTED / f"{name}.ipynb"
    notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    made_of = _digest(name)
    if kept.exists() and nbformat.read(kept, 4).metadata.get("made_of") == made_of:
        return kept
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "configs", Path(folder) / "configs")
        nbclient.execute(notebook, cwd=folder, timeout=timeout)
    notebook.metadata["made_of"] = made_of
    kept.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return kept


def _digest(name: str) -> str:
    """Of the notebook, the package, the configurations, and whether it is the fast version."""
    files = [ROOT / "notebooks" / f"{name}.py"]
    files += sorted((ROOT / "unirep_jax").rglob("*.py")) + sorted((ROOT / "configs").rglob("*.py"))
    content = b"".join(file.read_bytes() for file in files)
    fast = os.environ.get("UNIREP_JAX_FAST", "")
    return hashlib.sha256(content + fast.encode()).hexdigest()


def write_pages(folder: Path) -> None:
    """Writes a page for each notebook, and one that lists them."""
    import nbformat

    folder.mkdir(exist_ok=True)
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    names.sort(key=lambda name: name != "kernels")  # the tour first
    for name in names:
        kept = EXECUTED / f"{name}.ipynb"
        source = kept if kept.exists() else ROOT / "notebooks" / f"{name}.ipynb"
        _write(folder / f"{name}.md", _page(nbformat.read(source, 4), folder, name))
    listed = "\n".join(names)
    _write(folder / "index.md", f"{TITLE}\n```{{toctree}}\n:maxdepth: 1\n{listed}\n```\n")


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def _page(notebook: Any, folder: Path, name: str) -> str:
    """Markdown of the cells; pictures become files beside the page."""
    parts, pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}_{pictures}.png"
                (folder / picture).write_bytes(b64decode(data["image/png"]))
                parts.append(f"![What the cell above draws]({picture})")
                pictures += 1
            elif output.get("name") != "stderr" and (text := output.get("text") or _text(data)):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _text(data: dict[str, str]) -> str:
    return data.get("text/plain", "")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb")):
        print(f"{chosen}: {execute(chosen)}", flush=True)
