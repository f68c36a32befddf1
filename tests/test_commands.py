"""One command with a subcommand for every module that runs as a program."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import unirep_jax
from unirep_jax.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "unirep_jax"
# `prepare` calls it; the dispatcher is no command of itself.
INNER = {"unirep_jax.data.tuxpaint", "unirep_jax"}


def run(*arguments):
    command = [sys.executable, "-m", "unirep_jax", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_every_module_that_runs_as_a_program_is_a_command():
    programs = set()
    for path in PACKAGE.rglob("*.py"):
        if re.search(r'^if __name__ == "__main__":', path.read_text("utf-8"), re.MULTILINE):
            parts = path.relative_to(ROOT).with_suffix("").parts
            programs.add(".".join(part for part in parts if part != "__main__"))
    assert programs - INNER == {module for module, _ in COMMANDS.values()}


def test_the_console_script_is_the_dispatcher():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["unirep-jax"].partition(":")
    assert getattr(import_module(module), function) is main


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_lists_every_command(arguments, capsys):
    main(arguments)
    shown = capsys.readouterr().out
    assert shown.startswith("usage: unirep-jax COMMAND")
    assert re.findall(r"^  (\w+) ", shown, re.MULTILINE) == [*COMMANDS]


def test_the_version_is_that_of_the_package(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"unirep_jax {unirep_jax.__version__}\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "doctor"])
def test_the_help_of_a_command_is_that_of_its_module_with_its_flags(command):
    result = run(command, "--help")
    assert result.returncode in (0, 1), result.stderr  # absl ends --help with 1
    module, _ = COMMANDS[command]
    assert f"python -m {module}" in result.stdout and "--" in result.stdout
    assert "Traceback" not in result.stderr


def test_an_unknown_command_is_answered_with_the_nearest():
    result = run("trian")
    assert result.returncode == 1
    assert result.stderr == "error: no command 'trian'; did you mean 'train'?\n"
    assert "there are train, sweep" in run("xyzzy").stderr


def test_arguments_reach_the_command_and_its_errors_are_one_line(tmp_path):
    result = run("report", str(tmp_path / "absent"))
    assert result.returncode == 1 and "absent" in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    result = run("train", "--config=configs/oscmg.py", "--config.stesp=3")
    assert result.returncode == 1 and "'stesp'" in result.stderr


def test_a_command_without_the_extra_that_it_needs_says_what_to_install():
    program = (
        "import sys; sys.modules['absl'] = None\n"
        "from unirep_jax.__main__ import main; main(['sweep', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'unirep_jax[train]'" in done.stderr.splitlines()[-1]


def test_encoders_of_a_configuration_without_any_are_refused_in_one_line(tmp_path):
    result = run("pretrain", "--config=configs/oscmg.py", f"--out={tmp_path}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: --config: this configuration starts from no frozen encoders"
    )


def test_encoders_are_trained_once_for_the_runs_that_name_their_folder(tmp_path):
    few = ["--config.pretrain.steps=10", "--config.pretrain.train.log_every=10"]
    few += ["--config.pretrain.train.checkpoint_every=10", f"--out={tmp_path}"]
    few += ["--config.pretrain.method.dim=8", "--config.pretrain.method.layers=0"]
    result = run("pretrain", "--config=configs/connect.py", *few)
    assert result.returncode == 0, result.stderr
    made = sorted(tmp_path.glob("*/model/model.json"))
    assert len(made) == 2 and all(str(path.parent) in result.stdout for path in made)
    times = [path.stat().st_mtime_ns for path in made]
    again = run("pretrain", "--config=configs/connect.py", *few)
    assert again.returncode == 0 and "pretraining" not in again.stdout
    assert [path.stat().st_mtime_ns for path in made] == times
