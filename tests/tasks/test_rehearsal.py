"""The evaluation is rehearsed before training: what it refuses costs no training."""

import dataclasses

import numpy as np
import pytest
from test_matrix import TASK_SETTINGS, config_of

from unirep_jax import command_line, experiment, rehearsal
from unirep_jax.data import FeatureSet, save_features
from unirep_jax.data.sample import few, few_rows
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.ready import load
from unirep_jax.tasks import TASKS
from unirep_jax.workdir import ConfigError

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def path(paired_features, tmp_path):
    save_features(tmp_path / "toy.npz", paired_features)
    return tmp_path / "toy.npz"


# -- a few examples --------------------------------------------------------------------------


def test_a_few_examples_are_of_every_class_part_and_modality(rng):
    count = 4000
    label = rng.integers(-1, 5, count)
    train = rng.random(count) < 0.5
    present = {m: rng.random(count) < 0.6 for m in "ab"}
    present["a"] |= ~present["b"]
    features = {m: rng.normal(size=(count, 2)).astype(np.float32) for m in "ab"}
    group = rng.integers(0, 9, count)
    data = FeatureSet.from_arrays("d", features, label, train, present=present, group=group)
    rows = few_rows(data, 3)
    assert len(rows) <= 6 * 2 * 3 * 2 and (np.diff(rows) > 0).all()
    for c in range(-1, 5):
        for part in (True, False):
            own = rows[(label[rows] == c) & (train[rows] == part)]
            for m in "ab":
                here = own[present[m][own]]
                assert len(here) >= 3
                assert len(np.unique(group[here])) >= 3, "of different groups"
            assert (present["a"][own] & present["b"][own]).sum() >= 3, "that can be paired"
    part = few(data, 3)
    np.testing.assert_array_equal(part.features["a"], features["a"][rows])
    np.testing.assert_array_equal(part.label, label[rows])
    assert few(data, 0) is data and few(data, count) is data


def test_fewer_than_asked_are_all_that_there_are(paired_features):
    assert few(paired_features, 1000) is paired_features
    assert len(few_rows(paired_features, 2)) == 4 * 2 * 2


# -- tasks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_rehearsed_task_takes_one_step_and_keeps_what_is_measured(name):
    settings = TASK_SETTINGS[name]
    task = TASKS[name](**settings)
    rehearsed = task.rehearsal()
    assert type(rehearsed) is type(task)
    probes = [rehearsed] if "probe" in settings else []
    probes += [t for t in getattr(rehearsed, "tasks", ()) if hasattr(t, "probe")]
    assert all(t.probe["steps"] == 1 for t in probes)
    assert len(probes) == {"matrix": 2}.get(name, int("probe" in settings))
    changed = {"probe", "event_probe", "known", "oscmg", "retrieval", "few_label"}
    for field in dataclasses.fields(task):
        if field.name not in changed:
            assert getattr(rehearsed, field.name) == getattr(task, field.name)


@pytest.mark.parametrize("name", ["cmg", "oscmg", "few_label", "transfer"])
def test_a_probe_without_steps_is_refused_before_it_is_shortened(name):
    with pytest.raises(ValueError, match=r"probe\.steps"):
        TASKS[name](probe={"steps": 0})


# -- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("no direction can be measured"), "training: no direction can be measured$"),
        (IndexError("of 3"), r"training: IndexError: of 3 \(test_rehearsal.py:\d+\)$"),
        (OSError(36, "File name too long"), "File name too long$"),
        ("\ud800".encode, "UnicodeEncodeError"),
    ],
)
def test_whatever_evaluation_ends_with_is_one_line_before_training(
    path, tmp_path, monkeypatch, capfd, error, says
):
    def refuse(self, trained):
        raise error if isinstance(error, Exception) else AssertionError(error())

    monkeypatch.setattr(TASKS["retrieval"], "evaluate", refuse)
    with pytest.raises(ConfigError, match=f"the evaluation would fail after.*{says}") as caught:
        experiment.run(config_of("pairwise", "retrieval", path), tmp_path / "run")
    assert "\n" not in str(caught.value) and "training step" not in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_more_examples_are_tried_where_few_are_too_few_for_a_split(path, tmp_path, monkeypatch):
    sizes, rehearse = [], rehearsal._rehearse

    def seen(config, data, count, folder):
        sizes.append(len(data.label))
        rehearse(config, data, count, folder)

    monkeypatch.setattr(rehearsal, "_rehearse", seen)
    config = config_of("pairwise", "few_label", path, **{"task.labelled": 0.15})
    config.task.control = False
    data = load(config)
    rehearsal.rehearse(config, data, tmp_path / "run")
    assert sizes == [32, 96], "4 of each class and part, of which 15 % are no example of a class"
    assert not any((tmp_path / "run").iterdir())


