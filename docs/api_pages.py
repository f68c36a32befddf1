"""Pages of the public functions and classes, written from the package itself before each build."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# Page: title, and the packages and modules on it. Loss kernels and metrics have pages of their own,
# which put them in an order to read.
PAGES = {
    # First these; then every module of the package that stands nowhere else.
    "runs": ("Runs and trained models", ("model_files", "model", "search", "experiment", "sweep")),
    "methods": ("Methods", ("methods",)),
    "tasks": ("Tasks", ("tasks",)),
    "models": ("Networks", ("models",)),
    "evaluation": ("Evaluation", ("evaluation",)),
    "train": ("Training", ("train", "compile_cache", "process_flags", "command_line")),
    "data": ("Data", ("data",)),
    "connect": ("Connectors and aggregation", ("connect", "aggregate")),
    "report": ("Reports", ("report", "progress_bar", "terminal")),
}
# Command lines that define nothing else, and what has pages by hand.
ELSEWHERE = ("main", "pretrain_encoders", "losses", "metrics")


def write_pages(folder: Path) -> None:
    """Writes a page for each of `PAGES`, and one that lists them; unchanged ones are left alone."""
    folder.mkdir(exist_ok=True)
    listed = {root for _, roots in PAGES.values() for root in roots}
    package = importlib.import_module("unirep_jax")
    others = (found.name for found in pkgutil.iter_modules(package.__path__))
    left = tuple(o for o in others if o not in {*listed, *ELSEWHERE} and not o.startswith("_"))
    texts = {
        name: _page(title, roots + (left if name == "runs" else ()))
        for name, (title, roots) in PAGES.items()
    }
    contents = "\n".join(["../losses", "../metrics", *PAGES])
    texts["index"] = (
        "# Every function and class\n\nGenerated from docstrings. Names that begin with an "
        f"underscore are not public.\n\n```{{toctree}}\n:maxdepth: 1\n{contents}\n```\n"
    )
    for name, text in texts.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def modules(root: str) -> Iterator[ModuleType]:
    """A module of the package or, of a folder, all that are public and do not only run."""
    module = importlib.import_module(f"unirep_jax.{root}")
    yield module
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public(module: ModuleType) -> dict[str, object]:
    """Functions and classes that the module itself defines, in the order of its lines."""
    found = {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and getattr(thing, "__module__", None) == module.__name__
        and (inspect.isclass(thing) or inspect.isroutine(thing))
    }
    return dict(sorted(found.items(), key=lambda pair: _line(pair[1])))


def _line(thing: object) -> int:
    try:
        return inspect.getsourcelines(inspect.unwrap(thing))[1]  # type: ignore[arg-type]
    except (OSError, TypeError):
        return 0


def _page(title: str, roots: tuple[str, ...]) -> str:
    lines = [f"# {title}"]
    for root in roots:
        for module in modules(root):
            names = public(module)
            if names:
                about = (inspect.getdoc(module) or "").partition("\n\n")[0].replace("\n", " ")
                lines += ["", f"## `{module.__name__}`", "", _plain(about), "", "```{eval-rst}"]
                lines += [f".. currentmodule:: {module.__name__}", ""]
                for name, thing in names.items():
                    lines += _entry(name, thing)
                lines.append("```")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Markdown that shows the text as it is."""
    return text.replace("*", r"\*").replace("[", r"\[").replace("<", r"\<")


def _entry(name: str, thing: object) -> list[str]:
    if not inspect.isclass(thing):
        return [f".. autofunction:: {name}"]
    members = [
        member
        for member, value in vars(thing).items()
        if (not member.startswith("_") or member == "__call__")
        and isinstance(value, property | classmethod | staticmethod | type(_entry))
        and inspect.getdoc(getattr(value, "__func__", value))
    ]
    shown = [f"   :members: {', '.join(members)}"] if members else []
    special = ["   :special-members: __call__"] if "__call__" in members else []
    return [f".. autoclass:: {name}", *shown, *special]
