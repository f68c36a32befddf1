"""The doctor finds this machine well, and says what to do about one that is not."""

import subprocess
import sys

import pytest

from unirep_jax import doctor


def test_a_machine_that_passes_these_tests_is_well():
    result = subprocess.run(
        [sys.executable, "-m", "unirep_jax.doctor"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all is well" in result.stdout and "FAIL" not in result.stdout


@pytest.mark.parametrize(
    ("found", "fails"),
    [("0.6.1", False), ("0.5.9", True), ("0.7", True), ("0.7.1", True), ("0.6.0rc1", False)],
)
def test_versions_that_are_too_old_or_too_new_are_named_with_the_command(monkeypatch, found, fails):
    monkeypatch.setattr(doctor, "version", lambda name: found)
    finding = doctor._package("ott-jax", "0.6.0", "0.7", "transport plans")
    assert bool(finding.remedy) == fails
    if fails:
        assert finding.remedy == "transport plans: pip install 'ott-jax>=0.6.0,<0.7'"


def test_what_is_absent_is_named_with_what_needs_it():
    finding = doctor._package("no-such-package-at-all", "1.0", "", "dreams")
    assert finding.found == "absent" and "dreams: pip install 'no-such" in finding.remedy


def test_both_tensorflows_at_once_are_refused(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "2.21.0")
    assert "uninstall" in doctor._tensorflow().remedy


def test_an_accelerator_that_does_not_start_is_reported_with_its_last_words(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "no_such_platform")
    (finding,) = doctor._devices()
    assert "no_such_platform" in finding.found and "JAX_PLATFORMS=cpu" in finding.remedy


def test_a_full_or_closed_disk_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SMALL_DISK", 2**80)
    assert "elsewhere" in doctor._disk(tmp_path).remedy
    assert "can be written" in doctor._disk(tmp_path / "absent").remedy


def test_a_machine_with_too_little_memory_is_reported(monkeypatch):
    assert doctor._memory().remedy == ""
    monkeypatch.setattr(doctor, "SMALL_MEMORY", 2**80)
    assert "2 GiB or more" in doctor._memory().remedy


def test_a_folder_of_compiled_programs_that_others_can_write_is_reported(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor._compiled_programs().remedy == ""
    (tmp_path / "unirep_jax" / "compiled").chmod(0o777)
    finding = doctor._compiled_programs()
    assert "open to others" in finding.found and "--compile_cache=DIR" in finding.remedy


def test_an_extra_that_is_absent_is_named_with_its_packages_and_is_no_failure(monkeypatch):
    lines = ["jax>=0.7.2", "av>=12.1; extra == 'media'", "no-such-package>=1; extra == 'media'"]
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "_installed", lambda name: name == "av")
    finding = doctor._extra("media")
    assert finding.remedy == ""
    assert finding.found == "without no-such-package (pip install 'unirep_jax[media]')"
    assert doctor._extra("notebooks").found == "not of this version"
