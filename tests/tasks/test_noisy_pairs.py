"""Training on noisy pairs: what it sees, what is measured, that the truth is not given away."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
from evaluation_case import as_it_is, trained
from test_retrieval import Linear, linear_maps

from unirep_jax.data import FeatureSet
from unirep_jax.data.correspondence_noise import Mispaired, blocks, mispair
from unirep_jax.evaluation.measurements import Measurement, write_measurements
from unirep_jax.tasks.noisy_pairs import __main__ as command
from unirep_jax.tasks.noisy_pairs.recovery import recovery
from unirep_jax.tasks.noisy_pairs.task import NoisyPairs

CONFIG = Path(__file__).parents[2] / "configs" / "noisy_pairs.py"


def test_training_sees_wrong_pairs_and_the_test_part_stays_true(paired_features):
    task = NoisyPairs(share=1.0)
    prepared = task.prepare(paired_features, Linear(), None, 3)
    train, first = paired_features.train, paired_features.modalities[0]
    assert prepared.raw is paired_features
    for m in paired_features.modalities:
        whole, seen = paired_features.features[m], prepared.seen.features[m]
        np.testing.assert_array_equal(whole[~train], seen[~train])
        assert (m == first) == np.array_equal(whole[train], seen[train])


def test_batches_keep_blocks_together_so_that_partners_are_near(paired_features):
    task = NoisyPairs(share=1.0, block=8)
    seen = task.prepare(paired_features, Linear(), None, 3).seen
    pool = task.pools(seen, 16, 3)
    assert pool.together == 8 and pool.count == 16 and seen.train[pool.rows].all()
    whole = paired_features.features["sensor"]
    for run in pool.rows.reshape(-1, 8):
        moved = {seen.features["sensor"][row].tobytes() for row in run}
        assert moved == {whole[row].tobytes() for row in run}
    assert task.pools(seen, 12, 3).together == 4, "halves of blocks"
    other = NoisyPairs(noise="set").pools(seen, 12, 3)
    assert other.together == 1 and len(other.rows) == seen.train.sum()
    with pytest.raises(ValueError, match="batch_size=65 is not within"):
        NoisyPairs(noise="set").pools(seen, 65, 3)


def test_settings_are_chosen_on_noisy_training_pairs_without_the_test_part(paired_features):
    task = NoisyPairs(share=1.0, held_out=0.25, block=4)
    prepared = task.prepare(paired_features, Linear(), None, 0)
    data, train = prepared.raw, paired_features.train
    assert len(data.label) == train.sum() and (~data.train).sum() == round(train.sum() / 4)
    true = {m: x[train] for m, x in paired_features.features.items()}
    wrong = [
        not np.array_equal(true["sensor"][row], data.features["sensor"][row])
        for row in np.flatnonzero(~data.train)
    ]
    assert np.mean(wrong) > 0.9, "what is held out is as noisy"
    rows = np.flatnonzero(data.train)
    np.testing.assert_array_equal(true["sensor"][rows], data.features["sensor"][rows])
    seen = prepared.seen.features["sensor"]
    assert not np.array_equal(seen[rows], true["sensor"][rows])
    np.testing.assert_array_equal(seen[~data.train], data.features["sensor"][~data.train])


def test_several_captions_of_an_item_are_refused(paired_features):
    data = dataclasses.replace(paired_features, captions="caption")
    with pytest.raises(ValueError, match="no place for several captions"):
        NoisyPairs().prepare(data, Linear(), None, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "much"}, "task.noise='much' is none of batch, set, unpaired, missing"),
        ({"share": -0.1}, "task.share=-0.1"),
        ({"held_out": 0.8}, "task.held_out=0.8"),
        ({"plan_epsilon": 0.0}, "task.plan_epsilon=0.0"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        NoisyPairs(**settings)


def found(vectors, mispaired, near, epsilon=0.05):
    rows = recovery(vectors, mispaired, near, epsilon=epsilon)
    return {(r["source"], r["target"], r["metric"]): (r["value"], r["chance"]) for r in rows}


def made(count=48, dim=16):
    rng = np.random.default_rng(0)
    features = {m: rng.normal(size=(count, dim)).astype(np.float32) for m in "ab"}
    data = FeatureSet.from_arrays("made", features, np.full(count, -1), np.arange(count) < 40)
    vectors = rng.normal(size=(count, dim)) / dim**0.5
    return data, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_embeddings_that_know_the_truth_recover_it_whatever_the_pairs_say():
    data, truth = made()
    rows = np.flatnonzero(data.train)
    mispaired = mispair(data, rows, kind="batch", share=0.5, block=8, seed=0)
    near = blocks(rows, 8, 0)
    masses = found({"a": truth, "b": truth}, mispaired, near)
    assert masses["a", "b", "mass_on_truth"][0] > 0.99 and masses["a", "b", "recovered"][0] > 0.99
    np.testing.assert_allclose(masses["a", "b", "mass_on_given"][0], 0.5, atol=0.01)
    for name in ("mass_on_truth", "mass_on_given", "recovered"):
        np.testing.assert_allclose(masses["a", "b", name][1], 1 / 40, rtol=1e-5)  # one plan of all
    strangers = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    assert found({"a": truth, "b": strangers}, mispaired, near)["a", "b", "recovered"][0] < 0.2


def test_embeddings_that_believe_the_given_pairs_recover_nothing():
    data, truth = made()
    rows = np.flatnonzero(data.train)
    mispaired = mispair(data, rows, kind="set", share=1.0, block=8, seed=0)
    believed = np.empty_like(truth)
    believed[mispaired.source["b"]] = truth  # the features of row i are embedded as its text is
    masses = found({"a": truth, "b": believed}, mispaired, rows[None])
    assert masses["a", "b", "mass_on_given"][0] > 0.99 and masses["a", "b", "recovered"][0] < 0.01


def test_what_is_absent_has_no_mass_and_without_wrong_pairs_nothing_is_recovered():
    data, truth = made()
    here = np.arange(48) % 3 > 0
    source = {m: np.arange(48) for m in "ab"}
    holes = Mispaired(dataclasses.replace(data, present=data.present | {"b": here}), source)
    masses = found({"a": truth, "b": truth}, holes, np.arange(40)[None])
    assert ("a", "b", "recovered") not in masses
    np.testing.assert_allclose(masses["a", "b", "mass_on_given"][1], 1 / 40, rtol=1e-5)


def test_evaluation_measures_retrieval_and_recovery_beside_chance(paired_features, tmp_path):
    task = NoisyPairs(share=0.5, control=False)
    model = trained(
        Linear(),
        as_it_is(paired_features),
        tmp_path,
        name="linear",
        seed=2,
        params=linear_maps(paired_features),
        state={"scale": np.float32(1)},
    )
    measurements = task.evaluate(model)
    assert {m.split for m in measurements} == {"batch 0.5"}
    assert {m.experiment for m in measurements} == {"noisy_pairs"}
    metrics = {m.metric for m in measurements if m.method == "linear"}
    assert metrics >= {"recall_at_1", "mass_on_truth", "mass_on_given", "recovered"}
    table = task.tables(measurements)
    assert "| R@1, one modality against one by cosine | batch 0.5 |" in table
    assert "plan of mispaired rows on their partners" in table


def results(share):
    row = {
        "experiment": "noisy_pairs",
        "dataset": "toy",
        "split": f"batch {share}",
        "source": "a",
        "target": "b",
        "metric": "recall_at_1",
        "num_examples": 10,
    }
    return [
        Measurement(**row, method=method, seed=seed, selection=selection, value=value - share / 2)
        for method, value in (("MOVER", 0.8), ("pairwise", 0.7), ("chance", 0.5))
        for seed in range(3)
        for selection in ("cosine", "volume")
    ]


def test_sweeps_over_shares_are_joined_to_a_table_and_a_picture(tmp_path, capsys):
    for share in (0.0, 0.5):
        (tmp_path / str(share)).mkdir()
        write_measurements(tmp_path / str(share) / "results.jsonl", results(share))
    command.main([str(tmp_path / "0.0"), str(tmp_path / "0.5"), f"--out={tmp_path / 'out'}"])
    page = (tmp_path / "out" / "curves.md").read_text("utf-8")
    assert "batch 0.0" in page and "batch 0.5" in page and "### Paired differences" in page
    for name in ("curves_cosine.png", "curves_volume.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="error: "):
        command.main([str(tmp_path), f"--out={tmp_path / 'out'}"])


def test_every_row_is_searched_over_as_many_settings_as_any_other():
    config = runpy.run_path(str(CONFIG))
    search = config["get_variants"]("search")
    counts = {title: sum(s.startswith(f"{title}; ") for s in search) for title in config["ROWS"]}
    assert {*counts.values()} == {4} and len(search) == 24
    known = config["get_config"]().to_dict()
    for settings in (*search.values(), *config["get_variants"]("rows").values()):
        for key in settings:
            section, name = key.split(".")
            assert name in known[section], key
