"""Out-of-modal generalisation where the information is known: a run, its rows, its picture."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from unirep_jax import experiment
from unirep_jax.data import known_information
from unirep_jax.data.known_information import quantities
from unirep_jax.evaluation.measurements import Measurement, read_measurements, write_measurements
from unirep_jax.identity import flat
from unirep_jax.methods import METHODS
from unirep_jax.sweep import varied
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.oom.__main__ import main
from unirep_jax.tasks.oom.known import BEST, KnownInformation, curves, known_tables

CONFIG = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "known_information.py"))


def small(argument, **changes):
    config = CONFIG["get_config"](argument)
    fast = {
        "steps": 20,
        "batch_size": 16,
        "train.fused": 20,
        "train.log_every": 20,
        "train.checkpoint_every": 20,
        "method.dim": 8,
        "method.width": 8,
    }
    config.update_from_flattened_dict(fast | changes)
    return config


def test_a_run_has_the_best_accuracy_and_what_is_known_beside_its_own(tmp_path, standard_promotion):
    folder = experiment.run(small("high,erm"), tmp_path / "run")
    rows = read_measurements(folder / "results.jsonl")
    known = quantities(known_information.SEPARATIONS["high"])
    best = {m.metric: m.value for m in rows if m.method == BEST}
    assert best == {
        "accuracy": known.accuracy["unknown"],
        "information": known.information["unknown"],
        "in_modal_information": known.information["first+second"],
        "overlap": known.overlap,
        "disagreement": known.disagreement,
    }
    (own,) = [m.value for m in rows if (m.method, m.metric) == ("erm", "accuracy")]
    assert own < best["accuracy"]
    table = (folder / "results.md").read_text()
    assert f"{known.information['unknown']:.2f}" in table and BEST in table


def test_the_oracle_sees_the_labels_of_its_own_examples(tmp_path):
    """Revealed, nothing is shuffled: row i of the unlabelled pool is that of its label."""
    config = varied(small("middle,cox"), CONFIG["get_variants"]("methods")["oracle on D"])
    ready = experiment.set_up(config, tmp_path)
    data, seen = ready.prepared.raw, ready.prepared.seen
    np.testing.assert_array_equal(seen.features["unknown"], data.features["unknown"])
    pools = ready.task.pools(seen, 16, 0)
    assert pools["unlabelled"].labelled
    hidden = dataclasses.replace(ready.task, reveal=False)
    shuffled = hidden.prepare(data, METHODS["erm"](), None, 0).seen
    rows = hidden.pools(shuffled, 16, 0)["unlabelled"]
    assert not rows.labelled
    moved = shuffled.features["unknown"][rows.rows] != data.features["unknown"][rows.rows]
    assert moved.any(axis=1).mean() > 0.99
    with pytest.raises(experiment.ConfigError, match="target='labels': an oracle"):
        config.task.reveal = False
        experiment.set_up(config, tmp_path)


def test_other_data_are_refused_by_name(paired_features):
    task = KnownInformation()
    with pytest.raises(ValueError, match=r"known of 'unknown' in known_information_low.*toy"):
        task.prepare(dataclasses.replace(paired_features, name="toy"), METHODS["erm"](), None, 0)


def test_every_variant_is_an_experiment_of_its_own_in_settings_that_exist():
    for name in CONFIG["VARIANTS"]:
        seen = []
        for settings in CONFIG["get_variants"](name).values():
            config = CONFIG["get_config"]()
            assert settings.keys() <= flat(config.to_dict()).keys() | {*config}
            config = varied(config, settings)
            method = config.method.to_dict()
            METHODS[method.pop("name")](**method)
            TASKS[config.experiment](**config.task.to_dict())
            assert config.to_dict() not in seen
            seen.append(config.to_dict())


def measurement(dataset, method, metric, value, seed=0):
    return Measurement(
        experiment="oom",
        dataset=dataset,
        method=method,
        metric=metric,
        value=value,
        split="semi",
        source="unknown",
        seed=seed,
        target="",
        num_examples=10,
        selection="test",
    )


def test_curves_are_over_data_sets_by_their_information_and_drawn(tmp_path):
    rows = []
    for dataset, bits, values in (("b", 2.0, (0.6, 0.8)), ("a", 1.0, (0.2, 0.2))):
        rows += [measurement(dataset, BEST, "information", bits)]
        rows += [measurement(dataset, "erm", "accuracy", v, seed) for seed, v in enumerate(values)]
    found = curves(rows)
    assert {*found} == {"erm"}
    np.testing.assert_allclose(found["erm"], [(1, 0.2, 0), (2, 0.7, 0.02**0.5)], atol=1e-12)
    sweep = tmp_path / "runs" / "sweep"
    (sweep / "erm" / "seed0").mkdir(parents=True)
    write_measurements(sweep / "results.jsonl", rows)
    (sweep / "erm" / "seed0" / "results.jsonl").write_text("of the sweep once more\n")
    main([str(tmp_path / "runs"), f"--figure={tmp_path / 'known.png'}"])
    assert (tmp_path / "known.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        main([str(sweep / "erm" / "nothing")])


def test_the_table_ends_with_what_is_known_of_each_data_set():
    known = {
        "information": 2.5,
        "in_modal_information": 3.25,
        "overlap": 2.375,
        "disagreement": 0.2,
    }
    rows = [measurement("toy", BEST, metric, value) for metric, value in known.items()]
    rows += [measurement("toy", "erm", "accuracy", 0.5)]
    table = known_tables(rows)
    assert "| toy" in table and all(f"{value:.2f}" in table for value in known.values())