def test_a_rehearsal_changes_nothing_and_only_a_new_run_has_one(path, tmp_path, monkeypatch):
    config = config_of("micu", "cmg", path)
    config.task.control = False
    ready = []
    rehearse = experiment.rehearse
    monkeypatch.setattr(experiment, "rehearse", lambda *_: ready.append("left out"))
    without = experiment.run(config, tmp_path / "without")
    monkeypatch.setattr(
        experiment, "rehearse", lambda *given: (rehearse(*given), ready.append("rehearsed"))
    )
    with_one = experiment.run(config, tmp_path / "with")
    assert ready == ["left out", "rehearsed"]
    for name in ("config.json", "metrics.jsonl", "results.jsonl", "results.md"):
        assert (with_one / name).read_bytes() == (without / name).read_bytes(), name
    weights = "model/weights.safetensors"
    assert (with_one / weights).read_bytes() == (without / weights).read_bytes()
    assert not (with_one / "rehearsal").exists()
    experiment.run(config, with_one)  # finished
    config.task.probe.steps = 3
    experiment.run(config, with_one)  # evaluated again
    assert len(ready) == 2
    assert len(read_measurements(with_one / "results.jsonl")) > 5


def test_frozen_encoders_are_not_trained_for_a_rehearsal(path, tmp_path, capfd):
    config = config_of("cmcr", "connect", path, **{"train.fused": 2})
    rehearsal.rehearse(config, load(config), tmp_path / "run")
    printed = "".join(capfd.readouterr())
    assert "rehearsed the evaluation" in printed and "pretraining" not in printed


def test_an_out_of_modal_network_without_training_is_evaluated(path, tmp_path):
    config = config_of("cox", "oom", path, **{"task.retrace": True})
    rehearsal.rehearse(config, load(config), tmp_path / "run")


# -- names -----------------------------------------------------------------------------------

NAMES = {
    "mathematics": "$x_$ {\\frac",
    "half of a pair": "a\udc80b\ud800",
    "long": "n" * 250,
    "a path": "../../x/\x00\x1b[31m",
    "no letters": "\u202e\u2028",
}


@pytest.mark.parametrize("task", ["cmg", "retrieval", "mmosr"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_others_chose_pass_through_figures_tables_and_files(
    name, task, paired_features, tmp_path, monkeypatch
):
    text = NAMES[name]
    classes = tuple(f"{text}{i}" for i in range(4))
    named = dataclasses.replace(paired_features, class_names=classes)
    given = FeatureSet.from_arrays(
        text, named.features, named.label, named.train, class_names=classes
    )
    monkeypatch.setattr("unirep_jax.ready.load_data", lambda **_: given)
    method = {"cmg": "micu", "retrieval": "pairwise", "mmosr": "concat"}[task]
    config = config_of(method, task, "unused")
    with command_line.answering(experiment.FAILURES):
        rehearsal.rehearse(config, load(config), tmp_path / "run")


def test_sources_of_many_long_modalities_have_files_of_their_own(tmp_path, rng):
    names = [f"{letter * 60}" for letter in "abcde"]
    label = np.arange(64) % 4
    features = {m: rng.normal(size=(64, 3)).astype(np.float32) for m in names}
    data = FeatureSet.from_arrays("long", features, label, np.arange(64) < 40)
    save_features(tmp_path / "long.npz", data)
    config = config_of("tmc", "mmosr", tmp_path / "long.npz")
    rehearsal.rehearse(config, load(config), tmp_path / "run")
