"""What does nothing for a training is said once: before it starts, or as the log shows it."""

import dataclasses

import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.methods import CCA, CMCM, MICU, MOVER
from unirep_jax.remarks import remarks
from unirep_jax.train.logs import RunLog
from unirep_jax.train.watch import Watch

SMALL = {"dim": 8, "pieces": 2, "permutations": 2}


def looked(watch, *rows, every=10):
    """What is said of each line, where something is."""
    said = {every * n: watch.look(every * n, row) for n, row in enumerate(rows, 1)}
    return {step: lines for step, lines in said.items() if lines}


def test_a_term_that_is_exactly_0_is_said_once_after_any_warm_up():
    rows = [{"fine": 0.0, "coarse": 1.0, "agreement": 0.0}] * 10
    said = looked(Watch(MICU(**SMALL), 100), *rows)
    assert list(said) == [80] and said[80][0].startswith("fine has been exactly 0 in all 80 steps")
    warm = [{"transport": 0.0}] * 5 + [{"transport": 0.4}] * 2 + [{"transport": 0.0}] * 3
    assert looked(Watch(MOVER(warm_start=50), 100), *warm) == {}
    assert looked(Watch(MICU(**SMALL, weight_fine=0.0), 100), *rows) == {}, "it is switched off"


def test_a_solved_pretext_task_is_said_after_three_lines_in_a_row():
    values = (0.5, 0.009, 0.009, 0.2, 0.004, 0.003, 0.003, 0.003)
    said = looked(Watch(MICU(**SMALL), 100), *({"jigsaw": v, "commitment": v} for v in values))
    assert said == {70: ["jigsaw has been below 0.01 since step 50: solved, it teaches no more"]}


def test_a_codebook_of_one_code_is_said_once_it_has_settled():
    early = [{"perplexity/audio": 1.0, "perplexity/video": 9.0}] * 4 + [{"perplexity/audio": 30.0}]
    assert looked(Watch(CMCM(dim=8), 100), *early, *early[4:] * 5) == {}
    said = looked(Watch(CMCM(dim=8), 100), *early[:1] * 8)
    assert list(said) == [50] and said[50][0].startswith("audio uses 1.00 codes")


def test_a_resumed_run_does_not_repeat_what_it_has_said(tmp_path):
    def trained(start, lines):
        log = RunLog(tmp_path, start_step=start, watch=Watch(MICU(**SMALL), 100))
        said = []
        for step in range(start + 10, start + 10 * lines + 1, 10):
            log.add(step, {"loss": 1.0, "jigsaw": 0.001})
            log.flush(step)
            said += log.noticed()
        log.close()
        return said

    assert len(trained(0, 4)) == 1
    assert trained(40, 4) == []


def test_terms_that_the_shapes_leave_nothing_are_named_with_the_reason():
    vectors = {"a": (5,), "b": (6,)}
    method = MICU(**SMALL).for_data(vectors, 4)
    assert method.inert(vectors, 4) == ["fine (sequences of one time step, nothing to tell apart)"]
    assert dataclasses.replace(method, weight_fine=0.0).inert(vectors, 4) == []
    sequences = {"a": (3, 5), "b": (4, 6)}
    alone = MICU(dim=8, pieces=1, permutations=1).for_data(sequences, 4)
    assert [line.split()[0] for line in alone.inert(sequences, 4)] == ["jigsaw"]
    assert MICU(**SMALL).for_data(sequences, 4).inert(sequences, 4) == []


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({}, []),
        ({"a": [1, 0, 1, 1], "b": [0, 1, 1, 1]}, ["no training example has two modalities"]),
        ({"b": [1, 1, 0, 0]}, ["no test example has b: directions to there are left out"]),
        (
            {"a": [0, 0, 1, 1]},
            [
                "no training example has two modalities",
                "no training example has a: directions from there are left out",
            ],
        ),
    ],
)
def test_what_modalities_lack_is_said_in_a_line_each(present, expected):
    features = {m: np.ones((4, 3, 2), np.float32) for m in ("a", "b")}
    there = {m: np.array(present.get(m, [1] * 4), bool) for m in features}
    data = FeatureSet.from_arrays(
        "d", features, np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0], bool), present=there
    )
    found = remarks(MICU(**SMALL).for_data({"a": (3, 2), "b": (3, 2)}, 2), data)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
    if not present:
        assert remarks(CCA(), data) == []


def test_a_run_whose_plans_do_not_converge_says_so_once():
    line = {"transport": 0.4, "contrast": 2.0, "plans_unconverged": 0.3}
    said = looked(Watch(MOVER(), 100), *[line] * 6)
    assert list(said) == [30] and "30% of the transport plans are not converged" in said[30][0]
    rare = line | {"plans_unconverged": 0.001}
    assert looked(Watch(MOVER(), 100), *[rare] * 6) == {}
