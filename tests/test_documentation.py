"""The documentation builds, and what it says of the code is so."""

import dataclasses
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import unirep_jax
from unirep_jax import losses, metrics
from unirep_jax.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path.read_text("utf-8") for path in PAGES}
FOLDERS = sorted(module.name for module in pkgutil.iter_modules(unirep_jax.__path__))
# Of a run, or of a published set, which are no modules.
_FILES = r"metrics\.jsonl|model\.json|results\.(?:md|jsonl)|train\.csv"
NAME = re.compile(rf"`(?!{_FILES})(?:unirep_jax\.)?((?:{'|'.join(FOLDERS)})(?:\.\w+)*)`")
ENTRY = re.compile(r"^\.\. (currentmodule|autofunction|autoclass|autoexception):: (\S+)$", re.M)
COMMAND = re.compile(r"python -m unirep_jax\.(\w+) ((?:[^\n`]*\\\n)*[^\n`]*)")
SETTINGS = re.compile(r"Settings of `(unirep_jax\.[\w.]+)`.*?\n\n(.*?)\n\n", re.DOTALL)

page = pytest.mark.parametrize("page", sorted(TEXTS))


def public_names() -> set[str]:
    """Every function and class that the package defines under a name without an underscore."""
    found = {f"{module.__name__}.{name}" for module in (losses, metrics) for name in module.__all__}
    others = ("models", "methods", "tasks", "evaluation", "train", "connect", "report", "data")
    for package in (importlib.import_module(f"unirep_jax.{name}") for name in others):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "._" not in each.name:
                found |= _defined(importlib.import_module(each.name))
    # `main` and the like define flags of the same names, and nothing else.
    apart = {"main", "pretrain_encoders", "losses", "metrics"}
    for name in (each.name for each in pkgutil.iter_modules(unirep_jax.__path__)):
        if name not in apart and not name.startswith("_"):
            found |= _defined(importlib.import_module(f"unirep_jax.{name}"))
    return found


def _defined(module: ModuleType) -> set[str]:
    return {
        f"{module.__name__}.{name}"
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
    }


def documented(folder: Path) -> set[str]:
    """What the pages of the documentation have an entry for, those that are generated included."""
    made = ModuleType("api_pages")
    exec((ROOT / "docs" / "api_pages.py").read_text("utf-8"), vars(made))
    made.write_pages(folder)
    found, module = set(), ""
    for path in (*PAGES, *folder.glob("*.md")):
        for kind, name in ENTRY.findall(path.read_text("utf-8")):
            module = name if kind == "currentmodule" else module
            found.add(f"{module}.{name}")
    return found


def test_every_public_name_has_an_entry_on_a_page(tmp_path):
    assert public_names() - documented(tmp_path / "pages") == set()


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")),
    reason="the documentation is built with sphinx, myst-parser and furo (pip install '.[docs]')",
)
def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "read"]
    result = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "html"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    from sphinx.util.inventory import InventoryFile

    listed = InventoryFile.loads((tmp_path / "html" / "objects.inv").read_bytes(), uri="")
    entries = set(listed.data["py:function"]) | set(listed.data["py:class"])
    entries |= set(listed.data.get("py:exception", ()))
    assert public_names() - entries == set()
    assert (tmp_path / "html" / "search.html").exists()
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


@page
def test_the_console_script_has_the_commands_of_a_page(page):
    for command in re.findall(r"(?<![/\w])unirep-jax (\w+)", TEXTS[page]):
        assert command in COMMANDS, command


def test_the_page_of_losses_to_choose_from_names_kernels_and_settings_that_exist():
    table = TEXTS["which_loss.md"].partition("## Before")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 12
    for name in re.findall(r"`(\w+)`", "".join(rows)):
        assert name in losses.__all__, name


def test_claims_of_papers_stand_on_pages_of_results_that_have_their_numbers():
    """Every number of a row stands on the page that the row links."""
    text = TEXTS["papers.md"]
    rows = [line for line in text.splitlines() if re.search(r"\(results/\w+\.md\) \|$", line)]
    assert len(rows) >= 20
    for row in rows:
        source = re.search(r"\((results/\w+\.md)\)", row)[1]
        known = (ROOT / "docs" / source).read_text("utf-8")
        found = row.split("|")[4]
        for number in re.findall(r"\d+\.\d", found):
            assert number in known, f"{number} of {row}"


def test_flags_of_commands_exist():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "unirep_jax").glob("*.py"))
    known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', sources)
    for page in ("quickstart.md", "scaling.md", "reproducibility.md"):
        for flag in re.findall(r"`[^`\n]*?--(?!xla_)(\w+)[=`]", TEXTS[page]):
            assert flag in known, f"{page}: --{flag}"


@pytest.mark.parametrize("page", ["quickstart.md", "scaling.md", "tutorial.md"])
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
