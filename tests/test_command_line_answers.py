"""Mistakes on a command line end in one line that says what to give instead."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unirep_jax import process_flags
from unirep_jax.command_line import answering, shipped_configurations
from unirep_jax.train import processes

ROOT = Path(__file__).parents[1]
# Terminals that show ASCII alone: by what Python is told, and by the locale.
ASCII = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "unirep_jax.main", *arguments]


def one_line(*arguments: str, **environment: str) -> str:
    """What the command line answers, which has to be one line and an exit status of 1."""
    result = subprocess.run(
        command(*arguments), cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stdout == "", result
    (line,) = [text for text in result.stderr.splitlines() if "oneDNN" not in text]
    return line


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Writes a configuration; reading one from configs/ imports JAX first."""

    def write(text: str) -> str:
        path = tmp_path_factory.mktemp("configs") / "mine.py"
        path.write_text(text)
        return str(path)

    return write


GOOD = (
    "from ml_collections import ConfigDict\ndef get_config(x=''):\n  return ConfigDict({'a': 1})\n"
)


def test_a_configuration_that_cannot_be_read_is_answered_with_one_line(config):
    assert re.match(r"error: --config: README\.md:\d+: ", one_line("--config=README.md"))
    assert one_line(f"--config={config('')}") == "error: --config: the file defines no get_config()"
    refusing = config("def get_config(x=''):\n  raise ValueError('there is no such method')\n")
    assert one_line(f"--config={refusing}:mcu") == (
        f"error: flag --config={refusing}:mcu: there is no such method"
    )


def test_a_configuration_that_was_not_named_as_one_is_recognised():
    line = one_line("configs/oscmg.py:digits_avt")
    assert line == (
        "error: --config is missing; did you mean --config=configs/oscmg.py:digits_avt?"
    )


def test_settings_of_the_wrong_type_or_name(config):
    good = f"--config={config(GOOD)}"
    assert "--config.a=5.5: invalid literal for int()" in one_line(good, "--config.a=5.5")
    assert "no setting" in one_line(good, "--config.b=1")
    assert "Unknown command line flag 'nope'" in one_line(good, "--nope=3")


def test_a_setting_that_does_not_exist_is_answered_with_the_nearest(config):
    mine = config(
        "from ml_collections import ConfigDict\ndef get_config(x=''):\n"
        "  return ConfigDict({'a': 1, 'method': {'dim': 4, 'codes': 8}})\n"
    )
    line = one_line(f"--config={mine}", "--config.method.dmi=3")
    assert line == "error: no setting 'dmi' (did you mean 'method.dim'?)"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (
            ["--config=configs/oscmg.py:features"],
            r"data set 'features' .*: give --config\.data\.path=FILE_OR_FOLDER \(",
        ),
        (["--config=configs/oscmg.py:mcu"], r"'mcu' .* \(did you mean 'micu'\?\)"),
        (
            ["--config=configs/oscmg.py", "--config.steps=-5"],
            r"--config\.steps=-5 is not a whole number .*; the nearest is 0$",
        ),
        (
            ["--config=configs/oom.py", "--config.task.modality=audo"],
            r"'audo' is none of video, audio, text: give --config\.task\.modality=audio",
        ),
    ],
)
def test_what_a_configuration_cannot_do_names_the_flag_to_set(arguments, answer, tmp_path):
    line = one_line(*arguments, f"--workdir={tmp_path / 'run'}")
    assert line.startswith("error: ") and re.search(answer, line), line


def test_an_unknown_table_of_variants_lists_those_that_there_are(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "unirep_jax.sweep",
            "--config=configs/oscmg.py",
            "--variants=configs/ablations.py:nope",
            f"--workdir={tmp_path}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    (line,) = [text for text in done.stderr.splitlines() if "oneDNN" not in text]
    assert done.returncode == 1 and line.endswith(
        "'nope' is none of losses, jigsaw, mask, codebook, terms, timed, presets"
    )


def test_an_error_in_the_users_own_configuration_keeps_its_traceback(config):
    broken = config("def get_config(x=''):\n  return 1 + 'a'\n")
    result = subprocess.run(command(f"--config={broken}"), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "line 2, in get_config" in result.stderr and "TypeError" in result.stderr


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (("h:1", 2, 5), r"--process=5 is none of --processes=2: 0 to 1"),
        (("h:1", 2, -1), r"--process=-1 is none of --processes=2: 0 to 1"),
        ((None, None, -1), r"--process=-1 is none"),
        ((None, 0, None), r"--processes=0 is not 1 or more"),
        (("here", 2, 0), r"--coordinator=here is not HOST:PORT"),
        ((":80", 2, 0), r"--coordinator=:80 is not HOST:PORT"),
        (("here:0", 2, 0), r"--coordinator=here:0 is not HOST:PORT"),
        (("here:99999", 2, 0), r"--coordinator=here:99999 is not HOST:PORT"),
        (("here:x", 2, 0), r"--coordinator=here:x is not HOST:PORT"),
    ],
)
def test_processes_that_cannot_meet_are_refused_by_flag(given, answer):
    with pytest.raises(ValueError, match=f"^{re.escape(answer)}"):
        process_flags._check(*given)


