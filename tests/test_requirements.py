"""What CI and the launch scripts install: one version of every package, each file by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FILES = ("test", "train")
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64"}
PYTHONS = ("3.11", "3.12", "3.13")


def blocks(name: str) -> list[str]:
    """The lines of each package as one."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def environment(python: str) -> dict[str, str]:
    full = {"python_version": python, "python_full_version": f"{python}.9", "extra": ""}
    return LINUX | full


def pinned(name: str, python: str) -> dict[str, str]:
    """Version of every package that this Python installs on Linux."""
    found = {}
    for block in blocks(name):
        requirement = Requirement(block.partition("--hash")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            assert requirement.name not in found, f"{requirement.name} twice on Python {python}"
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


def direct(extra: str, python: str) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras of its own that an extra names."""
    found = []
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == "unirep-jax":
            found += [r for inner in requirement.extras for r in direct(inner, python)]
        elif requirement.marker is None or Marker(str(requirement.marker)).evaluate(
            environment(python)
        ):
            found.append(requirement)
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_package_has_one_version_and_hashes_and_no_place(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|^-|^/|@ ", text, re.MULTILINE)
    assert len(blocks(name)) > 50
    for block in blocks(name):
        pattern = r"[\w.-]+==[\w.]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *"
        assert re.fullmatch(pattern, block), block[:200]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", FILES)
def test_what_the_project_asks_for_is_pinned_within_its_bounds(name, python):
    versions = pinned(name, python)
    for requirement in direct(name, python):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version}"


def test_ci_and_the_launch_scripts_install_them_first():
    uses = {".ci/run": "test", "launch/tpu_vm.sh": "train", "launch/skypilot.yaml": "train"}
    for script, name in uses.items():
        text = (ROOT / script).read_text(encoding="utf-8")
        assert f"--require-hashes -r requirements/{name}.txt" in text, script
