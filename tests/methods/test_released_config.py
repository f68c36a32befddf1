"""Released weights from the command line: nothing is trained, and the tasks evaluate."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import released_reference as reference
from safetensors.numpy import save_file

from unirep_jax.data import published_shapes
from unirep_jax.dry_run import dry_run
from unirep_jax.experiment import run
from unirep_jax.methods import METHODS, Released
from unirep_jax.tasks import TASKS
from unirep_jax.workdir import ConfigError

CONFIG = Path(__file__).parents[2] / "configs/released.py"
get_config = runpy.run_path(str(CONFIG))["get_config"]


@pytest.fixture
def weights(tmp_path):
    """Codes are short, so that directions decide which is the nearest."""
    tensors = reference.fabricate()
    tensors[f"{reference.ENCODER}.Cross_quantizer.embedding"] *= 0.1
    save_file(tensors, tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


@pytest.fixture
def prepared(tmp_path, rng):
    """Forty clips of two classes as a conversion leaves them."""
    folder, label = tmp_path / "clips", np.tile([0, 1], 20)
    (folder / "modality").mkdir(parents=True)
    for m in ("audio", "text"):
        shape = published_shapes.SHAPES[m]
        x = rng.standard_normal((2, 1, shape[1]))[label] + 0.1 * rng.standard_normal((40, *shape))
        np.save(folder / f"modality/{m}.npy", x.astype(np.float32))
    np.save(folder / "label.npy", label)
    np.save(folder / "split.npy", np.where(np.arange(40) < 20, "train", "test"))
    (folder / "examples.txt").write_text("".join(f"{i}\n" for i in range(40)))
    made = {"train": "a", "test": "b", "captions": "", "open_sets": []}
    (folder / "recipe.json").write_text(json.dumps(made))
    return str(folder)


def test_weights_are_judged_on_a_prepared_set_without_training(
    tmp_path, weights, prepared, standard_promotion
):
    config = get_config("dcid")
    config.update_from_flattened_dict(
        {
            "method.weights": weights,
            "task.sets": (prepared,),
            "task.probe.steps": 60,
            "task.probe.lr": 2e-2,
        }
    )
    with pytest.raises(ConfigError, match="steps=7: Released is not trained by steps; must be 0"):
        changed = config.copy_and_resolve_references()
        changed.steps = 7
        dry_run(changed)
    text = dry_run(config)
    assert "Nothing is trained." in text and "| audio/Encoder_0 " in text

    workdir = run(config, tmp_path / "run")
    rows = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    accuracy = {
        (row["source"], row["target"]): row["value"]
        for row in rows
        if row["method"] == "dcid_released" and row["metric"] == "accuracy"
    }
    assert accuracy.keys() == {(a, b) for a in ("audio", "text") for b in ("audio", "text")}
    assert accuracy["audio", "audio"] == 1, "made-up weights, but what they see is easy"
    assert not (workdir / "metrics.jsonl").exists()
    assert not any((workdir / "checkpoints").glob("[0-9]*"))


def test_what_is_wrong_with_a_file_of_weights_is_said_before_anything_is_judged(tmp_path, prepared):
    config = get_config("dcid")
    config.task.sets = (prepared,)
    with pytest.raises(ConfigError, match=r"method\.weights names no file"):
        run(config, tmp_path / "run")
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "other.safetensors")
    config.method.weights = str(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors: not weights of MICU or DCID"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("argument", ["micu", "dcid", "oscmg", "dcid,oscmg", "transfer,dcid"])
def test_the_argument_names_weights_and_task(argument):
    config = get_config(argument)
    settings = config.method.to_dict()
    name = settings.pop("name")
    weights = "dcid" if "dcid" in argument else "micu"
    assert name == f"{weights}_released"
    assert METHODS[name](**settings) == getattr(Released, weights)()
    assert config.experiment == ("oscmg" if "oscmg" in argument else "transfer")
    task = TASKS[config.experiment](**config.task.to_dict())
    assert dataclasses.asdict(task) == config.task.to_dict()
    assert config.steps == 0 and config.task.control == (config.experiment == "oscmg")


@pytest.mark.parametrize("argument", ["", "mrn", "micu,dcid", "oscmg,transfer", "micu,micu"])
def test_any_other_argument_lists_weights_and_tasks(argument):
    with pytest.raises(ValueError, match=r"weights: micu, dcid; tasks: transfer, oscmg"):
        get_config(argument)
