"""Out-of-modal tables hold each number where it belongs; the pictures show what they say."""

import itertools

import numpy as np
from matplotlib.figure import Figure

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks.oom.figures import agreement_bars, connection_curves
from unirep_jax.tasks.oom.tables import out_of_modal_tables


def measurement(value, metric="accuracy", **changes) -> Measurement:
    fields = {
        "experiment": "oom",
        "method": "cox",
        "dataset": "toy",
        "split": "semi",
        "seed": 0,
        "source": "audio",
        "target": "",
        "num_examples": 10,
        "selection": "test",
    }
    return Measurement(**fields | changes, value=value, metric=metric)


def parsed(markdown):
    """Title of each table -> {(modality, method): {column: cell}}."""
    tables = {}
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            table = tables[line.strip("# ")] = {}
        elif line.startswith("| out-of-modal"):
            header = cells[2:]
        elif line.startswith("| "):
            assert tuple(cells[:2]) not in table
            table[tuple(cells[:2])] = dict(zip(header, cells[2:], strict=True))
    return tables


def test_every_number_stands_in_the_row_of_its_modality_and_method_with_chance_last():
    metrics = {
        "accuracy": "accuracy",
        "macro_accuracy": "macro accuracy",
        "class_recall_at_5": "class R@5",
    }
    keys = itertools.product(("audio", "video"), ("chance", "cox", "erm"), metrics)
    value = {key: (place + 1) / 100 for place, key in enumerate(keys)}
    rows = [
        measurement(v, metric, source=source, method=method)
        for (source, method, metric), v in value.items()
    ]
    ((title, table),) = parsed(out_of_modal_tables(rows)).items()
    assert title == "toy: semi-supervised"
    order = [(s, m) for s in ("audio", "video") for m in ("cox", "erm", "chance")]
    assert list(table) == order
    for (source, method, metric), v in value.items():
        assert table[source, method][metrics[metric]] == f"{100 * v:.2f}"


def test_seeds_are_averaged_and_settings_are_kept_apart():
    rows = [measurement(v, seed=s) for s, v in enumerate((0.5, 0.6))]
    rows += [
        measurement(0.2, split="unsupervised"),
        measurement(0.9, "cluster_accuracy", split="unsupervised", selection="test labels"),
    ]
    text = out_of_modal_tables(rows)
    tables = parsed(text)
    assert tables["toy: semi-supervised"]["audio", "cox"] == {"accuracy": "55.0 ± 63.5"}
    assert tables["toy: unsupervised"]["audio", "cox"]["clusters matched"] == "90.00"
    first, second = text.split("### toy: unsupervised")
    assert "neither is a result without labels" in second and "neither" not in first


def test_agreement_has_a_table_before_and_one_after_exploration_with_every_head():
    rows = []
    for place, selection in enumerate(("before", "after")):
        rows += [
            measurement(0.5 + place / 10, "agreement_accuracy", selection=selection),
            measurement(0.3 + place / 10, "in_modal_accuracy", selection=selection, target="video"),
        ]
    tables = parsed(out_of_modal_tables([measurement(0.1), *rows]))
    for selection, expected in (("before", ("50.00", "30.00")), ("after", ("60.00", "40.00"))):
        table = tables[f"Agreement of the in-modal heads, {selection} exploration"]
        assert table == {
            ("audio", "cox"): dict(
                zip(("accuracy where they do", "head of video"), expected, strict=True)
            )
        }


def test_search_has_a_table_where_it_was_measured():
    tables = parsed(
        out_of_modal_tables([measurement(0.1), measurement(0.25, "instance_recall_at_1")])
    )
    title = "Out-of-modal features among mapped in-modal ones"
    assert tables[title] == {("audio", "cox"): {"R@1": "25.00"}}
    assert title not in parsed(out_of_modal_tables([measurement(0.1)]))


def drawn(monkeypatch):
    """Axes of every figure that is saved."""
    saved = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda f, *a, **k: (saved.append(f.axes), original(f, *a, **k))
    )
    return saved


def test_connection_has_a_curve_of_discrepancy_and_one_of_accuracy_per_modality(
    tmp_path, monkeypatch
):
    saved = drawn(monkeypatch)
    curves = {
        step: {m: (1 / step, place / 10) for place, m in enumerate(("text", "video"))}
        for step in (20, 40, 80)
    }
    connection_curves(tmp_path / "c.png", curves, "audio")
    left, right = saved[0]
    for axis, values in ((left, [0.05, 0.025, 0.0125]), (right, [10, 10, 10])):
        lines = axis.get_lines()
        assert len(lines) == 2
        np.testing.assert_allclose(lines[1].get_xdata(), [20, 40, 80])
        np.testing.assert_allclose(lines[1].get_ydata(), values)
    assert (tmp_path / "c.png").stat().st_size > 0


def test_agreement_bars_show_both_sets_before_and_after_and_no_empty_one(tmp_path, monkeypatch):
    saved = drawn(monkeypatch)
    row = lambda name, v: {"metric": f"{name}_accuracy", "value": v, "num_examples": 7}
    before = [row("agreement", 0.8), row("disagreement", 0.4)]
    agreement_bars(tmp_path / "a.png", {"before": before, "after": [row("agreement", 0.9)]})
    heights = [round(p.get_height(), 6) for p in saved[0][0].patches]
    assert heights == [80, 90, 40]
    assert [t.get_text() for t in saved[0][0].get_xticklabels()] == ["before", "after"]
    assert [t.get_text() for t in saved[0][0].texts] == ["80\nn = 7", "90\nn = 7", "40\nn = 7"]
