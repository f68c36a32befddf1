"""Training that starts from a run: which weights it has, on other data, and what is refused."""

import dataclasses
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax import load_run
from unirep_jax.data import FeatureSet, save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.experiment import run
from unirep_jax.methods import MOVER
from unirep_jax.train.fit import prepare
from unirep_jax.train.start import Start
from unirep_jax.workdir import ConfigError, default_workdir

pytestmark = pytest.mark.usefixtures("standard_promotion")

CONFIG = runpy.run_path(str(Path(__file__).parents[2] / "configs/retrieval.py"))["get_config"]
METHOD = MOVER(measure="cosine", weight_transport=0.0, dim=6, warm_start=3)
DIMS = {"audio": 4, "text": 5, "video": 3}


def views(name, seed, modalities=tuple(DIMS), **dims):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((48, 4))
    maps = {m: rng.standard_normal((4, d)) for m, d in (DIMS | dims).items()}
    features = {m: (latent @ maps[m]).astype(np.float32) for m in modalities}
    return FeatureSet.from_arrays(name, features, np.full(48, -1), np.arange(48) < 32)


def settings():
    train = {"lr": 1e-2, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "clip": 0.0}
    return ConfigDict({"steps": 2, "batch_size": 16, "parallel": "shard_map", "train": train})


def start(method=METHOD, data=None):
    """A state that no drawing gives: of five steps, its statistics and weights its own."""
    data = views("first", 0) if data is None else data
    state = prepare(method, data, settings(), seed=3).initial()
    shapes = {m: x.shape[1:] for m, x in data.features.items()}
    return Start(
        "runs/first",
        jax.tree.map(lambda x: x + 1, state.params),
        state.state | {"step": state.state["step"] + 5},
        shapes,
        method.settings(),
    )


def test_the_weights_statistics_and_count_of_steps_are_those_of_the_run_and_the_step_is_0():
    given = start()
    state = prepare(METHOD, views("second", 1), settings(), seed=0, start=given).initial()
    jax.tree.map(np.testing.assert_array_equal, state.params, given.params)
    jax.tree.map(np.testing.assert_array_equal, state.state, given.state)
    assert int(state.step) == 0 and int(state.seed) == 0
    assert all(not x.any() for x in jax.tree.leaves(state.opt_state))


def test_data_of_some_of_the_modalities_start_from_their_part_of_the_weights():
    given, data = start(), views("second", 1, ("audio", "text"))
    state = prepare(METHOD, data, settings(), seed=0, start=given).initial()
    assert {*state.params["towers"]} == {"projections_audio", "projections_text"}
    jax.tree.map(
        np.testing.assert_array_equal,
        state.params["towers"],
        {name: given.params["towers"][name] for name in state.params["towers"]},
    )


@pytest.mark.parametrize(
    ("method", "data", "pattern"),
    [
        (METHOD, views("b", 1, text=7), r"has text of \(5,\), these data of \(7,\)"),
        (
            METHOD,
            views("b", 1, ("audio", "text", "touch"), touch=2),
            r"trained on audio, text, video, not on 'touch': give --config.data.modalities="
            r"\"\('audio', 'text'\)\"",
        ),
        (
            dataclasses.replace(METHOD, dim=8),
            views("b", 1),
            r"\['towers'\]\['projections_audio'\]\['kernel'\] \(4, 8\) here, \(4, 6\) there; "
            "dim=6 there, 8 here",
        ),
        (
            dataclasses.replace(METHOD, learn_temperature=True),
            views("b", 1),
            r"\['log_temperature'\] \(\) here, none there",
        ),
    ],
)
def test_what_does_not_fit_the_run_is_refused_in_one_line(method, data, pattern):
    with pytest.raises(ValueError, match=pattern):
        prepare(method, data, settings(), seed=0, start=start())


def test_a_run_with_more_layers_than_the_method_is_not_cut_down():
    given = start(dataclasses.replace(METHOD, layers=1, width=4))
    with pytest.raises(ValueError, match="runs/first does not fit the method"):
        prepare(METHOD, views("second", 1), settings(), seed=0, start=given)


