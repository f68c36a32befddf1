"""The folder of a run: finished by count and hash, of one training, of one evaluation at a time."""

import json

import pytest
from ml_collections import ConfigDict

from unirep_jax.workdir import (
    ConfigError,
    default_workdir,
    is_finished,
    seal,
    set_other_results_aside,
    verify_config,
    write_config,
)

EVALUATION = ("protocol.folds", "protocol.probe")
OF = {"training": {"seed": 0, "data: values (hash)": "a"}, "evaluation": {"protocol.folds": 3}}


def config(**changes) -> ConfigDict:
    made = ConfigDict(
        {
            "experiment": "e",
            "seed": 0,
            "method": {"name": "m"},
            "data": {"name": "d", "path": "a"},
            "train": {"lr": 0.1, "log_every": 10, "checkpoint_every": 10},
            "protocol": {"known": (1, 2), "folds": 3, "probe": {"steps": 10}},
        }
    )
    made.update_from_flattened_dict(changes)
    return made


@pytest.fixture
def finished(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"value": 0.5}\n{"value": 0.25}\n')
    (tmp_path / "results.md").write_text("table")
    seal(tmp_path, OF)
    return tmp_path


def test_a_run_is_finished_once_its_results_are_sealed(finished):
    assert is_finished(finished) and is_finished(finished, OF)
    assert json.loads((finished / "complete.json").read_text())["count"] == 2
    other = OF | {"evaluation": {"protocol.folds": 4}}
    assert not is_finished(finished, other)


@pytest.mark.parametrize("content", ["", '{"value": 0.5}\n', '{"value": 0.5}\n{"value": 0.26}\n'])
def test_results_that_are_empty_cut_or_changed_are_not_finished(finished, content):
    (finished / "results.jsonl").write_text(content)
    assert not is_finished(finished)


@pytest.mark.parametrize("seal", ["", "{", "[]", '{"count": 2}', "[" * 100_000, None])
def test_without_a_whole_seal_nothing_is_finished(finished, seal):
    if seal is None:
        (finished / "complete.json").unlink()
    else:
        (finished / "complete.json").write_text(seal)
    assert not is_finished(finished)
    set_other_results_aside(finished, OF)


def test_an_empty_file_of_results_is_not_finished_even_with_a_seal(tmp_path):
    (tmp_path / "results.jsonl").touch()
    seal(tmp_path, OF)
    assert not is_finished(tmp_path)


def test_results_of_another_evaluation_are_kept_aside(finished, capsys):
    set_other_results_aside(finished, OF | {"evaluation": {"protocol.folds": 4}})
    assert "protocol.folds is 3 there and 4 here: evaluating again" in capsys.readouterr().out
    assert not is_finished(finished) and not (finished / "results.jsonl").exists()
    (place,) = (finished / "earlier").iterdir()
    assert is_finished(place, OF) and (place / "results.md").read_text() == "table"


def test_results_of_other_data_are_refused(finished):
    other = OF | {"training": {"seed": 0, "data: values (hash)": "b"}}
    with pytest.raises(ConfigError, match=r"results of another run: data: values .* 'a' there"):
        set_other_results_aside(finished, other)
    assert is_finished(finished, OF)


def test_the_configuration_of_a_folder_is_that_of_its_training(tmp_path):
    assert not verify_config(tmp_path, config(), EVALUATION)
    write_config(tmp_path, config(), EVALUATION)
    for same in (
        {"protocol.folds": 5},
        {"protocol.probe.steps": 20},
        {"data.path": "there"},
        {"train.log_every": 20},
        {"train.checkpoint_every": 7},
    ):
        assert verify_config(tmp_path, config(**same), EVALUATION), same
    for other in ({"protocol.known": (1, 3)}, {"train.lr": 0.2}, {"seed": 1}):
        with pytest.raises(ConfigError, match=r"config\.json is of another run: .* there"):
            verify_config(tmp_path, config(**other), EVALUATION)
    write_config(tmp_path, config(**{"protocol.folds": 5}), EVALUATION)
    assert json.loads((tmp_path / "config.json").read_text())["protocol"]["folds"] == 5


def test_the_default_name_is_a_function_of_what_training_depends_on():
    name = default_workdir(config(), EVALUATION)
    assert name == default_workdir(config(**{"protocol.folds": 5}), EVALUATION)
    assert name == default_workdir(config(**{"train.checkpoint_every": 5}), EVALUATION)
    for other in ({"data.path": "there"}, {"train.lr": 0.2}, {"protocol.known": (1, 3)}):
        assert name != default_workdir(config(**other), EVALUATION)
    assert name != default_workdir(config(**{"protocol.folds": 5}))
