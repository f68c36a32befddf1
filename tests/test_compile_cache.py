"""Compiled programs are kept where nobody else can write, and nowhere else."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unirep_jax import compile_cache
from unirep_jax.compile_cache import CacheFolderError, default_folder, private_folder

PROGRAM = """
import sys
from absl import flags
from unirep_jax import compile_cache
flags.FLAGS(sys.argv)
compile_cache.use_compile_cache()
import jax
jax.jit(lambda x: x * 3 + 1)(1.0)
"""


def programs(folder: Path) -> list[Path]:
    return [*folder.glob("*/jit__lambda*")]


def run(*arguments: str, **environment: str) -> str:
    names = {"XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"}
    inherited = {k: v for k, v in os.environ.items() if k not in names}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=inherited | environment,
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    ).stdout


def test_it_is_a_folder_of_the_user_alone_unless_the_flag_says_else(tmp_path):
    assert run(XDG_CACHE_HOME=str(tmp_path)) == ""
    folder = tmp_path / "unirep_jax" / "compiled"
    assert programs(folder) and stat.S_IMODE(folder.stat().st_mode) == 0o700
    run("--compile_cache=off", XDG_CACHE_HOME=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    run(f"--compile_cache={tmp_path / 'own'}", XDG_CACHE_HOME=str(tmp_path / "none"))
    assert programs(tmp_path / "own") and not (tmp_path / "none").exists()


def test_jaxs_own_variable_is_heeded(tmp_path):
    theirs = str(tmp_path / "theirs")
    run(JAX_COMPILATION_CACHE_DIR=theirs, XDG_CACHE_HOME=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_relative_path_of_the_environment_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_folder() == tmp_path / ".cache" / "unirep_jax" / "compiled"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o702])
def test_a_folder_that_is_open_to_others_is_refused(tmp_path, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CacheFolderError, match=f"is open to others: chmod 700 {folder}"):
        private_folder(folder)


def test_a_link_and_the_folder_of_another_user_are_refused(tmp_path, monkeypatch):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    with pytest.raises(CacheFolderError, match="is a link"):
        private_folder(link)
    monkeypatch.setattr(compile_cache.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(CacheFolderError, match="belongs to another user"):
        private_folder(real)


def test_a_folder_that_everybody_can_replace_is_refused(tmp_path):
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(CacheFolderError, match=f"{place} can be written by everybody"):
        private_folder(place / "cache")
    place.chmod(0o1777)  # as /tmp: nobody can rename what is another's
    private_folder(place / "cache")


def test_machines_of_other_kinds_do_not_share_programs(tmp_path, monkeypatch):
    """One home may be that of several machines; a program may use what only one of them has."""
    here = private_folder(tmp_path / "cache")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor: 0\nflags : fpu avx512\n")
    there = private_folder(tmp_path / "cache")
    assert here != there and here.parent == there.parent == tmp_path / "cache"


def test_the_oldest_programs_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "LARGEST", 250)
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compile_cache._remove_oldest(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
