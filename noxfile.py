"""Sessions: nox -s tests, lint, types, docs, slow, faults, wheel. After --, their arguments.

The oldest JAX that is supported and the newest, on every Python that each of them runs on; a Python
that the machine does not have is skipped.
"""

import nox

nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.error_on_missing_interpreters = False

OLDEST = ("jax==0.7.2", "jaxlib==0.7.2", "flax==0.11.2")
NEWEST = ("jax", "flax")  # of those that the Python has: 3.11 ends with JAX 0.10


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("jax", [OLDEST, NEWEST], ids=["oldest", "newest"])
def tests(session: nox.Session, jax: tuple[str, ...]) -> None:
    """Everything but what takes minutes; session.posargs instead of the whole suite."""
    session.install("-e", ".[test]", *jax)
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Tests of many processes, and of minutes of training; after --, files for a share of them."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Plants faults in a copy of the package, each of which a fast test has to catch."""
    session.install("-e", ".[test]")
    session.run("python", "tests/plant_faults.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.install("-e", ".[without-tensorflow]", "mypy>=1.18")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """All pages: of every function, and of executed notebooks (after --, the names of some)."""
    session.install("-e", ".[docs]")
    session.run("python", "docs/notebook_pages.py", *session.posargs)
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel builds, and its kernels import where nothing but its dependencies is installed."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder, session.invoked_from)
    session.run("pip", "install", "--find-links", folder, "--no-index", "--no-deps", "unirep_jax")
    session.install("unirep_jax", "--find-links", folder)
    session.chdir(folder)
    session.run("python", "-c", "import unirep_jax.losses, unirep_jax.metrics")
