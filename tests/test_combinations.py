"""Combinations of modalities, flow among them, are trained and evaluated like any data set."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from unirep_jax.data import FeatureSet, save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.experiment import run, set_up
from unirep_jax.sweep import varied
from unirep_jax.workdir import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
get_variants = runpy.run_path(str(CONFIGS / "tables/oscmg.py"))["get_variants"]


@pytest.fixture
def config(tmp_path, paired_features, rng):
    """Open-set generalisation of the toy set, whose flow is noise."""
    save_features(tmp_path / "toy.npz", paired_features)
    (tmp_path / "flow" / "modality").mkdir(parents=True)
    flow = rng.random((len(paired_features.label), 4, 8), np.float32)
    np.save(tmp_path / "flow" / "modality" / "flow.npy", flow)
    made = runpy.run_path(str(CONFIGS / "oscmg.py"))["get_config"]("features")
    made.update_from_flattened_dict(
        {
            "data.path": str(tmp_path / "toy.npz"),
            "data.flow": str(tmp_path / "flow"),
            "steps": 2,
            "batch_size": 16,
            "method.dim": 8,
            "method.layers": 1,
            "method.codes": 16,
            "task.control": False,
            "task.selections": ("paper",),
            "task.known": (2,),
            "task.probe.steps": 2,
            "train.checkpoint_every": 2,
        }
    )
    return made


def test_combinations_are_all_subsets_of_two_or_more_the_whole_set_first():
    rows = get_variants("table6:depth,inertial,flow")
    assert [*rows] == ["depth+inertial+flow", "depth+inertial", "depth+flow", "inertial+flow"]
    assert rows["depth+flow"] == {"data.modalities": ("depth", "flow")}
    assert len(get_variants("combinations:a,b,c,d")) == 11
    for wrong in ("combinations", "combinations:", "combinations:depth"):
        with pytest.raises(ValueError, match=r"is none of table2, .*table6:MODALITY"):
            get_variants(wrong)


@pytest.mark.parametrize("combination", ["camera+caption+flow", "camera+flow", "caption+flow"])
def test_the_network_of_a_combination_knows_its_modalities_alone(config, tmp_path, combination):
    rows = get_variants("combinations:camera,caption,flow")
    ready = set_up(varied(config, rows[combination]), tmp_path)
    fitting, chosen = ready.fitting, (*combination.split("+"),)
    assert ready.prepared.whole.modalities == ready.prepared.seen.modalities == chosen
    places = jax.tree_util.tree_leaves_with_path(jax.eval_shape(fitting.initial).params)
    names = {jax.tree_util.keystr(place) for place, _ in places}
    for m in ("camera", "sensor", "caption", "flow"):
        assert any(f"encoders_{m}" in name for name in names) == (m in combination.split("+"))


@pytest.mark.parametrize(
    "argument", ["cmg.py:micu", "retrieval.py:mover", "mmosr.py:mrn", "oom.py:erm"]
)
def test_images_without_a_time_axis_are_a_modality_to_choose(tmp_path, rng, argument):
    """[height, width, channel] beside sequences and vectors, under every kind of method."""
    label = np.tile(np.arange(4), 10)
    features = {
        "image": rng.random((40, 6, 5, 3), np.float32),
        "sound": rng.random((40, 4, 3), np.float32),
        "vector": rng.random((40, 7), np.float32),
    }
    data = FeatureSet.from_arrays("d", features, label, np.arange(40) < 24)
    save_features(tmp_path / "d.npz", data)
    name, _, method = argument.partition(":")
    config = runpy.run_path(str(CONFIGS / name))["get_config"](f"features,{method}")
    chosen = {"data.path": str(tmp_path / "d.npz"), "data.modalities": ("image", "vector")}
    config.update_from_flattened_dict(chosen | {"batch_size": 8})
    if name == "oom.py":
        config.update_from_flattened_dict({"task.modality": "image", "task.labelled": 0.5})
    ready = set_up(config, tmp_path)
    assert {*ready.prepared.whole.modalities} == {"image", "vector"}
    assert ready.prepared.whole.features["image"].shape == (40, 6, 5, 3)
    jax.eval_shape(ready.fitting.initial)


@pytest.mark.slow
@pytest.mark.parametrize("combination", ["camera+caption+flow", "camera+flow"])
def test_a_combination_takes_two_steps_and_is_judged_in_its_own_directions(
    config, tmp_path, standard_promotion, combination
):
    rows = get_variants("combinations:camera,caption,flow")
    single = varied(config, rows[combination])
    run(single, tmp_path / "run")
    names = combination.split("+")
    measured = [
        m for m in read_measurements(tmp_path / "run" / "results.jsonl") if m.method == "micu"
    ]
    across = {(m.source, m.target) for m in measured if m.metric == "hos"}
    assert across == {(a, b) for a in names for b in names if a != b}


def test_a_combination_that_the_data_do_not_have_is_refused_before_training(config, tmp_path):
    single = varied(config, {"data.modalities": ("camera", "smell")})
    with pytest.raises(ConfigError, match="two or more of camera, sensor, caption, flow"):
        run(single, tmp_path / "run")
    assert not (tmp_path / "run").exists()
