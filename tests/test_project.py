"""The files around the code: workflows, templates, version, changelog."""

import re
import tomllib
from pathlib import Path

import pytest

import unirep_jax

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
yaml = pytest.importorskip("yaml", reason="workflows are read with PyYAML, which myst-parser needs")
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@each
def test_a_workflow_may_only_read_and_ends_by_itself(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job and 0 < job["timeout-minutes"] <= 360
        checkouts = [s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout")]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


@each
def test_actions_are_pinned_by_the_hash_of_a_commit_with_the_version_beside_it(path):
    used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_an_action_has_one_version_in_all_workflows():
    texts = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    pins = set(re.findall(r"uses: (.*)", texts))
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_workflows_run_sessions_that_nox_has_on_every_python_that_is_supported():
    sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.M)
    named = set()
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text("utf-8"))
        for job in workflow["jobs"].values():
            matrix = job.get("strategy", {}).get("matrix", {})
            for run in (step.get("run", "") for step in job["steps"]):
                named |= set(re.findall(r'nox -s "?(\w+)', run))
                named |= {*matrix["session"]} if "matrix.session" in run else set()
    assert named == set(sessions)
    tests = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["tests"]
    noxfile = (ROOT / "noxfile.py").read_text("utf-8")
    pythons = re.search(r"python=(\[[^\]]*\])", noxfile)[1]
    assert str(tests["strategy"]["matrix"]["python"]).replace("'", '"') == pythons
    assert f"ids={tests['strategy']['matrix']['jax']}".replace("'", '"') in noxfile


def test_every_slow_test_is_in_a_share_of_the_workflow_that_runs_them():
    workflow = yaml.safe_load((ROOT / ".github/workflows/slow.yml").read_text("utf-8"))
    shares = []
    for share in workflow["jobs"]["slow"]["strategy"]["matrix"]["share"]:
        places = [*(ROOT / "tests").glob(share)]
        files = {file for place in places for file in (place, *place.rglob("test_*.py"))}
        shares.append(
            {path for path in files if path.is_file() and "mark.slow" in path.read_text()}
        )
    slow = {p for p in (ROOT / "tests").rglob("test_*.py") if "mark.slow" in p.read_text()}
    assert all(shares) and set.union(*shares) == slow


def test_templates_of_issues_ask_for_what_is_needed_to_repeat_a_run():
    forms = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in TEMPLATES}
    assert {"bug", "result", "proposal", "config"} == set(forms)
    for name, form in forms.items():
        if name != "config":
            assert any(field["validations"]["required"] for field in form["body"])
    assert "unirep-jax doctor" in str(forms["bug"])


def test_the_version_is_said_once_and_the_changelog_and_the_citation_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dynamic"] == ["version"] and "version" not in project
    newest = re.search(
        r"^## (\S+) \(\d{4}-\d{2}-\d{2}\)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert newest[1] == unirep_jax.__version__
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {unirep_jax.__version__}\n" in citation