def test_processes_that_can_meet_pass():
    for given in (("h:1", 2, 1), ("10.0.0.1:8476", 1, 0), (None, None, None), ("[::1]:80", 4, 3)):
        process_flags._check(*given)


def test_a_launchers_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "two")
    with pytest.raises(ValueError, match="SLURM_STEP_NUM_TASKS='two' of the environment is no num"):
        processes.detected()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    assert processes.detected()


def test_a_signal_while_all_is_still_imported_is_one_line(config):
    slow = config("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        command(f"--config={slow}"),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == "SIGINT: ended; the same command goes on from what is saved\n"


def test_signals_are_heeded_before_anything_slow_is_imported():
    """Python itself starts in some 20 ms; a key may be pressed at any time after that."""
    for delay in (0.1, 0.2, 0.4, 0.8):
        process = subprocess.Popen(
            command("--config=configs/oscmg.py"),
            cwd=ROOT,
            text=True,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        if process.returncode == -signal.SIGINT:
            continue  # before Python had begun
        assert process.returncode == 130 and len(error.splitlines()) == 1, error


@pytest.mark.parametrize("backend", ["nonsense", "module://not_there", "TkAgg", "agg"])
def test_figures_are_drawn_whatever_backend_is_named(tmp_path, backend):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from unirep_jax.evaluation.figures import training_curves\n"
        "here = Path(sys.argv[1]); log = here / 'm.jsonl'\n"
        'log.write_text(\'{"step": 1, "loss": 1.0}\\n{"step": 2, "loss": 0.5}\\n\')\n'
        "training_curves(here / 't.png', log); print(os.environ['MPLBACKEND'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": backend},
        check=True,
    )
    assert (tmp_path / "t.png").stat().st_size > 1000 and done.stdout == f"{backend}\n"


@pytest.mark.parametrize("locale", ASCII, ids=["encoding", "locale"])
def test_a_terminal_without_unicode_gets_what_it_can_show(locale):
    for program in (
        "from unirep_jax.terminal import say; say('video \\u2192 audio')",
        "from unirep_jax import terminal; terminal.escape_what_cannot_be_shown()\n"
        "print('video \\u2192 audio')",
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | locale,
            check=True,
            capture_output=True,
        )
        assert done.stdout == b"video \\u2192 audio\n"


def test_nobody_has_to_read_what_is_said():
    program = (
        "import os; from unirep_jax.terminal import say\n"
        "reader, writer = os.pipe(); os.dup2(writer, 1); os.close(writer); os.close(reader)\n"
        "say('x'); os._exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 7


@pytest.mark.parametrize(
    ("given", "file"),
    [
        (["--config=oscmg"], "oscmg.py"),
        (["--config", "oscmg:dcid"], "oscmg.py:dcid"),
        (["--config=configs/tables/oscmg.py"], "tables/oscmg.py"),
        (["--variants=ablations:losses"], "ablations.py:losses"),
    ],
)
def test_shipped_configurations_are_named_without_their_folder(given, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = shipped_configurations(given)[-1].removeprefix("--config=").removeprefix("--variants=")
    assert last == str(ROOT / "configs" / file)


def test_a_file_of_ones_own_stays_as_it_is_and_an_unknown_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oscmg").write_text("")
    arguments = ["--config=oscmg", "--config=mine/there.py:x", "--config.steps=3", "run"]
    assert shipped_configurations(arguments) == arguments
    with pytest.raises(SystemExit, match=r"no file 'retreival'.*did you mean 'retrieval'"):
        shipped_configurations(["--config=retreival:digits_avt"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("Unable to allocate 9 GiB"), "error: out of memory: Unable to allocate 9 GiB"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"), "out of memory of the device"),
    ],
)
def test_no_memory_is_one_line(error, line):
    with pytest.raises(SystemExit) as stop, answering(()):
        raise error
    assert line in str(stop.value.code) and "\n" not in str(stop.value.code)


def test_a_defect_shows_its_traceback():
    with pytest.raises(RuntimeError, match="defect"), answering((ValueError,)):
        raise RuntimeError("defect")
