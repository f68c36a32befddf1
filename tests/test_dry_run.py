"""A dry run reports what a run would do, and leaves nothing behind."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data import save_features
from unirep_jax.dry_run import dry_run
from unirep_jax.workdir import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


def config(name, tmp_path, paired_features, **changes):
    save_features(tmp_path / "toy.npz", paired_features)
    made = runpy.run_path(str(CONFIGS / name))["get_config"]()
    made.update_from_flattened_dict(
        {
            "data.name": "features",
            "data.path": str(tmp_path / "toy.npz"),
            "batch_size": 16,
            **changes,
        }
    )
    return made


def test_it_counts_parameters_and_arithmetic_and_writes_nothing(
    tmp_path, paired_features, monkeypatch, standard_promotion
):
    monkeypatch.chdir(tmp_path)
    settings = {"method.dim": 8, "method.layers": 0, "method.dropout": 0.0, "steps": 300}
    text = dry_run(config("mover.py", tmp_path, paired_features, **settings), importing=40.0)
    times = dict(re.findall(r"^\| ([a-z0-9 -]+?) +\| +([0-9.]+) +\| +[0-9]+%", text, re.M))
    assert [*times] == [
        "importing",
        "data and set-up",
        "state before step 0",
        "compilation",
        "steps",
        "batches beyond the steps",
    ]
    assert times["importing"] == "40.0" and float(times["compilation"]) > 0
    assert [file.name for file in tmp_path.iterdir()] == ["toy.npz"]
    sizes = {m: int(np.prod(x.shape[1:])) for m, x in paired_features.features.items()}
    for m, size in sizes.items():
        assert f"towers/projections_{m}" in text and f"{8 * size:,}" in text
    assert f"{8 * sum(sizes.values()):,}" in text
    assert "method.temperature = 0.05" in text and "64 of 96 examples" in text
    assert "GFLOP" in text and "MiB" in text and "first loss" in text and "8 ×" in text


def test_encoders_are_not_trained(tmp_path, paired_features, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    settings = {
        "method.first": ("caption_1", "camera_1"),
        "method.second": ("caption_2", "sensor_2"),
        "method.dim": 8,
        "method.hidden": 8,
        "pretrain.method.dim": 6,
        "steps": 40,
        "train.checkpoint_every": 40,
    }
    text = dry_run(config("connect.py", tmp_path, paired_features, **settings))
    assert [file.name for file in tmp_path.iterdir()] == ["toy.npz"]
    assert "[96, 6]" in text and "median of 1 calls of 20 steps" in text


def test_what_a_run_refuses_a_dry_run_refuses(tmp_path, paired_features):
    with pytest.raises(ConfigError, match="batch_size"):
        dry_run(config("mover.py", tmp_path, paired_features, batch_size=1000))
