"""Data that are legal and say little: measured where they can be, else refused before training."""

import dataclasses

import numpy as np
import pytest
from test_matrix import config_of

from unirep_jax import experiment
from unirep_jax.data import FeatureFileError, FeatureSet, save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.workdir import ConfigError

pytestmark = pytest.mark.usefixtures("standard_promotion")
CLASSES, COUNT = 4, 96


def plain(classes=CLASSES, count=COUNT, time=4, dtype=np.float32):
    """Three modalities of one hidden pattern per class; two thirds are for training."""
    rng = np.random.default_rng(0)
    label = np.tile(np.arange(classes), -(-count // classes))[:count].astype(np.int32)
    hidden = rng.normal(size=(classes, 6))[label] + 0.3 * rng.normal(size=(count, 6))
    features = {
        "camera": np.repeat(hidden[:, None] @ rng.normal(size=(6, 5)), time, axis=1).astype(dtype),
        "sensor": (hidden @ rng.normal(size=(6, 7))).astype(dtype),
        "caption": (hidden @ rng.normal(size=(6, 8))).astype(dtype),
    }
    return FeatureSet.from_arrays(
        "plain",
        features,
        label,
        np.arange(count) < 2 * count // 3,
        class_names=tuple(map(str, range(classes))),
    )


def change(**fields):
    return dataclasses.replace(plain(), **fields)


def absent(modality, rows):
    data = plain()
    present = {m: p.copy() for m, p in data.present.items()}
    present[modality][rows] = False
    return dataclasses.replace(data, present=present)


def scaled(modality, factor, dtype=np.float32):
    data = plain()
    features = data.features | {modality: (data.features[modality] * factor).astype(dtype)}
    return dataclasses.replace(data, features=features)


TRAIN = np.arange(COUNT) < 64
LABEL = plain().label
DATA = {
    "one class": lambda: change(label=np.zeros(COUNT, np.int32)),
    "no labels": lambda: change(label=np.full(COUNT, -1, np.int32)),
    "no labels in training": lambda: change(label=np.where(TRAIN, -1, LABEL)),
    "no labels in test": lambda: change(label=np.where(TRAIN, LABEL, -1)),
    "one test example": lambda: change(train=np.arange(COUNT) < COUNT - 1),
    "no test example": lambda: change(train=np.ones(COUNT, bool)),
    "two examples": lambda: plain(classes=2, count=2),
    "a class in training alone": lambda: change(label=np.where(TRAIN, LABEL, LABEL % 3)),
    "a class in test alone": lambda: change(label=np.where(TRAIN, LABEL % 3, LABEL)),
    "unknown classes absent from test": lambda: change(label=np.where(TRAIN, LABEL, LABEL % 2)),
    "a modality absent": lambda: absent("sensor", slice(None)),
    "a modality absent in training": lambda: absent("sensor", TRAIN),
    "a modality absent in test": lambda: absent("sensor", ~TRAIN),
    "a modality never with another": lambda: dataclasses.replace(
        plain(),
        present={
            "camera": np.arange(COUNT) % 2 == 0,
            "sensor": np.arange(COUNT) % 2 == 1,
            "caption": np.arange(COUNT) % 2 == 0,
        },
    ),
    "constant features": lambda: scaled("sensor", 0.0),
    "large features": lambda: scaled("sensor", 1e30),
    "features near overflow": lambda: scaled("sensor", 5e37),
    "denormal features": lambda: scaled("sensor", 1e-42),
    "half precision": lambda: plain(dtype=np.float16),
    "one time step": lambda: plain(time=1),
}
MORE = {
    "3,000 time steps": lambda: plain(time=3000),
    "300 classes": lambda: plain(classes=300, count=1200),
}
EVERY_DAY = {
    ("no labels", "oscmg"),
    ("one class", "cmg"),
    ("one test example", "retrieval"),
    ("a modality absent in test", "oscmg"),
    ("a modality never with another", "retrieval"),
    ("unknown classes absent from test", "oscmg"),
    ("a class in test alone", "mmosr"),
    ("no labels", "oom"),
    ("features near overflow", "retrieval"),
    ("no test example", "mmosr"),
}
METHOD = {
    "cmg": "cca",
    "oscmg": "cca",
    "retrieval": "cca",
    "few_label": "cca",
    "mmosr": "concat",
    "oom": "erm",
    "connect": "cmcr",
}
CASES = [
    pytest.param(data, task, marks=[] if (data, task) in EVERY_DAY else pytest.mark.slow)
    for data in DATA | MORE
    for task in METHOD
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_what_can_be_measured_is_and_the_rest_is_refused_in_one_line(name, task, tmp_path, capfd):
    try:
        save_features(tmp_path / "data.npz", (DATA | MORE)[name]())
        changes = {"batch_size": 8} | ({"train.fused": 2} if task == "connect" else {})
        config = config_of(METHOD[task], task, tmp_path / "data.npz", **changes)
        folder = experiment.run(config, tmp_path / "run")
    except (ConfigError, FeatureFileError) as error:
        assert "\n" not in str(error)
        assert "step" not in capfd.readouterr().err, f"refused after training: {error}"
        return
    rows = read_measurements(folder / "results.jsonl")
    assert rows and all(np.isfinite(m.value) for m in rows), [m for m in rows if m.value != m.value]
    assert "nan" not in (folder / "results.md").read_text()
