"""What a run says in the end: within 100 columns, and plainly where a linear row is as good."""

import itertools

import numpy as np
import pytest

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.bar import BASELINES, decisive_comparisons, verdict
from unirep_jax.tasks.results import WIDTH, printed_results, results_page

FIVE = ("a_modality_with_a_long_name", "video", "audio", "text", "hyperspectral_imaging_camera")


def measurement(value, method="micu", metric="accuracy", **changes):
    fields = {
        "experiment": "cmg",
        "dataset": "toy",
        "split": "all",
        "source": "a",
        "target": "b",
        "num_examples": 100,
        "seed": 0,
        "selection": "none",
    }
    return Measurement(**fields | changes, method=method, metric=metric, value=value)


def everything(experiment, vocabulary, seeds):
    """Every headline metric of five modalities in all directions, of all rows."""
    rng = np.random.default_rng(0)
    pairs = [*itertools.product(FIVE, FIVE), ("+".join(FIVE[1:]), FIVE[0]), ("+".join(FIVE), "")]
    methods = ("a_method_with_quite_a_long_name", *BASELINES, "chance")
    return [
        Measurement(
            experiment,
            method,
            "data_set_with_a_name",
            split,
            source,
            target,
            metric,
            rng.random(),
            100,
            seed,
            selection,
        )
        for metric in vocabulary.headline[experiment]
        for selection in (*vocabulary.selections, "none")
        for split in ("split1", "seen")
        for source, target in pairs
        for method in methods
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", TASKS)
def test_no_printed_line_of_five_modalities_is_wider_than_a_terminal(name, seeds):
    task = TASKS[name]
    assert task.vocabulary.headline, f"{name} names no decisive metric"
    for experiment in task.vocabulary.headline:
        rows = everything(experiment, task.vocabulary, seeds)
        text = printed_results(task, rows, ["a_method_with_quite_a_long_name"])
        assert max(map(len, text.splitlines())) <= WIDTH
        assert " a_method_with_quite" in text and "cca" in text


def test_best_and_worst_direction_stand_beside_the_mean():
    rows = [
        measurement(v, source=s, target=t)
        for (s, t), v in {("a", "b"): 0.5, ("b", "a"): 0.75, ("a", "c"): 0.1}.items()
    ]
    line = next(
        x for x in printed_results(TASKS["cmg"], rows, ["micu"]).splitlines() if "micu" in x
    )
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["micu", "45.00", "75.0 b → a", "10.0 a → c"]


def test_the_strongest_row_is_named_with_its_lead_and_interval():
    rows = [measurement(v, m) for m, v in (("micu", 0.37), ("cca", 0.40), ("untrained", 0.2))]
    (sentence,) = verdict(rows, TASKS["cmg"].vocabulary, "micu")
    half = 196 * np.sqrt((0.37 * 0.63 + 0.4 * 0.6) / 100)
    assert sentence == (
        "toy, closed set: micu (accuracy 37.0) does not beat cca, linear CCA (40.0): difference "
        f"−3.0 ± {half:.1f}, not distinguishable (95 % interval over test examples)."
    )
    worse = [measurement(v, m) for m, v in (("micu", 0.1), ("cca", 0.6))]
    (sentence,) = verdict(worse, TASKS["cmg"].vocabulary, "micu")
    assert "is WORSE than cca" in sentence and "by 50.0 ±" in sentence


def test_a_method_that_clears_the_bar_is_said_to():
    rows = [measurement(v, m) for m, v in (("micu", 0.9), ("cca", 0.4), ("untrained", 0.5))]
    (sentence,) = verdict(rows, TASKS["cmg"].vocabulary, "micu")
    assert sentence.startswith("micu beats its strongest baseline (untrained) beyond the 95 %")
    assert verdict(rows[:1], TASKS["cmg"].vocabulary, "micu") == [], "nothing to compare with"
    assert verdict(rows, TASKS["cmg"].vocabulary, "cca") == []


def test_directions_within_a_modality_are_compared_with_their_own_row():
    rows = [measurement(0.9), measurement(0.5, "cca")]
    rows += [measurement(v, m, target="a") for m, v in (("micu", 0.35), ("raw", 0.44))]
    (sentence,) = verdict(rows, TASKS["cmg"].vocabulary, "micu")
    assert sentence.startswith("toy, closed set, within a modality: micu") and "raw" in sentence


def test_over_seeds_the_interval_is_of_paired_differences():
    rows = [
        measurement(v, m, seed=s)
        for m, values in (("micu", (0.31, 0.52, 0.71)), ("cca", (0.30, 0.50, 0.70)))
        for s, v in enumerate(values)
    ]
    (found,) = decisive_comparisons(rows, TASKS["cmg"].vocabulary, "micu")
    assert found.over == "seeds" and found.difference.mean == pytest.approx(4 / 3)
    half = 4.302653 * np.std([1, 2, 1], ddof=1) / 3**0.5
    assert found.difference.half_width == pytest.approx(half, rel=1e-5) and not found.won


def test_a_metric_of_known_and_unknown_examples_counts_the_rarer_kind():
    open_set = {"experiment": "oscmg", "split": "split1"}
    rows = [measurement(v, m, "oscr", **open_set) for m, v in (("micu", 0.7), ("cca", 0.6))]
    rows += [
        measurement(0.5, m, metric, num_examples=n, selection="honest", **open_set)
        for m in ("micu", "cca")
        for metric, n in (("os_star", 90), ("unk", 10))
    ]
    (found,) = decisive_comparisons(rows, TASKS["oscmg"].vocabulary, "micu")
    assert found.metric == "oscr"
    half = 195.9964 * np.sqrt((0.7 * 0.3 + 0.6 * 0.4) / 10)
    assert found.difference.half_width == pytest.approx(half, rel=1e-4)


def test_a_page_says_what_the_signs_mean_and_holds_every_table():
    rows = [
        measurement(value + lead, method, seed=seed)
        for method, lead in (("A", 0.0), ("B", 0.02), ("cca", 0.3))
        for seed, value in enumerate((0.3, 0.5, 0.7))
    ]
    page = results_page(TASKS["cmg"], rows, ["A", "B"])
    assert page.startswith("Mean ± half the width of the 95 % confidence interval")
    assert "### toy: closed set" in page and "### Paired differences" in page
    table = page.split("### Paired differences")[1]
    line = lambda name: next(x for x in table.splitlines() if x.startswith(f"| {name} "))
    a, b = ([cell.strip() for cell in line(name).split("|")[2:-1]] for name in ("A", "B"))
    assert a[1:] == ["-", "cca: −30.0 ± 0.0"] and b[1:] == ["+2.0 ± 0.0", "cca: −28.0 ± 0.0"]
    single = results_page(TASKS["cmg"], [m for m in rows if m.seed == 0], ["A"])
    assert "Paired differences" not in single and "* toy, closed set: A" in single
