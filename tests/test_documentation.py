"""The documentation builds, and what it says of the code is so."""

import dataclasses
import importlib.util
import os
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import unirep_jax
from unirep_jax import losses, metrics

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path.read_text("utf-8") for path in PAGES}
FOLDERS = sorted(module.name for module in pkgutil.iter_modules(unirep_jax.__path__))
_FILES = r"metrics\.jsonl|model\.json"  # of a run, which are no modules
NAME = re.compile(rf"`(?!{_FILES})(?:unirep_jax\.)?((?:{'|'.join(FOLDERS)})(?:\.\w+)*)`")
COMMAND = re.compile(r"python -m unirep_jax\.(\w+) ((?:[^\n`]*\\\n)*[^\n`]*)")
SETTINGS = re.compile(r"Settings of `(unirep_jax\.[\w.]+)`.*?\n\n(.*?)\n\n", re.DOTALL)

page = pytest.mark.parametrize("page", sorted(TEXTS))


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")),
    reason="the documentation is built with sphinx, myst-parser and furo (pip install '.[docs]')",
)
def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "read"]
    result = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "html"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Formulas and shapes have survived the way from the docstring to the page.
    html = (tmp_path / "html" / "losses.html").read_text("utf-8")
    assert "ℓᵢ = −log( exp(qᵢ·kᵢ/τ) / Σⱼ exp(qᵢ·kⱼ/τ) )" in html
    assert re.search(r"Float\[Array, .{1,9}batch dim", re.sub(r"<[^>]+>", "", html))


@pytest.mark.parametrize("module", [losses, metrics], ids=["losses", "metrics"])
def test_a_page_lists_every_kernel_once(module):
    name = module.__name__.rpartition(".")[2]
    listed = TEXTS[f"{name}.md"].partition(f"{module.__name__}.published")[0]
    names = re.findall(r"^\.\. auto\w+:: (\w+)$", listed, re.MULTILINE)
    assert (names if module is losses else sorted(names)) == module.__all__


@page
def test_every_name_of_the_code_exists(page):
    for name in NAME.findall(TEXTS[page]):
        pkgutil.resolve_name(f"unirep_jax.{name}")


def test_pages_of_methods_name_what_computes_their_equations():
    for page in ("micu.md", "mover.md", "cmcr.md", "cox.md", "mrn.md"):
        assert len(set(NAME.findall(TEXTS[page]))) >= 8, page


@page
def test_settings_have_the_defaults_that_a_page_says(page):
    for method, table in SETTINGS.findall(TEXTS[page]):
        fields = {f.name: f.default for f in dataclasses.fields(pkgutil.resolve_name(method))}
        rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", table, re.MULTILINE)
        assert len(rows) >= 8, method
        assert {name: repr(fields[name]) for name, _ in rows} == {
            name: default.replace('"', "'") for name, default in rows
        }


@page
def test_commands_name_configurations_settings_and_variants_that_there_are(page):
    for module, rest in COMMAND.findall(TEXTS[page]):
        importlib.util.find_spec(f"unirep_jax.{module}") or pytest.fail(f"no command {module}")
        for file, argument in re.findall(r"--config=(configs/\w+\.py):?([\w,-]*)", rest):
            get_config = runpy.run_path(str(ROOT / file))["get_config"]
            config = get_config(argument) if argument else get_config()
            for key in re.findall(r"--config\.([\w.]+)", rest):
                assert key in _dotted(config.to_dict()), key
        for file, name in re.findall(r"--variants=(configs/\w+\.py):(\w+)", rest):
            assert runpy.run_path(str(ROOT / file))["get_variants"](name)


def test_flags_of_commands_exist():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "unirep_jax").glob("*.py"))
    known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', sources)
    for page in ("quickstart.md", "scaling.md", "reproducibility.md"):
        for flag in re.findall(r"`[^`\n]*?--(?!xla_)(\w+)[=`]", TEXTS[page]):
            assert flag in known, f"{page}: --{flag}"


@pytest.mark.parametrize("page", ["quickstart.md", "scaling.md"])
def test_the_python_of_a_page_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", TEXTS[page], re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


def _dotted(settings: dict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in settings.items():
        names.add(prefix + key)
        if isinstance(value, dict):
            names |= _dotted(value, f"{prefix}{key}.")
    return names
