"""What a network depends on: settings of training and data, told apart in words."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax.experiment import evaluation_sections
from unirep_jax.identity import difference, identity, training_settings
from unirep_jax.tasks import TASKS

CONFIG = ConfigDict(
    {
        "experiment": "oom",
        "train": {"lr": 0.1, "log_every": 5},
        "task": {"modality": "a", "retrace": True},
    }
)


@pytest.mark.parametrize("change", ["one value", "one label", "one more", "a missing modality"])
def test_a_change_of_the_data_is_named(paired_features, change):
    data = paired_features
    if change == "one value":
        camera = data.features["camera"].copy()
        camera[3, 1, 2] += 1e-3
        other = dataclasses.replace(data, features=data.features | {"camera": camera})
    elif change == "one label":
        label = data.label.copy()
        label[5] = (label[5] + 1) % 4
        other = dataclasses.replace(data, label=label)
    elif change == "one more":
        other = dataclasses.replace(data, train=np.arange(len(data.label)) < 65)
    else:
        present = {m: p.copy() for m, p in data.present.items()}
        present["camera"][0] = False
        other = dataclasses.replace(data, present=present)
    here, there = (identity(CONFIG, each).facts() for each in (data, other))
    found = difference(there, here)
    if change == "one more":
        assert found == "data: training examples is 65 there and 64 here (2 settings differ)"
    else:
        assert found.startswith("data: values (hash) is ")
    assert difference(here, identity(CONFIG, data).facts()) == ""


def test_settings_of_evaluation_are_left_out():
    evaluation = evaluation_sections(CONFIG)
    assert {*evaluation} == {"task.retrace", "task.control"}
    settings = training_settings(CONFIG, evaluation)
    assert settings == {"experiment": "oom", "train.lr": 0.1, "task.modality": "a"}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_names_settings_that_it_has(name):
    protocol = TASKS[name]
    fields = {field.name for field in dataclasses.fields(protocol)}
    assert {*getattr(protocol, "evaluation_settings", ())} <= fields
