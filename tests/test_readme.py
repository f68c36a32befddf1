"""What the README and the documentation show runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert names["loss"].shape == ()


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"<!-- test command -->\n```bash\n(.*?)\n```", readme)
    assert command and command[1].startswith("pip install -e '.[test]' && pytest")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()
