"""The run's log: means of what was pending, resumed files, and values that are not finite."""

import json

import jax
import pytest

from unirep_jax.train.logs import NonFiniteError, RunLog


def open_log(folder, start=0):
    return RunLog(folder, start_step=start)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_is_the_mean_since_the_line_before(tmp_path):
    log = open_log(tmp_path)
    for step in (1, 2, 3, 4):
        log.add(step, {"loss": float(step)})
        if step % 2 == 0:
            log.flush(step)
    log.close()
    assert lines(tmp_path) == [{"step": 2, "loss": 1.5}, {"step": 4, "loss": 3.5}]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint_and_half_lines(tmp_path):
    rows = "".join(json.dumps({"step": s, "loss": 0.0}) + "\n" for s in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(rows + '{"step": 4, "lo')
    open_log(tmp_path, start=2).close()
    assert [row["step"] for row in lines(tmp_path)] == [1, 2]


def test_every_start_says_from_which_step_on_and_on_what(tmp_path):
    for start in (0, 2):
        open_log(tmp_path, start).close()
    rows = [json.loads(line) for line in (tmp_path / "environment.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2]
    assert rows[0]["jax"] == jax.__version__ and rows[0]["devices"] == "8 × cpu"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_broken_step_and_its_term_are_named(tmp_path, value):
    log = open_log(tmp_path)
    log.add(1, {"loss": 1.0, "coarse": 1.0})
    log.add(2, {"loss": value, "coarse": value, "gradient_norm": value})
    log.add(3, {"loss": value, "coarse": value, "gradient_norm": value})
    with pytest.raises(NonFiniteError, match="step 2: coarse is not finite"):
        log.flush(3)
    log.close()
