"""Tables say what was measured; figures are written and count what they show."""

import json

import numpy as np
from matplotlib.figure import Figure

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.figures import training_curves
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.tasks.generalization.figures import codebook_usage, usage_shares
from unirep_jax.tasks.generalization.tables import cross_modal_tables


def measurement(value, seed=0, source="a", target="b", metric="hos", **changes) -> Measurement:
    fields = {
        "experiment": "oscmg",
        "method": "micu",
        "dataset": "toy",
        "split": "split1",
        "num_examples": 10,
        "selection": "honest",
    }
    return Measurement(
        **fields | changes, value=value, seed=seed, source=source, target=target, metric=metric
    )


def closed(value, **changes) -> Measurement:
    return measurement(value, metric="accuracy", split="all", selection="none", **changes)


def test_a_table_has_both_directions_of_a_pair_in_one_row():
    rows = [measurement(0.25), measurement(0.75, source="b", target="a"), closed(0.5)]
    table = cross_modal_tables(rows)
    line = next(line for line in table.splitlines() if line.startswith("| a → b | micu"))
    cells = [cell.strip() for cell in line.split("|")[3:-1]]
    assert cells == ["-", "-", "25.00", "-", "-", "75.00"]
    assert "selection `honest`" in table and "held-out source" in table


def test_several_seeds_give_mean_and_interval():
    rows = [measurement(v, seed=s) for s, v in enumerate((0.1, 0.2, 0.3))] + [closed(0.5)]
    assert "20.0 ± 24.8" in cross_modal_tables(rows)


def test_the_mean_over_directions_is_taken_within_a_seed_before_the_interval():
    rows = [
        closed(v, source=s, target=t, seed=seed)
        for seed in (0, 1)
        for v, s, t in ((0.0, "a", "b"), (1.0, "b", "a"), (0.2, "a", "c"), (0.8, "c", "a"))
    ]
    table = cross_modal_tables(rows)
    line = next(line for line in table.splitlines() if line.startswith("| mean of all"))
    assert "50.0 ± 0.0" in line


def test_legends_of_many_modalities_cover_no_curve_and_no_label(tmp_path, monkeypatch):
    names = ("a_modality_with_a_long_name", "audio", "hyperspectral_camera", "text", "video")
    rows = [
        {"step": s, "loss": 1 / s, "reconstruction": 1e-4 + 1e-9 * s}
        | {f"perplexity/{m}": 100.0 + s for m in names}
        for s in (50, 100, 12000)
    ]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn, savefig = [], Figure.savefig

    def remember(figure, *arguments, **settings):
        drawn.append(figure)
        savefig(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", remember)
    training_curves(tmp_path / "t.png", log)
    (figure,) = drawn
    whole = figure.bbox
    for axis in figure.axes:
        box = axis.get_window_extent()
        inside = axis.get_tightbbox()
        assert inside.x0 >= whole.x0 and inside.x1 <= whole.x1, "nothing is cut at the edges"
        assert inside.y0 >= whole.y0 and inside.y1 <= whole.y1
        if axis.get_legend() is not None:
            assert axis.get_legend().get_window_extent().y1 <= box.y0, "below the panel"


def test_markdown_lines_up():
    lines = markdown_table(["pair", "method", "x"], [["a", "b", "1.00"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].endswith("-:|")


def test_usage_shares_weigh_modalities_alike():
    indices = {"a": np.array([0, 0, 1, 1]), "b": np.array([0])}
    total, share = usage_shares(indices, 3)
    np.testing.assert_allclose(total, [1.5, 0.5, 0.0])
    np.testing.assert_allclose(share, [[1 / 3, 1, 0], [2 / 3, 0, 0]])


def test_figures_are_written(tmp_path):
    rng = np.random.default_rng(0)
    features = {m: np.zeros((8, 2), np.float32) for m in "ab"}
    data = FeatureSet.from_arrays("toy", features, np.arange(8) % 2, np.arange(8) < 4)
    codes = {m: rng.integers(0, 5, (8, 3)) for m in "ab"}
    codebook_usage(tmp_path / "usage.png", rng.normal(size=(6, 4)), codes, data)
    log = tmp_path / "metrics.jsonl"
    rows = [{"step": s, "loss": 1.0 / s, "perplexity/a": 2.0, "perplexity/b": 3.0} for s in (1, 2)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training_curves(tmp_path / "curves.png", log)
    for name in ("usage.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_codebook_of_which_one_code_is_used_is_drawn(tmp_path):
    features = {m: np.zeros((8, 2), np.float32) for m in "ab"}
    data = FeatureSet.from_arrays("toy", features, np.arange(8) % 2, np.arange(8) < 4)
    codes = {m: np.full((8, 3), 3) for m in "ab"}
    codebook_usage(tmp_path / "usage.png", np.eye(6, 4), codes, data)
    assert (tmp_path / "usage.png").read_bytes().startswith(b"\x89PNG")
