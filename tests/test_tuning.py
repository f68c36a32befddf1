"""Successive halving on held-out training examples."""

import json

import pytest
from ml_collections import ConfigDict

from unirep_jax import tuning
from unirep_jax.evaluation.measurements import Measurement, write_measurements
from unirep_jax.workdir import ConfigError, default_workdir

METRIC = "recall_at_1"


def config(search=4, **changes):
    return ConfigDict(
        {
            "experiment": "retrieval",
            "seed": 0,
            "steps": 80,
            "data": {"name": "toy", "path": ""},
            "method": {"name": "mover", "dropout": 0.1, "warm_start": 40},
            "train": {"lr": 1e-3, "warmup": 8},
            "task": {"control": True, "retrace": True},
            "pretrain": {"path": ""},
            "search": search,
            "space": {
                "steps": (80, 160),
                "train": {"lr": (1e-3, 1e-2)},
                "method": {"dropout": (0.1, 0.3, 0.5)},
            },
        }
        | changes
    )


@pytest.fixture
def runs(monkeypatch):
    """Runs that learn the better, the closer dropout is to .3; and what they were given."""
    made = []

    def run(settings, workdir, *, trial):
        assert trial
        made.append((workdir, settings))
        workdir.mkdir(parents=True)
        value = 0.5 - abs(settings.method.dropout - 0.3) + settings.steps / 1e4
        row = ("retrieval", "mover", "toy", "all", "a", "b", METRIC, value, 10, 0, "none")
        write_measurements(workdir / "results.jsonl", [Measurement(*row)])
        return workdir

    monkeypatch.setattr(tuning, "run", run)
    monkeypatch.setattr(tuning, "load_settled", lambda config: (None, config, {}))
    return made


def test_the_best_setting_is_found_and_everything_tried_is_written(tmp_path, runs):
    found = tuning.tuned(config(search=12), tmp_path)
    assert found.method.dropout == 0.3 and found.steps == 160
    lines = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    assert [sum(line["rung"] == rung for line in lines) for rung in range(4)] == [12, 6, 3, 2]
    assert "--config.method.dropout=0.3" in (tmp_path / "search.md").read_text()


def test_trials_see_held_out_training_examples_and_no_baselines(tmp_path, runs):
    tuning.tuned(config(), tmp_path)
    for _, trial in runs:
        assert trial.data.held_out == tuning.HELD_OUT
        assert trial.search == 0 and not trial.task.control and not trial.task.retrace
        assert trial.pretrain.path == str(tmp_path / "pretrain")


def test_the_last_round_has_all_steps_and_the_first_a_part_of_every_phase(tmp_path, runs):
    tuning.tuned(config(search=4), tmp_path)
    first, last = runs[0][1], runs[-1][1]
    assert (first.steps, first.method.warm_start, first.train.warmup) == (40, 20, 4)
    assert last.steps in (80, 160) and (last.method.warm_start, last.train.warmup) == (40, 8)


def test_the_configurations_own_setting_is_the_first(tmp_path, runs):
    drawn = tuning.draw_settings(config(), 6, seed=3)
    assert drawn[0] == {} and len({json.dumps(d, sort_keys=True) for d in drawn}) == 6
    assert tuning.draw_settings(config(), 6, seed=3) == drawn
    assert tuning.draw_settings(config(), 6, seed=4) != drawn


def test_no_more_settings_are_drawn_than_there_are():
    assert len(tuning.draw_settings(config(), 100, seed=0)) == 12


def test_the_result_is_the_whole_configuration_without_what_trials_changed(tmp_path, runs):
    found = tuning.tuned(config(), tmp_path)
    assert "held_out" not in found.data and found.task.control is True and not found.pretrain.path
    assert found.method.warm_start == 40


def test_without_search_nothing_is_tried(tmp_path, runs):
    plain = config(search=0)
    assert tuning.tuned(plain, tmp_path) is plain and not runs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": 1}, "search=1 settings; at least 2"),
        ({"space": {}}, "no `space` to search"),
        ({"experiment": "transfer"}, "evaluated on other data sets"),
        ({"steps": 0}, "mover is not trained by steps"),
        ({"space": {"method": {"nope": (1, 2)}}}, r"space\.method\.nope: the configuration has no"),
    ],
)
def test_what_cannot_be_searched_is_said_before_any_trial(changes, message, tmp_path, runs):
    with pytest.raises(ConfigError, match=message):
        tuning.tuned(config(**changes), tmp_path)
    assert not runs


def test_a_search_has_a_folder_of_its_own():
    assert default_workdir(config(0)) != default_workdir(config(4)) != default_workdir(config(8))