# -- through a configuration -----------------------------------------------------------------------


def config(path, **changes):
    made = CONFIG("features,pairwise")
    flat = {"data.path": str(path), "steps": 8, "batch_size": 16, "method.dim": 6}
    flat |= {"method.linear_start": False, "method.layers": 0, "train.warmup": 0}
    made.update_from_flattened_dict(flat | changes)
    return made


def test_a_run_is_evaluated_on_another_set_and_continued_there(tmp_path):
    """Zero-shot and fine-tuned: the first equals the row `start` of the second."""
    for name, seed in (("first", 0), ("second", 0)):
        save_features(tmp_path / f"{name}.npz", views(name, seed, ("audio", "text")))
    second = str(tmp_path / "second.npz")
    settings = config(tmp_path / "first.npz", **{"task.evaluate_on": (second,)})
    one = run(settings, tmp_path / "one", trial=True)
    rows = read_measurements(one / "results.jsonl")
    assert {m.dataset for m in rows} == {"first", "second"}
    assert {m.method for m in rows if m.dataset == "second"} == {
        "pairwise",
        "chance",
        "untrained",
        "cca",
    }
    zero_shot = {key(m): m.value for m in rows if (m.dataset, m.method) == ("second", "pairwise")}

    two = run(config(second, **{"start.run": str(one)}), tmp_path / "two", trial=True)
    tuned = read_measurements(two / "results.jsonl")
    before = {key(m): m.value for m in tuned if m.method == "start"}
    assert before == zero_shot and "untrained" not in {m.method for m in tuned}
    weights = [load_run(folder).params["towers"] for folder in (one, two)]
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), *weights))
    assert 0 < max(moved) < 0.2, "eight steps of a small rate from where the run ended"


def key(m):
    return m.source, m.target, m.metric, m.selection


def test_open_settings_of_the_method_are_those_of_the_run(tmp_path):
    from unirep_jax.start import with_start

    save_features(tmp_path / "first.npz", views("first", 0, ("audio", "text")))
    made = {"method.layers": 2, "method.width": 4, "steps": 0, "task.control": False}
    one = run(config(tmp_path / "first.npz", **made), tmp_path / "one", trial=True)
    opened = config(tmp_path / "first.npz", **{"start.run": str(one)})
    opened.method.layers = None
    filled = with_start(opened)
    assert filled.method.layers == 2 and len(filled.start.sha256) == 64
    assert opened.start.sha256 == ""


def test_runs_from_different_runs_have_different_folders_and_one_without_keeps_its_own():
    made = config("x.npz")
    plain = default_workdir(made)
    made.start.run = "runs/a"
    first = default_workdir(made)
    made.start.run = "runs/b"
    assert len({plain, first, default_workdir(made)}) == 3
    del made.start
    assert default_workdir(made) == plain


def test_a_folder_without_a_model_is_named_before_training(tmp_path):
    save_features(tmp_path / "first.npz", views("first", 0, ("audio", "text")))
    with pytest.raises(ValueError, match="no folder of a run"):
        run(
            config(tmp_path / "first.npz", **{"start.run": str(tmp_path)}),
            tmp_path / "one",
            trial=True,
        )


@pytest.mark.parametrize(
    ("other", "pattern"),
    [
        (views("second", 1, ("audio", "video")), "has 'video', the training data audio, text"),
        (views("second", 1, ("audio", "text"), text=9), r"text \(9,\), in training \(5,\)"),
        (views("first", 1, ("audio", "text")), "'first' is the name of two data sets"),
    ],
)
def test_a_set_that_does_not_fit_is_refused_before_training(other, pattern, tmp_path):
    save_features(tmp_path / "first.npz", views("first", 0, ("audio", "text")))
    (tmp_path / "other").mkdir()
    path = tmp_path / f"other/{other.name}.npz"
    save_features(path, other)
    with pytest.raises(ConfigError, match=pattern):
        run(
            config(tmp_path / "first.npz", **{"task.evaluate_on": (str(path),)}),
            tmp_path / "one",
            trial=True,
        )
